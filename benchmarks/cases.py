"""What is measured: the input of each case, who takes part, and the targets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks import peers
from benchmarks.features import load
from benchmarks.harness import Row, Timing
from benchmarks.memory import Memory
from benchmarks.peers import Data, Run
from benchmarks.refcheck import FacilityLocation, GraphCut, Herding, KCenter, Objective

OURS = "fastcore"
MEGABYTE = 1e6


@dataclass(frozen=True)
class Contender:
    """A method that picks, or a yardstick: work that is timed beside it and picks nothing."""

    name: str
    prepare: Callable[[Data], Run]
    package: str = ""
    yardstick: bool = False


@dataclass
class Outcome:
    """All that was measured in one case."""

    data: Data
    timings: dict[str, Timing]
    memory: Memory | None
    peers: list[str]

    def seconds(self, name: str) -> float:
        return self.timings[name].median

    @property
    def info(self) -> dict[str, Any]:
        """What fastcore says about its own run."""
        return dict(self.timings[OURS].result.info)


@dataclass(frozen=True)
class Measured:
    """A target beside what was measured; `value` is None where it could not be."""

    text: str
    unit: str
    value: float | None
    met: bool


Target = Callable[[Outcome], Measured]


@dataclass(frozen=True)
class Case:
    """One input and everybody who works on it."""

    name: str
    title: str
    rows: int
    k: int
    contenders: list[Contender]
    objective: Callable[[Data], Objective]
    targets: list[Target]
    repeats: int = 3
    judged_steps: int = 16
    counts: list[str] = field(default_factory=list)  # keys of `info` that are reported per row

    def data(self, quick: bool = False) -> Data:
        """The input at full size, or scikit-learn's digits for a quick check of the harness."""
        if quick:
            from sklearn.datasets import load_digits

            return Data(torch.from_numpy(load_digits().data[:600].astype(np.float32)), k=60)
        features, _ = load(self.rows)
        return Data(torch.from_numpy(np.array(features)), self.k)

    def warm_up_data(self) -> Data:
        """A small input of the same width: imports, builds and compiles without touching a large array."""
        generator = torch.Generator().manual_seed(0)
        return Data(torch.rand(300, 1280, generator=generator), k=8)


# ---- fastcore -----------------------------------------------------------------------------------


def ours(method: str, **options: Any) -> Contender:
    """The library under test, on features."""

    def prepare(data: Data) -> Run:
        import fastcore

        return functools.partial(fastcore.select, method, data.features, data.k, progress=False, **options)

    return Contender(OURS, prepare, "fastcore-coreset")


def ours_precomputed(method: str, **options: Any) -> Contender:
    """The library under test, on a similarity matrix."""

    def prepare(data: Data) -> Run:
        import fastcore

        options_ = {"metric": "precomputed", "progress": False, **options}
        return functools.partial(fastcore.select, method, data.similarity, data.k, **options_)

    return Contender(OURS, prepare, "fastcore-coreset")


# ---- yardsticks ---------------------------------------------------------------------------------


def full_product(data: Data) -> Run:
    """One product x @ x.T, as torch does it."""

    def run() -> None:
        data.features @ data.features.T

    return run


def tiled_product(data: Data) -> Run:
    """The same product a tile of rows at a time, into one buffer: nothing of it is kept."""
    features, rows = data.features, 2048

    def run() -> None:
        buffer = torch.empty(rows, len(features))
        for tile in features.split(rows):
            torch.mm(tile, features.T, out=buffer[: len(tile)])

    return run


# ---- targets ------------------------------------------------------------------------------------


def faster_than_peers(times: float) -> Target:
    """How much faster than the fastest peer of the same run."""

    def measure(outcome: Outcome) -> Measured:
        seconds = [outcome.seconds(name) for name in outcome.peers]
        value = min(seconds) / outcome.seconds(OURS) if seconds else None
        met = value is not None and value >= times
        return Measured(f"at least {times:g}x faster than the best peer", "x", value, met)

    return measure


def within_product(times: float, yardstick: str) -> Target:
    """Time as a multiple of one full n x n product of the same run."""

    def measure(outcome: Outcome) -> Measured:
        value = outcome.seconds(OURS) / outcome.seconds(yardstick)
        return Measured(f"at most {times:g}x the time of one full n x n product", "x", value, value <= times)

    return measure


def adds_little_memory(outcome: Outcome) -> Measured:
    """Peak memory beyond the input: a share of it, and a constant."""
    limit = (0.2 * outcome.data.features.nbytes + 64 * MEGABYTE) / MEGABYTE
    value = outcome.memory.added / MEGABYTE if outcome.memory else None
    text = f"adds at most 20 % of the features' bytes + 64 MB = {limit:.0f} MB"
    return Measured(text, "MB", value, value is not None and value <= limit)


def stays_within(megabytes: float) -> Target:
    """Peak memory of the whole process, input and libraries included."""

    def measure(outcome: Outcome) -> Measured:
        value = outcome.memory.peak / MEGABYTE if outcome.memory else None
        text = f"process stays within {megabytes:g} MB, input and torch included"
        return Measured(text, "MB", value, value is not None and value <= megabytes)

    return measure


def target_rows(case: Case, outcome: Outcome) -> list[Row]:
    """The targets of a case as rows of the record."""
    rows = []
    for target in case.targets:
        found = target(outcome)
        if found.value is not None:
            met = "met" if found.met else "not met"
            row = Row(case.name, OURS, "target", found.unit, found.value, target=found.text, met=met)
            rows.append(row)
    return rows


# ---- cases --------------------------------------------------------------------------------------

_APRICOT = [
    Contender("apricot, lazy", peers.apricot, "apricot-select"),
    Contender("apricot, lazy, compiled before", peers.apricot_compiled, "apricot-select"),
]
_SUBMODLIB_GRAPH_CUT = [
    Contender("submodlib, LazyGreedy", peers.submodlib_graph_cut, "submodlib-py"),
    Contender(
        "submodlib, LazyGreedy, cosine",
        functools.partial(peers.submodlib_graph_cut, shifted=False),
        "submodlib-py",
    ),
]

CASES = {
    case.name: case
    for case in [
        Case(
            name="k_center",
            title="k-center from features, euclidean, start at row 0",
            rows=20_000,
            k=2000,
            contenders=[
                ours("k_center", start=peers.START),
                Contender("torch loop", peers.torch_loop, "torch"),
                Contender("fpsample", peers.fpsample, "fpsample"),
                Contender("torch-fps", peers.torch_fps, "torch-fps"),
            ],
            objective=lambda data: KCenter(data.features),
            targets=[faster_than_peers(15), adds_little_memory],
            counts=["passes"],
        ),
        Case(
            name="facility_location_precomputed",
            title="facility location from a similarity matrix",
            rows=10_000,
            k=1000,
            contenders=[
                ours_precomputed("facility_location"),
                *_APRICOT,
                Contender("submodlib, LazyGreedy", peers.submodlib_facility_location, "submodlib-py"),
            ],
            objective=lambda data: FacilityLocation(similarity=data.similarity),
            targets=[faster_than_peers(15)],
            counts=["evaluations"],
        ),
        Case(
            name="facility_location",
            title="facility location from features, (1 + cos) / 2",
            rows=10_000,
            k=1000,
            contenders=[
                ours("facility_location"),
                Contender("x @ x.T", full_product, "torch", yardstick=True),
            ],
            objective=lambda data: FacilityLocation(features=data.features),
            targets=[within_product(2, "x @ x.T")],
            counts=["evaluations"],
        ),
        Case(
            name="facility_location_matrix_free",
            title="facility location from features, n x n never in memory",
            rows=50_000,
            k=500,
            contenders=[
                ours("facility_location", memory=1_000_000_000),
                Contender("x @ x.T by tiles", tiled_product, "torch", yardstick=True),
            ],
            objective=lambda data: FacilityLocation(features=data.features),
            targets=[within_product(6, "x @ x.T by tiles"), stays_within(2000)],
            repeats=1,
            judged_steps=2,
            counts=["evaluations"],
        ),
        Case(
            name="graph_cut",
            title="graph cut from features, lambda = 1 (peers: from a ready similarity)",
            rows=10_000,
            k=1000,
            contenders=[ours("graph_cut", lam=peers.LAM), *_SUBMODLIB_GRAPH_CUT],
            objective=lambda data: GraphCut(data.features, peers.LAM),
            targets=[faster_than_peers(60), adds_little_memory],
            counts=["passes"],
        ),
        Case(
            name="herding",
            title="herding from features",
            rows=20_000,
            k=2000,
            contenders=[ours("herding")],
            objective=lambda data: Herding(data.features),
            targets=[adds_little_memory],
        ),
    ]
}
