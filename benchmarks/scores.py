"""Peak memory and time of cal and contextual_diversity at 50 000 rows, each in a process of its own.

python -m benchmarks.scores [--quick]                    prints the table; the exit code is 0 if targets are met
python -m benchmarks.scores --method M --classes C       prints {"before": ..., "peak": ..., "seconds": ...}
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.memory import ROOT, Memory, watch

METHODS = ("cal", "contextual_diversity")
CLASSES = (10, 100)
ROWS, QUICK_ROWS, WIDTH = 50_000, 3_000, 512
SHARE = 0.1
TARGET = 1e9
"""Bytes beyond the inputs."""


@dataclass(frozen=True)
class Row:
    """One measurement: the memory that a selection added, and how long it took."""

    method: str
    classes: int
    n: int
    memory: Memory
    seconds: float

    @property
    def met(self) -> bool:
        return self.memory.added <= TARGET

    def __str__(self) -> str:
        return (
            f"{self.method:<22} C={self.classes:<4} n={self.n:<6} {self.memory.added / 1e6:7.0f} MB beyond the "
            f"inputs (at most {TARGET / 1e6:.0f})  {self.seconds:7.1f} s  {'met' if self.met else 'NOT MET'}"
        )


def signals(n: int, classes: int) -> Any:
    """Outputs of a network that is right about most rows: embeddings around class means, and their logits."""
    from fastcore import Signals

    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    means = rng.standard_normal((classes, WIDTH), dtype=np.float32)
    embeddings = means[labels] + 2 * rng.standard_normal((n, WIDTH), dtype=np.float32)
    logits = embeddings @ (means.T * np.float32(6 / WIDTH)) + rng.standard_normal((n, classes), np.float32)
    return Signals(embeddings=embeddings, logits=logits)


def run(method: str, data: Any, k: int) -> Any:
    """One ground set: the harder case for both, in memory and in time."""
    import fastcore

    return fastcore.select(method, data, k, progress=False)


def measure(method: str, classes: int, n: int) -> Row:
    """Starts a process that selects a tenth of n rows, and reads its answer."""
    command = [sys.executable, "-m", "benchmarks.scores", "--method", method, "--classes", str(classes)]
    answer = subprocess.run(
        [*command, "--rows", str(n)], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = json.loads(answer.splitlines()[-1])
    return Row(method, classes, n, Memory(found["before"], found["peak"]), found["seconds"])


def rows(quick: bool = False) -> list[Row]:
    """All measurements."""
    n = QUICK_ROWS if quick else ROWS
    return [measure(method, classes, n) for method in METHODS for classes in CLASSES]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--classes", type=int, default=CLASSES[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.method is None:
        found = rows(options.quick)
        print(*found, sep="\n")
        return 0 if all(row.met for row in found) else 1
    run(options.method, signals(200, options.classes), 20)  # loads the library
    data = signals(options.rows, options.classes)
    seconds = 0.0

    def timed() -> None:
        nonlocal seconds
        began = time.perf_counter()
        run(options.method, data, int(SHARE * options.rows))
        seconds = time.perf_counter() - began

    memory = watch(timed)
    print(json.dumps({"before": memory.before, "peak": memory.peak, "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
