"""The cases that are measured on a GPU: targets, counts, the loops beside them, the checks of picks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu import loops, loops_by_class
from benchmarks.gpu.case import IMAGENET, Size, Work
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.records import Record
from benchmarks.refcheck import FacilityLocation, GraphCut, Herding, KCenter, judge
from fastcore.numerics import assume_tensor_cores


def test_the_targets_are_those_at_full_size() -> None:
    full = {name: [size for size in case.sizes if size.target is not None] for name, case in CASES.items()}
    seconds = {name: [size.target for size in sizes] for name, sizes in full.items()}
    assert seconds == {
        "k_center": [2, 15], "graph_cut": [2], "herding": [8], "contextual_diversity": [4], "cal": [3],
        "glister": [15, 15], "facility_location_balanced": [0.8], "facility_location": [120], "log_det": [1],
        "gradmatch": [2], "craig": [1.5], "deepfool": [], "facility_location_float32": [],
    }  # fmt: skip
    assert CASES["deepfool"].speed_up == 30 and CASES["k_center"].speed_up == 5
    assert [size.k for size in full["k_center"]] == [12_812, 128_117]
    assert all(size.n in (IMAGENET, 1_281_000, 100_000) for sizes in full.values() for size in sizes)
    for case in CASES.values():
        assert [size.n for size in case.sizes] == sorted(size.n for size in case.sizes)


def test_counts_are_those_of_the_formulas() -> None:
    size = Size(IMAGENET, 12_812)
    assert CASES["k_center"].work(size, {"passes": 30}) == Work(
        30 * 4.0 * IMAGENET * 512, 2.0 * IMAGENET * 12_812 * 512
    )
    assert CASES["herding"].work(size, {}).bytes == pytest.approx(8.4e12, rel=0.01)
    balanced = Size(1_281_000, 128_100, classes=1000)
    gram = CASES["craig"].work(balanced, {})
    assert 2 * gram.operations == pytest.approx(2 * 1000 * 1281**2 * 1512)  # 5 TFLOP, of which half is made
    assert CASES["log_det"].work(Size(100_000, 2000), {"passes": 10}).ceiling == "float64"
    whole, columns = CASES["facility_location"].work, 3 * IMAGENET
    plain = whole(size, {"columns": columns})
    assert plain == Work(4.0 * IMAGENET * columns * 3, 2.0 * IMAGENET * columns * 512)
    rounded = whole(size, {"columns": columns, "tensor_core_columns": columns, "refined_pairs": 10**6})
    assert rounded == Work(plain.bytes, plain.operations, "tf32")
    assert whole(size, {"columns": columns, "tensor_core_columns": columns // 2}).ceiling == "float32"


def test_the_case_without_tensor_cores_uses_none() -> None:
    size = Size(400, 40)
    made = CASES["facility_location"].make(size, torch.device("cpu"))
    with assume_tensor_cores(True):
        through = CASES["facility_location"].select(made, size, memory=300_000)
        without = CASES["facility_location_float32"].select(made, size, memory=300_000)
    assert "tensor_core_columns" in through.info and "tensor_core_columns" not in without.info
    assert through.indices.tolist() == without.indices.tolist()


@pytest.mark.parametrize(
    ("loop", "objective"),
    [
        (loops.k_center, KCenter),
        (loops.herding, Herding),
        (loops.graph_cut, GraphCut),
        (loops.facility_location, FacilityLocation),
        (loops.facility_location_tiled, FacilityLocation),
    ],
)
def test_the_plain_loops_are_right(loop: Any, objective: Any) -> None:
    x = torch.rand(60, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    picks = loop(x)(20)
    assert len(set(picks)) == 20
    assert judge(objective(x), torch.tensor(picks).numpy(), steps=20).word == "right"


class Tampered:
    """A selection with the first two picks of two classes in each other's place."""

    def __init__(self, indices: np.ndarray, classes: int) -> None:
        self.indices = indices.copy()
        for c in {0, classes // 2}:  # classes take turns
            self.indices[[c, c + classes]] = self.indices[[c + classes, c]]


@pytest.mark.parametrize("name", [name for name in CASES if name != "deepfool"])
def test_wrong_picks_are_found(name: str) -> None:
    case, size = CASES[name], CASES[name].quick[0]
    size = dataclasses.replace(size, k=size.classes * 3 or 20)
    data = case.make(size, torch.device("cpu"))
    right = case.select(data, size, backend="reference")
    assert not Record("case", "fastcore", refcheck=case.check(data, size, right)).wrong
    said = case.check(data, size, Tampered(right.indices, size.classes or 1))
    assert Record("case", "fastcore", refcheck=said).wrong
    if size.classes:
        assert "differs from the reference" in said and "differs from float64 at 0" in said
    right.indices[-1] = right.indices[0]
    with pytest.raises(ValueError, match="different rows"):
        case.check(data, size, right)


@pytest.mark.parametrize("name", [name for name in CASES if name != "deepfool"])  # see the test of the script
def test_the_loops_make_our_picks(name: str) -> None:
    case, size = CASES[name], CASES[name].quick[-1]
    data = case.make(size, torch.device("cpu"))
    ours = case.select(data, size, backend="reference")
    for peer in case.contenders(quick=True):
        picks = case.prepared(peer, data, size)(case.units(size))
        assert len(picks) == size.k
        said = case.agrees(data, ours, picks)
        assert "ours" in said and "parts" not in said, (peer, said)
        picks[1], picks[2] = picks[2], picks[1]
        assert "parts from ours" in case.agrees(data, ours, picks)


def test_the_weights_of_the_loop_are_the_least_squares() -> None:
    rng = np.random.default_rng(3)
    for trial in range(10):
        rows = rng.normal(size=(20, 12)) + 0.3
        gram, target = rows @ rows.T + 1e-3 * np.eye(20), rows @ (rows.mean(0) + 0.3 * rng.normal(size=12))
        before = loops_by_class.non_negative(gram[:19, :19], target[:19], np.zeros(19))
        weights = loops_by_class.non_negative(gram, target, np.append(before, 0.0))
        slope = target - gram @ weights
        assert (weights >= 0).all() and 0 < (weights > 0).sum() < 20, trial
        assert np.abs(slope[weights > 0]).max() < 1e-9 and slope.max() < 1e-6


def test_a_loop_that_judges_takes_the_lowest_of_tied_rows() -> None:
    values = torch.tensor([0.1, 1.0, 1.0 + 1e-15, 1.0 - 1e-9], dtype=torch.float64)
    assert loops.best(values) == 1 and loops.best(values.clamp(max=1)) == 1
    assert loops.best(values + 0.5 * (values == 0.1)) == 1
    assert loops.best(torch.tensor([-torch.inf, -2.0, -1.0, -1.0 - 1e-13], dtype=torch.float64)) == 2
    assert loops.best(torch.tensor([1.0, 1.0 + 2**-23])) == 1


def test_the_first_difference() -> None:
    assert loops.first_difference([3, 1, 2], [3, 1]) is None
    assert loops.first_difference([3, 1, 2], [3, 2, 1]) == 1
