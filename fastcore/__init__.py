"""Coresets of training data: which rows to keep, in which order, and with which weights.

Importing this package loads neither torch nor the native library; the first use of a name does.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcore import signals
    from fastcore.api import select
    from fastcore.gradients import LastLayerGradients
    from fastcore.registry import get_method, list_methods, method
    from fastcore.selection import Selection, load
    from fastcore.signals import Dynamics, DynamicsRecorder, Signals

__version__ = "0.1.0"
__all__ = [
    "Dynamics",
    "DynamicsRecorder",
    "LastLayerGradients",
    "Selection",
    "Signals",
    "get_method",
    "list_methods",
    "load",
    "method",
    "select",
    "signals",
]

_HOMES = {
    "select": "api",
    "Selection": "selection",
    "load": "selection",
    "get_method": "registry",
    "list_methods": "registry",
    "method": "registry",
    "LastLayerGradients": "gradients",
    "Dynamics": "signals",
    "DynamicsRecorder": "signals",
    "Signals": "signals",
}


def __getattr__(name: str) -> Any:
    if name == "signals":
        return importlib.import_module("fastcore.signals")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastcore' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastcore.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))


def _warn_about_namesake() -> None:
    """Warns when fast.ai's package of the same name was installed into the same folder."""
    here = os.path.dirname(os.path.abspath(__file__))
    if os.path.exists(os.path.join(here, "basics.py")):
        import warnings

        warnings.warn(
            f"{here} holds files of both fastcore-coreset and fast.ai's fastcore: they share an import name "
            "and cannot live in one environment. Uninstall both, then install the one you need.",
            RuntimeWarning,
            stacklevel=3,
        )


_warn_about_namesake()
