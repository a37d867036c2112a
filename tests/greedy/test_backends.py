"""The same picks whatever computes them: backends, threads, block sizes, ground sets together or alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcore import ops
from fastcore.budget import Partition
from tests import oracle
from tests.greedy.support import METHODS, PAIRS, check_gains, gains_of, problem_of, rows_of, run
from tests.ops.backends import require


def blobs(seed: int, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((10, d))
    return (centres[rng.integers(0, 10, n)] + rng.standard_normal((n, d))).astype(np.float32)


def tied(seed: int, n: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 3, (n, d)).astype(np.float32)


def native_or_skip() -> None:
    try:
        with ops.use_backend("cpu"):
            ops.active_backend("cpu")
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@pytest.mark.parametrize(
    ("data", "n", "d", "k"), [(blobs, 500, 24, 120), (tied, 120, 3, 120), (blobs, 1, 5, 1)]
)
def test_reference_and_native(method, metric, data, n, d, k):
    native_or_skip()
    features = data(3, n, d)
    with ops.use_backend("reference"):
        expected = run(method, features, k, metric=metric)
    with ops.use_backend("cpu"):
        got = run(method, features, k, metric=metric)
    assert rows_of(got) == rows_of(expected), f"{method}/{metric} {features.shape} k={k}"
    np.testing.assert_allclose(got.gains, expected.gains, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("method", ["k_center", "facility_location", "graph_cut"])
def test_given_matrices_on_every_backend(method, backend):
    if backend == "cpu":
        native_or_skip()
    for seed in range(4):
        matrix = np.abs(blobs(seed, 70, 70))
        if seed % 2:
            matrix = np.round(matrix)
        first = 0 if method == "k_center" else None
        expected, _ = oracle.greedy(problem_of(method, matrix, "precomputed"), 70, first)
        with ops.use_backend(backend):
            assert rows_of(run(method, matrix, 70, metric="precomputed")) == expected, f"{method} seed {seed}"


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_threads(method, metric):
    features, before = blobs(4, 900, 40), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(method, features, 150, metric=metric)
        torch.set_num_threads(2)
        two = run(method, features, 150, metric=metric)
    finally:
        torch.set_num_threads(before)
    assert rows_of(one) == rows_of(two), f"{method}/{metric}"


@pytest.mark.parametrize(("method", "metric"), [pair for pair in PAIRS if pair[0] != "herding"])
@pytest.mark.parametrize("data", [blobs, tied])
def test_block_sizes(method, metric, data):
    """Tiny blocks: many passes, bounds from outside at every pick, and ties that a block cannot hold."""
    features = data(5, 160, 6)
    first = 0 if method == "k_center" else None
    expected, _ = oracle.greedy(problem_of(method, features, metric), 160, first)
    memory = {"memory": 0} if method == "facility_location" else {}  # without the n x n matrix
    for block in (1, 2, 4, 37, 160, 4096):
        got = rows_of(run(method, features, 160, metric=metric, block=block, **memory))
        step = next((t for t, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), None)
        assert got == expected, f"{method}/{metric} block={block}: step {step}"


@pytest.mark.parametrize("method", METHODS)
def test_matmul_precision_and_autograd_modes_change_nothing(method):
    features = blobs(6, 300, 30)
    expected = rows_of(run(method, features, 60))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert rows_of(run(method, features, 60)) == expected
        assert torch.get_float32_matmul_precision() == "medium", "the user's setting is put back"
    finally:
        torch.set_float32_matmul_precision(before)
    with torch.inference_mode():
        assert rows_of(run(method, features, 60)) == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rows_of(run(method, features, 60)) == expected
    before_dtype = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        picks = run(method, features, 60)
    finally:
        torch.set_default_dtype(before_dtype)
    assert rows_of(picks) == expected


# ---- many ground sets ---------------------------------------------------------------------------

SIZES = [50, 1, 200, 3, 7, 2, 120, 1, 30, 9]
BUDGETS = [12, 1, 60, 0, 7, 1, 120, 0, 5, 9]


def scattered(sizes: list[int], budgets: list[int], seed: int) -> Partition:
    """Ground sets of these sizes, their rows scattered over the data."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = np.argsort(labels, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Partition(*(torch.as_tensor(part, dtype=torch.int64) for part in (rows, offsets, budgets)))


def members(partition: Partition, g: int) -> np.ndarray:
    return partition.rows[partition.offsets[g] : partition.offsets[g + 1]].numpy()


def alone(method: str, features: np.ndarray, metric: str, rows: np.ndarray, **options) -> oracle.Problem:
    """The oracle of one ground set; the parameters of its metric come from all rows."""
    if method in ("k_center", "herding"):
        return problem_of(method, features[rows], metric, **options)
    if metric == "precomputed":
        s = features.astype(np.float64)
    else:
        s = oracle.similarity(features, metric)
    if method == "log_det":
        options.setdefault("ridge", 1e-3 * np.diagonal(s).mean())
    return problem_of(method, s[np.ix_(rows, rows)], "precomputed", **options)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@pytest.mark.parametrize("data", [blobs, tied])
def test_ground_sets_side_by_side(method, metric, data):
    """Classes of very different sizes, one row or no budget among them, against each class alone."""
    partition = scattered(SIZES, BUDGETS, 1)
    features = data(7, sum(SIZES), 5)
    start = {"start": "random", "generator": torch.Generator().manual_seed(0)} if method == "k_center" else {}
    sizes = [{}] if method == "herding" else [{"block": 4}, {}]
    for size in sizes:
        picks = run(method, features, 0, metric=metric, partition=partition, **start, **size)
        assert picks.rows.shape == picks.gains.shape == (len(SIZES), max(BUDGETS))
        for g, budget in enumerate(BUDGETS):
            label = f"{method}/{metric} {size} set {g} ({SIZES[g]} rows, {budget} picks)"
            rows, got = members(partition, g), rows_of(picks, g)
            assert len(got) == budget, label
            assert set(got) <= set(rows.tolist()), f"{label}: a row of another set"
            if budget == 0:
                continue
            first = int(np.searchsorted(rows, got[0])) if method == "k_center" else None
            problem = alone(method, features, metric, rows)
            expected, gains = oracle.greedy(problem, budget, first)
            assert got == rows[expected].tolist(), label
            check_gains(gains_of(picks, g), gains, label, problem.size)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_preselected_rows_belong_to_their_ground_set(method, metric):
    partition = scattered(SIZES, BUDGETS, 2)
    features = blobs(8, sum(SIZES), 5)
    fixed = [int(members(partition, g)[0]) for g in (0, 2, 5, 8)]
    picks = run(method, features, 0, metric=metric, partition=partition, preselected=fixed)
    for g, budget in enumerate(BUDGETS):
        rows, got = members(partition, g), rows_of(picks, g)
        assert not set(got) & set(fixed) and len(got) == budget
        if budget and (method != "k_center" or set(fixed) & set(rows.tolist())):
            here = [int(np.searchsorted(rows, row)) for row in fixed if row in rows]
            expected, _ = oracle.greedy(alone(method, features, metric, rows, preselected=here), budget)
            assert got == rows[expected].tolist(), f"{method}/{metric} set {g}"


@pytest.mark.parametrize("method", ["facility_location", "graph_cut", "k_center"])
def test_ground_sets_of_a_given_matrix(method):
    partition = scattered(SIZES, BUDGETS, 3)
    matrix = np.abs(blobs(9, sum(SIZES), sum(SIZES)))
    picks = run(
        method,
        matrix,
        0,
        metric="precomputed",
        partition=partition,
        **({} if method != "k_center" else {"start": "random"}),
    )
    for g, budget in enumerate(BUDGETS):
        rows, got = members(partition, g), rows_of(picks, g)
        if budget:
            part = matrix[np.ix_(rows, rows)]
            first = int(np.searchsorted(rows, got[0])) if method == "k_center" else None
            expected, _ = oracle.greedy(problem_of(method, part, "precomputed"), budget, first)
            assert got == rows[expected].tolist(), f"{method} set {g}"


@pytest.mark.parametrize("method", ["facility_location", "graph_cut"])
def test_ground_sets_of_a_sparse_matrix(method):
    sparse = pytest.importorskip("scipy.sparse")
    partition = scattered(SIZES, BUDGETS, 4)
    rng = np.random.default_rng(10)
    dense = np.where(rng.random((sum(SIZES),) * 2) < 0.1, rng.random((sum(SIZES),) * 2), 0).astype(np.float32)
    expected = run(method, dense, 0, metric="precomputed", partition=partition)
    got = run(method, sparse.csc_matrix(dense), 0, metric="precomputed", partition=partition)
    assert torch.equal(got.rows, expected.rows)
    torch.testing.assert_close(got.gains, expected.gains, rtol=1e-9, atol=1e-9)


def test_many_small_classes():
    """1 000 classes of up to 9 rows: each as if it were alone."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(1, 10, 1000).tolist()
    partition = scattered(sizes, [min(size, 3) for size in sizes], 5)
    features = blobs(12, sum(sizes), 4)
    for method in METHODS:
        picks = run(
            method, features, 0, partition=partition, **({} if method != "k_center" else {"start": "random"})
        )
        for g in range(0, 1000, 50):
            rows, got = members(partition, g), rows_of(picks, g)
            metric = "euclidean" if method in ("k_center", "herding") else "cosine"
            first = int(np.searchsorted(rows, got[0])) if method == "k_center" else None
            problem = problem_of(
                method, features[rows], metric, **({"ridge": 1e-3} if method == "log_det" else {})
            )
            expected, _ = oracle.greedy(problem, min(len(rows), 3), first)
            assert got == rows[expected].tolist(), f"{method} class {g}"


@pytest.mark.parametrize("data", [blobs, tied])
@pytest.mark.parametrize("method", ["facility_location", "graph_cut", "herding"])
def test_one_large_set_by_the_whole_grid(method, data, monkeypatch):
    """The CUDA kernels of large sets, pass by pass, on the stand-in."""
    require("simt")
    monkeypatch.setenv("FASTCORE_GRID_ROWS", "0")
    monkeypatch.setenv("FASTCORE_SIMT_SCHEDULE", "reverse")
    features = data(5, 150, 6)
    with ops.use_backend("reference"):
        expected = run(method, features, 40)
    with ops.use_backend("simt"):
        assert rows_of(run(method, features, 40)) == rows_of(expected)
