"""Cases on the outputs of a network: matching pursuit, gradients, DeepFool, and the memory of scores.

Each is a function that measures and gives the rows of its record; `compare.py` runs them beside the other cases.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import deepfool, gradients, omp_peers, scores
from benchmarks.harness import Row, Timing, interleaved, version_of
from benchmarks.memory import ROOT

OURS = "fastcore"
REBUILT, ELIMINATED = "Gram rebuilt, least squares", "Gram rebuilt, elimination"
LEARN, SIGNED = "scikit-learn orthogonal_mp", "materialised, non-negative"
FASTER = {REBUILT: 20.0, LEARN: 5.0}

Measure = Callable[[int, bool], list[Row]]


@dataclass(frozen=True)
class NetworkCase:
    """A title, and what measures: called with the number of repeats and whether to be quick."""

    title: str
    measure: Measure
    repeats: int = 3


def gradmatch(repeats: int, quick: bool) -> list[Row]:
    """Ours beside matching pursuit on the materialised gradients: times, and what is left of the mean gradient."""
    held = gradients.synthetic(300, 5, 20) if quick else gradients.real()
    k = 30 if quick else 500
    factors = torch.from_numpy(held.delta), torch.from_numpy(held.h)
    data = omp_peers.Gradients(omp_peers.LastLayerGradients(*factors), k)
    run_ours = functools.partial(ours, data)
    run_ours()  # builds and loads; the others have nothing to build
    runs: dict[str, Callable[[], Any]] = {
        OURS: run_ours,
        REBUILT: omp_peers.rebuilding(data),
        ELIMINATED: omp_peers.rebuilding(data, least_squares=False),
        LEARN: omp_peers.scikit_learn(data),
    }
    timings = interleaved(runs, repeats)
    timings |= interleaved({SIGNED: omp_peers.non_negative(data)}, 1)
    base = timings[OURS].median
    left = {name: omp_peers.residual(data, timing.result) for name, timing in timings.items()}
    size: dict[str, Any] = {"rows": len(held.h), "width": held.h.shape[1], "k": k}
    rows = [time_row("gradmatch", name, timing, base, left[name], size) for name, timing in timings.items()]
    rows += [Row("gradmatch", name, "|b - A w| / |b|", "", value, **size) for name, value in left.items()]
    if quick:
        return rows
    for name, times in FASTER.items():
        value = timings[name].median / base
        rows.append(
            target("gradmatch", f"at least {times:g}x faster than: {name}", "x", value, value >= times)
        )
    excess = left[OURS] / left[SIGNED]
    text = "what is left of the mean gradient is no more than with the materialised, non-negative pursuit"
    rows.append(target("gradmatch", text, "x", excess, excess <= 1 + 1e-6))
    return rows


def ours(data: omp_peers.Gradients) -> tuple[list[int], np.ndarray]:
    """Picks and weights that are not normalised, from the factors."""
    import fastcore

    chosen = fastcore.select("gradmatch", data.gradients, data.k, lam=omp_peers.LAM, progress=False)
    assert chosen.weights is not None
    return chosen.indices.tolist(), chosen.weights * chosen.info["scale"]


def on_gradients(method: str, repeats: int, quick: bool) -> list[Row]:
    """Times on gradients, and the peak of a matrix-free run in a process of its own."""
    data = gradients.synthetic(300, 5, 20) if quick else gradients.real()
    rows = gradients.time_rows(method, data, 30 if quick else gradients.PICKS, repeats)
    if quick:
        return [row for row in rows if not row.target]
    command = [sys.executable, "-m", "benchmarks.gradients", "--memory", method]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    added, inputs = (int(number) for number in answer.split()[-2:])
    memory = Row(f"{method}_gradients", OURS, "memory added, C = 100, D = 2 048", "MB", added / 1e6)
    return [*rows, memory, gradients.memory_row(method, added, inputs)]


def scores_memory(repeats: int, quick: bool) -> list[Row]:
    """Memory of the two methods that compare all rows with each other by what a network says of them."""
    rows = []
    for found in scores.rows(quick):
        size: dict[str, Any] = {"rows": found.n, "width": found.classes, "k": int(scores.SHARE * found.n)}
        case = f"{found.method}, C = {found.classes}"
        rows += [
            Row(case, f"{found.method}, C = {found.classes}", "time", "s", found.seconds, **size),
            Row(
                case,
                f"{found.method}, C = {found.classes}",
                "memory added",
                "MB",
                found.memory.added / 1e6,
                **size,
            ),
        ]
        if not quick:
            text = f"at most {scores.TARGET / 1e6:,.0f} MB beyond the inputs"
            rows.append(target(case, text, "MB", found.memory.added / 1e6, found.met))
    return rows


def time_row(case: str, name: str, timing: Timing, base: float, left: float, size: dict[str, Any]) -> Row:
    """Seconds of one contender."""
    low, middle, high = timing.quartiles()
    version = version_of("scikit-learn") if name == LEARN else ""
    found = f"leaves {left:.4f}"
    count = len(timing.seconds)
    return Row(case, name, "time", "s", middle, low, high, count, middle / base, found, version, **size)


def target(case: str, text: str, unit: str, value: float, met: bool) -> Row:
    """A target beside what was measured."""
    return Row(case, OURS, "target", unit, value, target=text, met="met" if met else "not met")


NETWORK_CASES = {
    "gradmatch": NetworkCase("n = 5 000, C = 10, D = 512, k = 500, gradients of a ResNet-18", gradmatch),
    "craig_gradients": NetworkCase("the same gradients", functools.partial(on_gradients, "craig")),
    "graph_cut_gradients": NetworkCase("the same gradients", functools.partial(on_gradients, "graph_cut")),
    "deepfool": NetworkCase("ResNet-18, 28 x 28, 10 candidates", deepfool.measure),
    "scores": NetworkCase("memory at n = 50 000, each in a process of its own", scores_memory, 1),
}
