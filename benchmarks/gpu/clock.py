"""Timing on one device: CUDA events, the L2 cache flushed before every repeat, peak memory; and the ceilings."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

FLUSH_BYTES = 256 << 20  # more than any L2 cache


@dataclass
class Measured:
    """Seconds of the repeats, what the last one returned, and the bytes that torch allocated beside the input."""

    seconds: list[float]
    result: Any
    peak_bytes: int

    def percentiles(self) -> tuple[float, float, float]:
        """The 20th, the 50th and the 80th percentile."""
        low, middle, high = np.quantile(self.seconds, [0.2, 0.5, 0.8])
        return float(low), float(middle), float(high)


class Clock:
    """Times calls on a device. Without a GPU the processor's clock stands in, and nothing is flushed."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        size = FLUSH_BYTES if self.cuda else 0
        self._flushed = torch.empty(size, dtype=torch.uint8, device=device)

    def once(self, run: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds of one run, from an idle device to an idle device, and what it returned."""
        if not self.cuda:
            begin = time.perf_counter()
            result = run()
            return time.perf_counter() - begin, result
        self._flushed.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self.device)
        start.record()
        result = run()
        end.record()
        end.synchronize()
        return 1e-3 * start.elapsed_time(end), result

    def measure(self, run: Callable[[], Any], budget: float, most: int = 5) -> Measured:
        """Repeats a run, `most` times or as often as fits into `budget` seconds, at least once."""
        seconds: list[float] = []
        peak, result = 0, None
        while len(seconds) < most and sum(seconds) + max(seconds, default=0.0) <= budget:
            result = None  # the one before must not count
            if self.cuda:
                torch.cuda.synchronize(self.device)
                peak = -torch.cuda.memory_allocated(self.device)
                torch.cuda.reset_peak_memory_stats(self.device)
            taken, result = self.once(run)
            if self.cuda:
                peak += torch.cuda.max_memory_allocated(self.device)
            seconds.append(taken)
        return Measured(seconds, result, peak)

    def clean(self) -> None:
        """Gives cached memory back, so that the next case finds the card as the first one did."""
        if self.cuda:
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


PRODUCTS = {
    "float32": (torch.float32, "highest"),
    "tf32": (torch.float32, "high"),
    "bf16": (torch.bfloat16, "highest"),
    "float64": (torch.float64, "highest"),
}


CEILINGS = {"copy": "GB/s", **dict.fromkeys(PRODUCTS, "TFLOP/s")}
"""The ceilings, and the units of their rates."""


def ceilings(clock: Clock, quick: bool) -> dict[str, float]:
    """What the device can do at best, in the units of CEILINGS: a copy, read and written, and products.

    On a processor the same calls are made at a small size: numbers of that processor, and not of a card.
    """
    small = quick or not clock.cuda
    count, size = (4 << 20, 512) if small else (1 << 29, 8192)
    source = torch.ones(count, device=clock.device)
    target = torch.empty_like(source)
    seconds = _best(clock, functools.partial(target.copy_, source))
    found = {"copy": 2e-9 * source.nbytes / seconds}
    del source, target
    for name, (dtype, precision) in PRODUCTS.items():
        a, b = (torch.randn(size, size, device=clock.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        with _precision(precision):
            best = _best(clock, functools.partial(torch.mm, a, b, out=out))
        found[name] = 2e-12 * size**3 / best
    clock.clean()
    return found


def _best(clock: Clock, run: Callable[[], Any]) -> float:
    run()
    return min(clock.measure(run, budget=1.0, most=10).seconds)
