"""Functions of the user's, by their names."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from typing import Any


def function_named(what: str, name: str) -> Callable[..., Any]:
    """The function that "package.module:function" names; ``what`` says of which setting it is the value.

    Raises ValueError or TypeError, in one line, where there is none. Errors inside the module go through.
    """
    module, _, path = name.partition(":")
    if not all(part.isidentifier() for part in f"{module}.{path}".split(".")):
        raise ValueError(f'{what} must be a name or "package.module:function", got {name!r}')
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{what} {name!r}: cannot import {module!r} ({error}); is it on PYTHONPATH?"
        ) from error
    try:
        found = operator.attrgetter(path)(found)
    except AttributeError as error:
        raise ValueError(f"{what} {name!r}: {module} has no {path!r}") from error
    if not callable(found):
        raise TypeError(f"{what} {name!r} must name a function, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]
