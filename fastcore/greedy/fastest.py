"""The fastest of several ways to the same result on a device: found by measurement, once in a process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

import torch

PIECES = 2
"""Pieces of work that each way does before they are compared, by the last of them: the first may load code."""

T = TypeVar("T")

_known: dict[Hashable, str] = {}
_measured: list[dict[str, float]] = []
_asked: ContextVar[str | None] = ContextVar("fastcore_way", default=None)


@contextlib.contextmanager
def use_way(name: str) -> Iterator[None]:
    """Takes a way wherever there is one of that name, without a measurement: for tests and benchmarks."""
    token = _asked.set(name)
    try:
        yield
    finally:
        _asked.reset(token)


def asked() -> str | None:
    """The way that `use_way` asks for here."""
    return _asked.get()


def news() -> str:
    """What was measured since the last call, in words: microseconds an item by each way. For benchmarks."""
    made = _measured.copy()
    _measured.clear()
    return "; ".join(", ".join(f"{way} {1e6 * each:.3g} us" for way, each in race.items()) for race in made)


class Race:
    """Chooses between `ways` for piece after piece of the same kind of work, which `kind` tells from others.

    The results of the pieces that are measured count like all others.
    """

    def __init__(self, kind: Hashable, ways: Iterable[str], device: torch.device) -> None:
        self._seconds: dict[str, list[float]] = {way: [] for way in ways}
        self._key, self._device = (kind, device, *self._seconds), device

    def decided(self) -> str | None:
        """The way that is asked for, or the only one, or the fastest once it is known."""
        if (wanted := _asked.get()) in self._seconds:
            return wanted
        return next(iter(self._seconds)) if len(self._seconds) == 1 else _known.get(self._key)

    def way(self) -> str:
        """The way of the next piece."""
        if (found := self.decided()) is not None:
            return found
        for way, seconds in self._seconds.items():
            if len(seconds) < PIECES:
                return way
        last = {way: seconds[-1] for way, seconds in self._seconds.items()}
        _measured.append(last)
        _known[self._key] = min(last, key=lambda way: last[way])
        return _known[self._key]

    def run(self, way: str, size: int, work: Callable[[], T]) -> T:
        """Does a piece of `size` items, and measures it where that is still of use."""
        if self.decided() is not None:
            return work()
        seconds, result = timed(self._device, work)
        self._seconds[way].append(seconds / size)
        return result


def timed(device: torch.device, work: Callable[[], T]) -> tuple[float, T]:
    """The seconds that a device takes for some work, which is waited for."""
    if device.type != "cuda":
        begin = time.perf_counter()
        result = work()
        return time.perf_counter() - begin, result
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = work()
        end.record()
        end.synchronize()
        return 1e-3 * start.elapsed_time(end), result
