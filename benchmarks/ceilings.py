"""What this machine can do at best: the rates that the limits in NOTES.md are counted with.

python -m benchmarks.ceilings
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.harness import console, machine


def best(run: Callable[[], Any], repeats: int = 10) -> float:
    """Seconds of the fastest of several runs."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    """Print the rates."""
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()), style="dim")
    size = 4096
    for name, dtype in (("sgemm", torch.float32), ("dgemm", torch.float64)):
        square = torch.rand(size, size, dtype=dtype)
        seconds = best(functools.partial(torch.mm, square, square), 5)
        console.print(f"{name}: {2e-9 * size**3 / seconds:.0f} GFLOP/s")
    source = torch.rand(100_000_000)
    target = torch.empty_like(source)
    console.print(
        f"copy: {2e-9 * source.nbytes / best(lambda: target.copy_(source)):.1f} GB/s, read and written"
    )
    console.print(f"sum: {1e-9 * source.nbytes / best(source.sum):.1f} GB/s, read")
    features = torch.rand(20_000, 1280)
    seconds = best(lambda: features @ features[0])
    console.print(f"matrix-vector product, 20 000 x 1 280: {1e-9 * features.nbytes / seconds:.1f} GB/s, read")


if __name__ == "__main__":
    main()
