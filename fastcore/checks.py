"""Checks of single arguments: each returns the value or says what it got and what it takes."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any


def choice(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """One of the allowed values. Raises ValueError."""
    allowed = tuple(allowed)
    for option in allowed:
        if value is option or (isinstance(option, str) and isinstance(value, str) and value == option):
            return option
    raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def whole(name: str, value: Any, least: int) -> int:
    """An integer of at least ``least`` that fits 64 bits. Raises TypeError or ValueError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not least <= number < 2**63:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return number


def number(name: str, value: Any, interval: str) -> float:
    """A finite number in an interval written like "(0, 1]" or "[0, inf)". Raises TypeError or ValueError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number in {interval}, got {value!r}")
    low, high = (float(end) for end in interval[1:-1].split(","))
    given = float(value)
    above = given >= low if interval[0] == "[" else given > low
    below = given <= high if interval[-1] == "]" else given < high
    if not (above and below and math.isfinite(given)):
        raise ValueError(f"{name} must be in {interval}, got {value!r}")
    return given
