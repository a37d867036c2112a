"""Craig and graph cut on last-layer gradients, beside what materialises them; and peak memory.

    python -m benchmarks.gradients                      # times on the gradients of benchmarks/networks.py
    python -m benchmarks.gradients --memory craig       # bytes added by one run at C = 100, D = 2048

The existing practice is written here from its description: gradients as one float32 array of n x C (D + 1),
similarities of all pairs by products of it, and a lazy greedy with a heap.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Row, interleaved
from benchmarks.memory import watch

OURS = "fastcore"
ENGINE = "materialised, fastcore on features"
PRACTICE = "materialised, Python lazy greedy"
PICKS = 500
WIDE = (5000, 100, 2048)  # rows, classes, width of the memory rows: 4.1 GB materialised
FASTER = {PRACTICE: 20.0, ENGINE: 5.0}
SMALLER = 30.0

Run = Callable[[], Any]


@dataclass(frozen=True)
class Gradients:
    """The factors of n gradients: delta (n, C) and h (n, D), float32."""

    delta: np.ndarray
    h: np.ndarray

    def materialise(self) -> np.ndarray:
        """(n, C (D + 1)) float32."""
        outer = self.delta[:, :, None] * self.h[:, None, :]
        return np.concatenate([self.delta, outer.reshape(len(self.h), -1)], 1)


def real() -> Gradients:
    """Those of a ResNet-18 on Fashion-MNIST: n = 5 000, C = 10, D = 512."""
    from benchmarks.networks import load_signals

    signals = load_signals()
    return Gradients(np.array(signals["delta"]), np.array(signals["h"]))


def synthetic(n: int, classes: int, width: int) -> Gradients:
    """softmax minus one-hot, and ReLU features with class means."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    logits = rng.standard_normal((n, classes), dtype=np.float32) * 2
    logits[np.arange(n), labels] += 4
    delta = np.exp(logits)
    delta /= delta.sum(1, keepdims=True)
    delta[np.arange(n), labels] -= 1
    means = rng.standard_normal((classes, width), dtype=np.float32)
    h = rng.standard_normal((n, width), dtype=np.float32)
    h += means[labels]
    return Gradients(delta, np.maximum(h, 0, out=h))


# ---- the existing practice ------------------------------------------------------------------------------


def heap_greedy(
    first: np.ndarray, gain: Callable[[int], float], add: Callable[[int], None], k: int
) -> list[int]:
    """Lazy greedy: the best gain known is taken afresh until it stays the best."""
    heap = [(-float(value), j) for j, value in enumerate(first)]
    heapq.heapify(heap)
    picks = []
    while len(picks) < k:
        _, j = heapq.heappop(heap)
        value = gain(j)
        if heap and value < -heap[0][0]:
            heapq.heappush(heap, (-value, j))
            continue
        picks.append(j)
        add(j)
    return picks


def practice_craig(data: Gradients, k: int) -> list[int]:
    """Facility location on the largest distance minus the distances."""
    g = data.materialise()
    norms = (g * g).sum(1)
    s = norms[:, None] + norms - 2 * (g @ g.T)
    np.sqrt(np.maximum(s, 0, out=s), out=s)
    np.subtract(s.max(), s, out=s)
    covered = np.zeros(len(s), np.float32)

    def add(j: int) -> None:
        np.maximum(covered, s[j], out=covered)

    return heap_greedy(s.sum(1), lambda j: float(np.maximum(s[j] - covered, 0).sum()), add, k)


def practice_graph_cut(data: Gradients, k: int) -> list[int]:
    """Graph cut, lambda = 1, on (1 + cos) / 2: a gain is a sum over the picks."""
    g = data.materialise()
    g /= np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-30)
    s = g @ g.T
    s *= 0.5
    s += 0.5
    totals, picks = s.sum(1, dtype=np.float64), []

    def gain(j: int) -> float:
        return float(totals[j] - 2 * s[j, picks].sum(dtype=np.float64) - s[j, j])

    return heap_greedy(totals - s.diagonal(), gain, picks.append, k)


# ---- fastcore -------------------------------------------------------------------------------------------

METRIC = {"craig": "euclidean", "graph_cut": "cosine", "facility_location": "cosine"}
METHOD = {"craig": "facility_location", "graph_cut": "graph_cut"}  # the same picks on features


def ours(method: str, data: Gradients, k: int, memory: int | None = None) -> Any:
    """From the factors."""
    import fastcore

    rows = fastcore.LastLayerGradients(torch.from_numpy(data.delta), torch.from_numpy(data.h))
    return fastcore.select(method, rows, k, metric=METRIC[method], memory=memory, progress=False)


def engine(method: str, data: Gradients, k: int) -> Any:
    """From the materialised gradients, as features."""
    import fastcore

    return fastcore.select(METHOD[method], data.materialise(), k, metric=METRIC[method], progress=False)


def contenders(method: str, data: Gradients, k: int) -> dict[str, Run]:
    """Everybody who takes part."""
    practice = {"craig": practice_craig, "graph_cut": practice_graph_cut}[method]
    return {
        OURS: functools.partial(ours, method, data, k),
        ENGINE: functools.partial(engine, method, data, k),
        PRACTICE: functools.partial(practice, data, k),
    }


def time_rows(method: str, data: Gradients, k: int = PICKS, repeats: int = 3) -> list[Row]:
    """Times, how many picks agree with ours, and the targets."""
    case = f"{method}_gradients"
    runs = contenders(method, data, k)
    ours(method, Gradients(data.delta[:300], data.h[:300]), 8)  # imports and builds are not measured
    timings = interleaved(runs, repeats)
    mine = timings[OURS]
    picked = {
        OURS: mine.result.indices,
        ENGINE: timings[ENGINE].result.indices,
        PRACTICE: timings[PRACTICE].result,
    }
    size = {"rows": len(data.h), "width": data.h.shape[1], "k": k}
    rows = []
    for name, timing in timings.items():
        low, middle, high = timing.quartiles()
        same = len(np.intersect1d(picked[name], picked[OURS]))
        found = "" if name == OURS else f"{same} of {k} picks are ours"
        ratio = middle / mine.median
        rows.append(Row(case, name, "time", "s", middle, low, high, repeats, ratio, found, **size))
    for name, times in FASTER.items():
        value = timings[name].median / mine.median
        text = f"at least {times:g}x faster than: {name}"
        rows.append(
            Row(case, OURS, "target", "x", value, target=text, met="met" if value >= times else "not met")
        )
    return rows


def memory_added(method: str, k: int) -> tuple[int, int]:
    """Bytes that one matrix-free run adds to the process, and bytes of its factors, at C = 100, D = 2048.

    For a process of its own: what earlier work left to the allocator is not counted.
    """
    ours(method, synthetic(300, 10, 64), 8, memory=1)
    data = synthetic(*WIDE)
    added = watch(functools.partial(ours, method, data, k, memory=1)).added
    return added, data.delta.nbytes + data.h.nbytes


def memory_row(method: str, added: int, inputs: int) -> Row:
    """The memory target: peak with inputs against the materialised gradients."""
    n, classes, width = WIDE
    value = 4 * n * classes * (width + 1) / (added + inputs)
    text = f"at least {SMALLER:g}x less than materialised, with inputs (C = 100, D = 2 048)"
    return Row(
        f"{method}_gradients",
        OURS,
        "target",
        "x",
        value,
        target=text,
        met="met" if value >= SMALLER else "not met",
    )


def main() -> int:
    """Prints rows; with --memory two numbers, the bytes added and the bytes of the factors."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--memory", choices=METRIC)
    parser.add_argument("--picks", type=int, default=PICKS)
    options = parser.parse_args()
    if options.memory:
        print(*memory_added(options.memory, options.picks))
        return 0
    from benchmarks.harness import print_rows, print_targets

    data = real()
    for method in ("craig", "graph_cut"):
        rows = time_rows(method, data, options.picks)
        print_rows(f"{method} on gradients, n = {len(data.h)}, k = {options.picks}", rows)
        print_targets(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
