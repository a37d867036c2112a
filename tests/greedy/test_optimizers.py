"""The general optimizers: exact ones equal the native engines, the others keep what their theory promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastcore.budget import Partition
from fastcore.greedy.lazy import maximize
from fastcore.greedy.picks import Picks
from tests import oracle
from tests.greedy.support import gains_of, problem_of, rows_of, run, view_of

OBJECTIVES = [
    (name, metric)
    for name in ("facility_location", "graph_cut", "log_det")
    for metric in ("cosine", "dot", "euclidean", "rbf")
    if (name, metric) != ("log_det", "euclidean")
]
EXACT = ["naive", "lazy"]
SAMPLED = ["stochastic", "lazier_than_lazy"]


def blobs(seed: int, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((8, d))
    return (centres[rng.integers(0, 8, n)] + rng.standard_normal((n, d))).astype(np.float32)


def by(
    optimizer: str, name: str, data, k: int, metric: str = "cosine", seed: int = 0, partition=None, **options
) -> Picks:
    generator = torch.Generator().manual_seed(seed)
    if options.get("preselected") is not None:
        options["preselected"] = torch.as_tensor(options["preselected"])
    partition = partition or Partition.whole(data.shape[0], k)
    return maximize(
        name, view_of(data, metric), partition, optimizer=optimizer, generator=generator, **options
    )


@pytest.mark.parametrize(("name", "metric"), OBJECTIVES)
@pytest.mark.parametrize("optimizer", EXACT)
def test_exact_optimizers_equal_the_engines(name, metric, optimizer):
    tied = np.random.default_rng(1).integers(0, 3, (40, 3)).astype(np.float32)
    for data, k in [(blobs(0, 200, 6), 50), (tied, 40), (blobs(1, 1, 2), 1), (blobs(2, 30, 50), 30)]:
        got, expected = by(optimizer, name, data, k, metric), run(name, data, k, metric=metric)
        assert rows_of(got) == rows_of(expected), f"{optimizer} {name}/{metric} {data.shape}"
        np.testing.assert_allclose(got.gains, expected.gains, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "metric"), OBJECTIVES)
@pytest.mark.parametrize("optimizer", EXACT)
def test_exact_optimizers_on_integers(name, metric, optimizer):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        features = rng.integers(-2 * (seed % 2), 3, (int(rng.integers(1, 30)), int(rng.integers(1, 4))))
        features = features.astype(np.float32)
        expected, _ = oracle.greedy(problem_of(name, features, metric), len(features))
        assert rows_of(by(optimizer, name, features, len(features), metric)) == expected, (
            f"{name}/{metric} seed {seed}"
        )


@pytest.mark.parametrize("optimizer", EXACT)
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0, 4.0])
def test_graph_cut_where_gains_can_grow(optimizer, lam):
    """Negative similarities: old gains are no bounds, and lazy must not use them."""
    for seed in range(8):
        signed = np.random.default_rng(seed).standard_normal((60, 60)).astype(np.float32)
        for matrix in (signed, signed + signed.T, -np.abs(signed)):
            picks = by(optimizer, "graph_cut", matrix, 60, "precomputed", lam=lam)
            expected, _ = oracle.greedy(oracle.GraphCut(matrix, lam), 60)
            assert rows_of(picks) == expected, f"{optimizer} lam={lam} seed {seed}"
            assert not picks.info["shrinks"]


def test_lazy_evaluates_less_than_naive():
    features = blobs(3, 400, 8)
    for name in ("facility_location", "graph_cut", "log_det"):
        counts = {
            o: by(o, name, features, 60).info["evaluations"] for o in ("naive", "lazy", "approximate_lazy")
        }
        assert counts["naive"] == sum(400 - t for t in range(60))
        assert counts["approximate_lazy"] <= counts["lazy"] < counts["naive"] / 2, f"{name}: {counts}"


@pytest.mark.parametrize(("name", "metric"), OBJECTIVES)
@pytest.mark.parametrize("optimizer", ["naive", "lazy", "stochastic"])
def test_preselected(name, metric, optimizer):
    features, fixed = blobs(4, 90, 5), [3, 70, 11]
    outside = blobs(5, 6, 5)
    for given in (fixed, outside):
        k = 87
        picks = by(optimizer, name, features, k, metric, preselected=given, epsilon=1e-300)
        expected, _ = oracle.greedy(problem_of(name, features, metric, preselected=given), k)
        # With so small an epsilon the sample is everything that is left.
        assert rows_of(picks) == expected, f"{optimizer} {name}/{metric}"


@pytest.mark.parametrize("optimizer", ["naive", "lazy", "stochastic", "approximate_lazy", "lazier_than_lazy"])
@pytest.mark.parametrize("name", ["facility_location", "graph_cut", "log_det"])
def test_ground_sets(optimizer, name):
    features = blobs(6, 130, 5)
    labels = torch.as_tensor(np.random.default_rng(0).choice(4, 130, p=[0.6, 0.3, 0.09, 0.01]))
    partition = Partition.by_label(labels, 40)
    picks = by(optimizer, name, features, 0, partition=partition, ridge=0.1)
    assert picks.rows.shape == (partition.sets, int(partition.budgets.max()))
    for g in range(partition.sets):
        rows = partition.rows[partition.offsets[g] : partition.offsets[g + 1]].numpy()
        got = rows_of(picks, g)
        assert len(got) == partition.budgets[g] and set(got) <= set(rows.tolist())
        if optimizer in EXACT:
            options = {"ridge": 0.1} if name == "log_det" else {}
            expected, _ = oracle.greedy(problem_of(name, features[rows], **options), len(got))
            assert got == rows[expected].tolist(), f"{optimizer} {name} set {g}"


@pytest.mark.filterwarnings("error")
def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(7)
    dense = np.where(rng.random((60, 60)) < 0.15, rng.random((60, 60)), 0).astype(np.float32)
    for name in ("facility_location", "graph_cut"):
        expected = by("naive", name, dense, 60, "precomputed")
        for optimizer in EXACT:
            got = by(optimizer, name, sparse.coo_matrix(dense), 60, "precomputed")
            assert rows_of(got) == rows_of(expected), f"{optimizer} {name}"


def value_of(name: str, s: np.ndarray, rows: list[int]) -> float:
    if name == "facility_location":
        return oracle.facility_location_value(s, rows)
    return oracle.graph_cut_value(s, rows, 0.5) if name == "graph_cut" else oracle.log_det_value(s, rows, 1.0)


@pytest.mark.parametrize("name", ["facility_location", "graph_cut", "log_det"])
def test_values_of_the_inexact_optimizers(name):
    """Monotone objectives: 97 % of the greedy value on average, and never below 95 % of it here."""
    features = blobs(8, 300, 6)
    s = oracle.similarity(features, "cosine")
    options = {"graph_cut": {"lam": 0.5}, "log_det": {"ridge": 1.0}}.get(name, {})
    greedy = value_of(name, s, rows_of(by("naive", name, features, 30, **options)))
    for optimizer in (*SAMPLED, "approximate_lazy"):
        values = [
            value_of(name, s, rows_of(by(optimizer, name, features, 30, seed=seed, **options)))
            for seed in range(5)
        ]
        assert min(values) >= 0.95 * greedy, f"{name} {optimizer}: {min(values) / greedy:.3f} of greedy"
        assert np.mean(values) >= 0.97 * greedy, (
            f"{name} {optimizer}: {np.mean(values) / greedy:.3f} of greedy"
        )


@pytest.mark.parametrize("beta", [0.5, 0.9, 1.0])
def test_approximate_lazy_keeps_its_promise_at_every_pick(beta):
    for seed in range(6):
        features = blobs(seed, 150, 5)
        picks = by("approximate_lazy", "facility_location", features, 40, beta=beta)
        problem = problem_of("facility_location", features)
        for step, row in enumerate(rows_of(picks)):
            values = problem.values()
            assert values[row] >= beta * values.max() * (1 - 1e-9), f"beta={beta} seed {seed} step {step}"
            problem.add(row)
        if beta == 1.0:
            assert rows_of(picks) == rows_of(by("naive", "facility_location", features, 40))


@pytest.mark.parametrize(
    ("n", "k", "epsilon"), [(100, 10, 0.01), (100, 10, 0.9), (97, 31, 0.1), (50, 50, 0.5)]
)
def test_sample_size(n, k, epsilon):
    """ceil(n / k * ln(1 / epsilon)) candidates a pick, fewer when fewer are left."""
    picks = by("stochastic", "facility_location", blobs(9, n, 4), k, epsilon=epsilon)
    size = math.ceil(n / k * math.log(1 / epsilon))
    assert picks.info["evaluations"] == sum(min(size, n - t) for t in range(k))


@pytest.mark.parametrize("name", ["facility_location", "graph_cut", "log_det"])
def test_lazier_than_lazy_is_stochastic_with_fewer_evaluations(name):
    features = blobs(10, 300, 6)
    slow, fast = (by(optimizer, name, features, 50, seed=3) for optimizer in SAMPLED)
    assert rows_of(slow) == rows_of(fast)
    np.testing.assert_allclose(gains_of(slow), gains_of(fast), rtol=1e-9)
    assert fast.info["evaluations"] < slow.info["evaluations"]


@pytest.mark.parametrize("optimizer", SAMPLED)
def test_samples_follow_the_seed(optimizer):
    features = blobs(11, 200, 5)
    runs = [rows_of(by(optimizer, "facility_location", features, 20, seed=seed)) for seed in (0, 0, 1, 2, 3)]
    assert runs[0] == runs[1]
    assert len({tuple(rows) for rows in runs}) == 4


def test_log_det_errors_of_the_general_optimizers():
    with pytest.raises(ValueError, match="ridge"):
        by("naive", "log_det", blobs(12, 40, 5), 20, "dot", ridge=0.0)
    indefinite = np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1]], np.float32)
    with pytest.raises(ValueError, match="semidefinite"):
        by("lazy", "log_det", indefinite, 3, "precomputed", ridge=0.0)


def test_unknown_objective():
    with pytest.raises(ValueError, match="k_center"):
        by("naive", "k_center", blobs(13, 5, 2), 1)
