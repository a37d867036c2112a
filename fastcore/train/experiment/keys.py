"""Names made of content, and seeds made of a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fastcore.train.reading import plain

_FORMAT = 1
"""Part of every key: another number parts the results of a fastcore that does the same thing differently."""

DIGITS = 24


def digest(content: Mapping[str, Any]) -> str:
    """24 hexadecimal digits of the SHA-256 of some settings, as canonical JSON.

    The order of the entries does not matter, nor whether a whole number is written 1 or 1.0. Raises TypeError
    for what JSON cannot hold, and ValueError for infinity and NaN.
    """
    text = json.dumps(
        _canonical(plain({"format": _FORMAT, **content})),
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def derived_seed(seed: int, purpose: str) -> int:
    """A seed in 0 .. 2^32 - 1 for one purpose of a run, as good as independent of those for other purposes.

    Adding small numbers to a seed would not do: the order of seed 0 would be the initialisation of seed 1.
    """
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:4], "little")


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(each) for name, each in value.items()}
    return [_canonical(each) for each in value] if isinstance(value, list) else value
