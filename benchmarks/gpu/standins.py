"""Stand-ins for packages that a bare machine may lack, as far as this script and the tests it runs use them.

`tqdm` (a progress bar, which is off here), `rich` (tables that are not printed here), `hypothesis` (its tests
are skipped) and `pytest` (`without_pytest` runs the tests). What is installed is used.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any


class _Anything:
    """Takes every call and every name."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _Anything()


def _module(name: str, **names: Any) -> None:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)  # torch asks for the spec of what is loaded
    module.__dict__.update(names)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _given(*strategies: Any, **named: Any) -> Callable[[Any], Any]:
    """Makes a test that is skipped, without the arguments that hypothesis would give it."""

    def decorate(test: Any) -> Any:
        def skipped(**arguments: Any) -> None:
            import pytest

            pytest.skip("hypothesis is not installed")

        kept = [p for p in inspect.signature(test).parameters.values() if p.name not in named]
        kept = kept[: len(kept) - len(strategies)]
        skipped.__name__, skipped.__doc__ = test.__name__, test.__doc__
        skipped.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
        for kept_by in ("pytestmark", "arguments", "marked"):  # of pytest, and of its stand-in
            setattr(skipped, kept_by, getattr(test, kept_by, []))
        return skipped

    return decorate


def _tqdm() -> None:
    _module("tqdm", tqdm=_Anything)


def _rich() -> None:
    _module("rich")
    _module("rich.console", Console=_Anything)
    _module("rich.table", Table=_Anything)
    _module("rich.text", Text=_Anything)


def _hypothesis() -> None:
    class Settings(_Anything):
        """Profiles and per-test settings, without effect."""

        register_profile = load_profile = staticmethod(lambda *args, **options: None)

        def __call__(self, test: Any) -> Any:
            return test

    _module("hypothesis", given=_given, settings=Settings, strategies=_Anything(), assume=lambda value: True)
    sys.modules["hypothesis.strategies"] = sys.modules["hypothesis"].strategies


def _pytest() -> None:
    from benchmarks.gpu import pytest_standin

    sys.modules["pytest"] = pytest_standin


_MAKERS = {"tqdm": _tqdm, "rich": _rich, "hypothesis": _hypothesis, "pytest": _pytest}
USED = ("numpy", "ninja", "pybind11", "scipy", *_MAKERS)
"""Packages beside torch that fastcore, its tests or this script import."""

MISSING = [name for name in USED if importlib.util.find_spec(name) is None]
"""Those of USED that are not installed."""


def install() -> None:
    """Puts stand-ins in the place of what is missing, in this process."""
    for name, make in _MAKERS.items():
        if name in MISSING and sys.modules.get(name) is None:
            make()
