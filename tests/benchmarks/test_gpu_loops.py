"""The loops that fastcore is measured beside on a GPU, and the checks of its picks there."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu import loops, loops_by_class
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.records import Record
from benchmarks.refcheck import FacilityLocation, GraphCut, Herding, KCenter, judge


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
    """A selection with two picks of the first class in each other's place."""

    def __init__(self, indices: np.ndarray, classes: int) -> None:
        self.indices = indices.copy()
        self.indices[[0, classes]] = self.indices[[classes, 0]]  # classes take turns


@pytest.mark.parametrize("name", [name for name in CASES if name != "deepfool"])
def test_wrong_picks_are_found(name: str) -> None:
    case, size = CASES[name], CASES[name].quick[0]
    size = dataclasses.replace(size, k=size.classes * 3 or 20)
    data = case.make(size, torch.device("cpu"))
    right = case.select(data, size, backend="reference")
    assert not Record("case", "fastcore", refcheck=case.check(data, size, right)).wrong
    assert Record(
        "case", "fastcore", refcheck=case.check(data, size, Tampered(right.indices, size.classes or 1))
    ).wrong
    right.indices[-1] = right.indices[0]
    with pytest.raises(ValueError, match="different rows"):
        case.check(data, size, right)


@pytest.mark.parametrize("name", CASES)
def test_the_loops_make_our_picks(name: str) -> None:
    case, size = CASES[name], CASES[name].quick[-1]
    data = case.make(size, torch.device("cpu"))
    ours = case.select(data, size, **({} if name == "deepfool" else {"backend": "reference"}))
    for peer in case.contenders(quick=True):
        picks = case.prepared(peer, data, size)(case.units(size))
        assert len(picks) == size.k
        said = case.agrees(data, ours, picks)
        assert "ours" in said and "parts" not in said, (peer, said)
        if name != "deepfool":
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


def test_the_first_difference() -> None:
    assert loops.first_difference([3, 1, 2], [3, 1]) is None
    assert loops.first_difference([3, 1, 2], [3, 2, 1]) == 1
