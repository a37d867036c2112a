"""Passes end where rows are all but tied; and an engine that is wrong says so instead of going on for ever."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fastcore import memory
from fastcore.budget import Partition
from fastcore.greedy import farthest_first as k_center
from fastcore.greedy import herding
from fastcore.greedy.coverage import FeatureCoverage
from fastcore.greedy.cuts import LinearCut
from fastcore.greedy.stored import StoredCoverage
from fastcore.rows import StoredRows
from fastcore.similarity import FeatureSimilarity
from fastcore.similarity import view as view_of
from tests import oracle
from tests.greedy.support import ENGINES
from tests.greedy.test_backends import blobs


@pytest.mark.parametrize("lam", [0.0, 0.25])
def test_gains_that_differ_by_a_little_more_than_ties_do(lam: float) -> None:
    """Neither tied nor clearly apart: a block of one row cannot tell which is next."""
    for seed in range(10):
        near = 2.0**-20 * (1 + np.random.default_rng(seed).integers(0, 6, 14) / 8)
        features = np.diag(np.sqrt(-np.log(near))).astype(np.float32)  # similarities are products of two
        view = view_of(torch.from_numpy(features), "rbf", 1.0)
        picks = ENGINES["graph_cut"](view, Partition.whole(14, 14), lam=lam, block=1)
        similarity = oracle.similarity(features, "rbf", gamma=1.0)
        expected, _ = oracle.greedy(oracle.GraphCut(similarity, lam=lam), 14, None)
        assert picks.rows[0].tolist() == expected, f"seed {seed}"


@pytest.mark.parametrize("block", [1, 2, 5])
@pytest.mark.parametrize("method", ["log_det", "facility_location"])
def test_rows_that_differ_by_a_little_more_than_ties_do(method: str, block: int) -> None:
    rng = np.random.default_rng(3)
    for seed in range(10):
        features = np.c_[np.eye(14), np.diag(rng.integers(0, 3, 14) * 2.0**-20)].astype(np.float32)
        similarity = features.astype(np.float64) @ features.T
        if method == "log_det":
            options, problem = {"ridge": 0.5}, oracle.LogDet(similarity, ridge=0.5)
        else:
            options, problem = {"memory": 1}, oracle.FacilityLocation(similarity)
        view = FeatureSimilarity(torch.from_numpy(features), "dot")
        picks = ENGINES[method](view, Partition.whole(14, 14), block=block, **options)
        expected, _ = oracle.greedy(problem, 14, None)
        assert picks.rows[0].tolist() == expected, f"seed {seed}"


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("block", [1, 4, 16])
def test_more_copies_than_a_block_holds(block: int, stored: bool) -> None:
    """Bounds of the copies that were not measured yet are a little above the gain of those that were."""
    distinct = torch.tensor([[3.0, 1], [0, 2], [1, 1]])
    features = distinct[torch.arange(60) % 3]
    partition = Partition.whole(60, 9)
    expected = ENGINES["facility_location"](FeatureSimilarity(features, "cosine"), partition)
    rows = StoredRows(features.half(), torch.device("cpu"), asked=True) if stored else features
    for sizes in ({}, {"block": 1}):  # where a block cannot grow, too
        with memory.sizes(**sizes):
            view = FeatureSimilarity(rows, "cosine")
            got = ENGINES["facility_location"](view, partition, memory=1, block=block)
        assert got.rows.tolist() == expected.rows.tolist()


def no_picks(picks: torch.Tensor) -> torch.Tensor:
    return torch.full_like(picks, -1)


def lost(coverage: type[FeatureCoverage], raised: float) -> Callable[..., Any]:
    """Picks of a block that always seem to lose against the rows outside, whose bounds do not fall."""
    real, calls = coverage.greedy, itertools.count()

    def greedy(self: FeatureCoverage, *arguments: Any) -> Any:
        assert next(calls) < 12, "a block grows to all rows at most"
        before, after = self.bounds, self.coverage
        picks, gains, counts, _ = real(self, *arguments)
        return no_picks(picks), gains, counts, (after, before + raised)

    return greedy


@pytest.mark.parametrize("raised", [0.0, 1.0])
@pytest.mark.parametrize("limit", [0, 1 << 30])
@pytest.mark.parametrize("coverage", [FeatureCoverage, StoredCoverage])
def test_bounds_that_do_not_fall(
    coverage: type[FeatureCoverage], limit: int, raised: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = torch.from_numpy(blobs(1, 60, 4)).half()
    stored = StoredRows(features, torch.device("cpu"), asked=True)
    rows = stored if coverage is StoredCoverage else features.float()
    monkeypatch.setattr(coverage, "greedy", lost(coverage, raised))
    words = "facility_location: after 0 picks a pass made no pick and lowered no bound; please report"
    with pytest.raises(RuntimeError, match=words) as caught:
        ENGINES["facility_location"](
            FeatureSimilarity(rows, "dot"), Partition.whole(60, 9), memory=limit, block=4
        )
    assert "\n" not in str(caught.value)


def test_bounds_below_the_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is picked under wrong bounds, it ends: not every backend sees the true gains."""
    real = FeatureCoverage.sweep

    def sweep(self: FeatureCoverage) -> None:
        real(self)
        self.bounds = self.bounds / 2 - torch.arange(60)

    monkeypatch.setattr(FeatureCoverage, "sweep", sweep)
    for limit in (0, 1 << 12, 1 << 30):
        features = torch.from_numpy(blobs(1, 60, 4))
        partition = Partition.whole(60, 60)
        view = FeatureSimilarity(features, "dot")
        try:
            ENGINES["facility_location"](view, partition, memory=limit, block=4)
        except RuntimeError as error:
            assert "internal error in facility_location" in str(error)


def test_passes_without_a_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    pick, block, op = LinearCut.pick, k_center.farthest_first_block, herding.op.herding

    def none_picked(real: Callable[..., Any]) -> Callable[..., Any]:
        calls = itertools.count()

        def change(*arguments: Any) -> Any:
            assert next(calls) < 2, "another pass after one without a pick"
            picks, values = real(*arguments)
            return no_picks(picks), values

        return change

    monkeypatch.setattr(LinearCut, "pick", none_picked(pick))
    monkeypatch.setattr(k_center, "farthest_first_block", none_picked(block))
    monkeypatch.setattr(k_center, "_settle", lambda *_: (torch.empty(0, dtype=torch.int64), 0.0))
    monkeypatch.setattr(herding.op, "herding", none_picked(op))
    view = FeatureSimilarity(torch.from_numpy(blobs(1, 60, 4)), "euclidean")
    for engine, picked, name in (
        ("k_center", 1, "farthest_first"),
        ("herding", 0, "herding"),
        ("graph_cut", 0, "graph_cut"),
    ):
        given = FeatureSimilarity(view.features, "cosine") if engine == "graph_cut" else view
        with pytest.raises(
            RuntimeError, match=f"{name}: after {picked} picks a pass made no pick; please report"
        ):
            ENGINES[engine](given, Partition.whole(60, 9))
