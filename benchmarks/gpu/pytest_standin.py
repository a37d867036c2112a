"""What the op table and the contract of the methods use of pytest, for a machine without it: `standins` names this
module `pytest` there, and `benchmarks.gpu.without_pytest` runs the tests.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


class Skipped(Exception):  # noqa: N818 (it is no error)
    """A test that does not apply."""


def skip(reason: str) -> None:
    """Ends a test that does not apply."""
    raise Skipped(reason)


@dataclass(frozen=True)
class Parameters:
    """A set of arguments of a test, its name, and its marks."""

    values: tuple[Any, ...]
    name: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Param:
    values: tuple[Any, ...]
    marks: tuple[str, ...]


class _Named:
    """A mark: a decorator of tests, called with arguments or not."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *given: Any, **options: Any) -> Any:
        if len(given) == 1 and callable(given[0]) and not options:
            given[0].marked = (*getattr(given[0], "marked", ()), self.name)
            return given[0]
        return self


class _Marks:
    def __getattr__(self, name: str) -> _Named:
        return _Named(name)

    def parametrize(
        self, names: str | Sequence[str], values: Sequence[Any], ids: Any = None
    ) -> Callable[[Any], Any]:
        """Keeps the sets of arguments with the test."""
        keys = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
        sets = []
        for i, value in enumerate(values):
            single = value.values if isinstance(value, _Param) else value if len(keys) > 1 else (value,)
            name = (
                ids(single[0])
                if callable(ids)
                else ids[i]
                if ids
                else "-".join(_name(part) for part in single)
            )
            sets.append(
                Parameters(tuple(single), str(name), value.marks if isinstance(value, _Param) else ())
            )

        def decorate(test: Any) -> Any:
            test.arguments = [*getattr(test, "arguments", []), (keys, sets)]
            return test

        return decorate


def _name(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float | None) else type(value).__name__


mark = _Marks()


def param(*values: Any, marks: Any = ()) -> _Param:
    """A set of arguments with marks."""
    return _Param(
        values, tuple(each.name for each in (marks if isinstance(marks, tuple | list) else [marks]))
    )


def hookimpl(**options: Any) -> Callable[[Any], Any]:
    """Plugins are not called here."""
    return lambda function: function


class MonkeyPatch:
    """Environment variables for the length of a block."""

    def __init__(self) -> None:
        self._before: list[tuple[str, str | None]] = []

    @classmethod
    @contextlib.contextmanager
    def context(cls) -> Iterator[MonkeyPatch]:
        """Undoes all changes at the end."""
        patch = cls()
        try:
            yield patch
        finally:
            for name, value in reversed(patch._before):
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def setenv(self, name: str, value: str) -> None:
        """Sets a variable."""
        self._before.append((name, os.environ.get(name)))
        os.environ[name] = value
