"""Engines over a sparse matrix: every ground set as if it were alone, and all by one native call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import fastcore
from fastcore import ops
from fastcore.assignment import assign
from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.similarity import SparseSimilarity
from tests import oracle
from tests.greedy.support import ENGINES, Watch, check_gains, gains_of, rows_of
from tests.ops.backends import CUDA, require

BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu", "simt", CUDA])
SIZES = [50, 0, 1, 130, 33, 3, 32, 0, 64, 9, 40]
BUDGETS = [12, 0, 1, 300, 0, 5, 32, 2, 20, 9, 1]
"""Empty sets with and without a budget, no budget, and more than there are rows."""


def mixed(seed: int, sizes: list[int], budgets: list[int]) -> Partition:
    """Ground sets of these sizes, their rows scattered over the data."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    parts = (np.argsort(labels, kind="stable"), offsets, budgets)
    return Partition(*(torch.as_tensor(part, dtype=torch.int64) for part in parts))


def members(partition: Partition, g: int) -> np.ndarray:
    return partition.rows[partition.offsets[g] : partition.offsets[g + 1]].numpy()


def matrix(seed: int, partition: Partition, kind: str) -> np.ndarray:
    """A tenth of the entries between rows of any set, negative ones and columns without any among them."""
    n, rng = len(partition.rows), np.random.default_rng(seed)
    values = rng.integers(1, 4, (n, n)) if kind == "integers" else rng.standard_normal((n, n)) + 1
    dense = np.where(rng.random((n, n)) < 0.1, values, 0).astype(np.float32)
    dense[:, rng.random(n) < 0.1] = 0
    if kind == "scales":  # what is rounding in one set is everything in another
        scale = np.empty(n)
        scale[partition.rows] = 10.0 ** ((partition.membership.numpy() % 3 - 1) * 12)
        dense *= scale[:, None].astype(np.float32)
    np.fill_diagonal(dense, np.abs(dense).max(1))
    return dense


def sparse(dense: np.ndarray, backend: str = "cpu") -> SparseSimilarity:
    with torch.sparse.check_sparse_tensor_invariants():
        return SparseSimilarity(
            torch.from_numpy(dense).to_sparse().to("cuda" if backend == "cuda" else "cpu")
        )


def pick(
    view: SparseSimilarity,
    partition: Partition,
    backend: str,
    method: str = "facility_location",
    **options: Any,
) -> Picks:
    with ops.use_backend(require(backend)):
        return ENGINES[method](view, partition, **options)


def expected_of(
    dense: np.ndarray, rows: np.ndarray, budget: int, fixed: list[int], stop_at: float | None
) -> tuple[list[int], np.ndarray]:
    """Picks and gains of one set alone, pick by pick."""
    if len(rows) == 0:
        return [], np.zeros(0)
    part = dense[np.ix_(rows, rows)]
    here = [int(np.flatnonzero(rows == row)[0]) for row in fixed if row in rows]
    problem = oracle.FacilityLocation(part, here)
    start, full = problem.coverage.sum(), np.maximum(part.astype(np.float64), 0).max(1).sum()
    picks, gains = oracle.greedy(problem, min(budget, len(rows) - len(here)))
    if stop_at is not None:
        before = start + np.concatenate([[0], np.cumsum(gains)])[: len(gains)]
        keep = int((before < stop_at * full * (1 - 1e-12)).sum())
        picks, gains = picks[:keep], gains[:keep]
    return rows[picks].tolist(), np.asarray(gains)


@BACKENDS
@pytest.mark.parametrize("kind", ["random", "integers", "scales"])
@pytest.mark.parametrize("stop_at", [None, 0.8])
def test_every_set_as_if_it_were_alone(kind, stop_at, backend):
    stopped = 0
    for seed in range(1 if backend == "simt" else 3):
        partition = mixed(seed, SIZES, BUDGETS)
        dense = matrix(seed, partition, kind)
        fixed = [int(members(partition, g)[-1]) for g in (0, 2, 5, 9)] if seed != 1 else []
        options = {"preselected": torch.tensor(fixed)} if fixed else {}
        got = pick(sparse(dense, backend), partition, backend, stop_at=stop_at, **options)
        assert got.rows.shape == got.gains.shape == (len(SIZES), max(BUDGETS))
        made = got.rows >= 0
        assert not got.gains[~made].any()
        for g, budget in enumerate(BUDGETS):
            rows = members(partition, g)
            expected, gains = expected_of(dense, rows, budget, fixed, stop_at)
            assert rows_of(got, g) == expected, f"seed {seed} set {g}"
            if expected:
                check_gains(gains_of(got, g), gains, f"seed {seed} set {g}", float(np.abs(dense[rows]).max()))
            stopped += len(expected) < min(budget, len(rows) - len(set(fixed) & set(rows.tolist())))
    if stop_at is not None:
        assert stopped > 0
        sizes = made.sum(1)
        assert any(sizes[g] == budget for g, budget in enumerate(BUDGETS) if 0 < budget < SIZES[g])


@BACKENDS
def test_together_and_alone(backend):
    """The same through the engine itself: one call for all sets, and one for the part of the matrix of each."""
    partition = mixed(7, SIZES, BUDGETS)
    dense = matrix(7, partition, "scales")
    together = pick(sparse(dense, backend), partition, backend)
    for g, budget in enumerate(BUDGETS):
        rows = members(partition, g)
        if len(rows) and budget:
            part = sparse(dense[np.ix_(rows, rows)], backend)
            one = pick(part, Partition.whole(len(rows), min(budget, len(rows))), backend)
            assert rows_of(together, g) == rows[rows_of(one)].tolist(), f"set {g}"
            assert together.gains[g, : len(rows_of(one))].tolist() == gains_of(one).tolist()


@BACKENDS
@pytest.mark.parametrize("threads", [1, 2])
def test_a_tie_costs_one_gain(threads, backend):
    """Rows that are all alike: a heap would look at each of them for every pick."""
    if backend == "reference":
        pytest.skip("the reference takes all gains for every pick")
    n, before = 400, torch.get_num_threads()
    partition = mixed(1, [n, n], [n, n // 4])
    torch.set_num_threads(threads)
    try:
        picks = pick(sparse(np.eye(2 * n, dtype=np.float32), backend), partition, backend)
    finally:
        torch.set_num_threads(before)
    assert rows_of(picks, 0) == members(partition, 0).tolist()
    assert rows_of(picks, 1) == members(partition, 1)[: n // 4].tolist()
    assert picks.info["evaluations"] <= 2 * n + n + n // 4
    # Beyond full coverage no gain is left to take.
    covering = np.zeros((n, n), np.float32)
    covering[:, 3] = 1
    picks = pick(sparse(covering, backend), Partition.whole(n, n), backend)
    assert rows_of(picks) == [3, *(row for row in range(n) if row != 3)]
    assert picks.info["evaluations"] == n


@BACKENDS
@pytest.mark.parametrize("kind", ["random", "integers", "scales"])
def test_graph_cut_of_every_set_as_if_it_were_alone(kind, backend):
    for seed, lam in enumerate((0.4, 1.0, 3.0)):
        partition = mixed(seed, SIZES, BUDGETS)
        dense = matrix(seed, partition, kind)
        if seed == 2:
            dense = np.where(np.abs(dense) > np.abs(dense.T), dense, dense.T)
        fixed = [int(members(partition, g)[-1]) for g in (0, 2, 5, 9)] if seed != 1 else []
        options = {"preselected": torch.tensor(fixed)} if fixed else {}
        got = pick(sparse(dense, backend), partition, backend, "graph_cut", lam=lam, **options)
        assert got.rows.shape == got.gains.shape == (len(SIZES), max(BUDGETS))
        assert not got.gains[got.rows < 0].any()
        for g, budget in enumerate(BUDGETS):
            rows = members(partition, g)
            here = [int(np.flatnonzero(rows == row)[0]) for row in fixed if row in rows]
            if not len(rows):
                assert rows_of(got, g) == []
                continue
            problem = oracle.GraphCut(dense[np.ix_(rows, rows)], lam, here)
            picks, gains = oracle.greedy(problem, min(budget, len(rows) - len(here)))
            assert rows_of(got, g) == rows[picks].tolist(), f"seed {seed} set {g}"
            if picks:
                check_gains(gains_of(got, g), gains, f"seed {seed} set {g}", problem.size)


@pytest.mark.parametrize(("method", "choices"), [("facility_location", 2), ("graph_cut", 1)])
def test_there_is_no_loop_over_classes(method, choices):
    """And none over picks: more of them take no more calls, and no more waits of the host."""
    require("cpu")
    partitions = [
        Partition.by_label(torch.arange(2000) % classes, k)
        for classes, k in ((20, 800), (400, 800), (20, 80))
    ]
    view = sparse(matrix(3, partitions[0], "random"))
    for options in ({}, {"stop_at": 0.5})[:choices]:
        watches = []
        for partition in partitions:
            with Watch() as watch:
                ENGINES[method](view, partition, preselected=torch.tensor([5, 17]), **options)
            watches.append(watch)
        calls, waits = [watch.calls for watch in watches], [watch.waits for watch in watches]
        assert max(calls[1:]) <= calls[0] and max(waits[1:]) <= waits[0], (calls, waits)
        assert all(watch.named[f"{method}_sparse"] == 1 for watch in watches)


@pytest.mark.parametrize(
    ("method", "options"),
    [("facility_location", {}), ("facility_location", {"stop_at": 0.6}), ("graph_cut", {"lam": 0.4})],
)
def test_progress_tells_of_every_pick(method, options):
    class Count:
        total = 0

        def update(self, picks: int) -> None:
            self.total += picks

    partition, count = mixed(2, SIZES, BUDGETS), Count()
    view = sparse(matrix(2, partition, "random"))
    picks = ENGINES[method](view, partition, progress=count, **options)
    assert count.total == int((picks.rows >= 0).sum()) > 0


@pytest.mark.parametrize(
    ("method", "options"), [("facility_location", {"stop_at": 0.9}), ("graph_cut", {"lam": 0.4})]
)
def test_no_tensor_is_made_on_another_device(method, options):
    """What is made without a device lands on that of the data, or on one where it cannot be used."""
    partition = mixed(4, SIZES, [min(pair) for pair in zip(SIZES, BUDGETS, strict=True)])
    view = sparse(matrix(4, partition, "random"))
    options = {"preselected": torch.tensor([1]), **options}
    expected = ENGINES[method](view, partition, **options)
    with torch.device("meta"):
        got = ENGINES[method](view, partition, **options)
        owners = assign(view, partition, got.rows[got.rows >= 0])
    assert torch.equal(got.rows, expected.rows)
    assert owners.shape == (view.n,)


@pytest.mark.gpu
@pytest.mark.parametrize("balanced", [False, True])
def test_a_sparse_matrix_stays_on_the_gpu(balanced):
    partition = mixed(5, SIZES, BUDGETS)
    dense = matrix(5, partition, "integers")
    labels = np.arange(len(dense)) % 7 if balanced else None
    options = {"metric": "precomputed", "labels": labels, "weights": "cluster"}
    for method in ("facility_location", "graph_cut"):
        here = fastcore.select(method, torch.from_numpy(dense).to_sparse(), 40, **options)
        there = fastcore.select(method, torch.from_numpy(dense).to_sparse(), 40, device="cuda", **options)
        assert there.info["device"].startswith("cuda")
        assert there.indices.tolist() == here.indices.tolist()
        assert there.weights.tolist() == here.weights.tolist()
        view = sparse(dense, "cuda")
        assert view.values.is_cuda
        assert torch.equal(
            ENGINES[method](view, partition).rows, ENGINES[method](sparse(dense), partition).rows
        )


def test_outside_features_are_refused():
    words = 'preselected: outside features need features, not metric="precomputed"'
    with pytest.raises(ValueError, match=words):
        ENGINES["graph_cut"](sparse(np.eye(3)), Partition.whole(3, 1), preselected=torch.ones(1, 3))
