"""What options mean: preselected rows, the first pick, stopping early, lam, ridge, given matrices, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import oracle
from tests.greedy.support import METHODS, PAIRS, check, gains_of, problem_of, rows_of, run

scipy_sparse = pytest.importorskip("scipy.sparse")


def normal(seed: int, n: int = 140, d: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


# ---- preselected --------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@pytest.mark.parametrize("block", [4, 512])
def test_preselected_rows(method, metric, block):
    size = {} if method == "herding" else {"block": block}
    for seed, fixed in enumerate([[0], [139], [17, 3, 80, 0, 55]]):
        k = (30, 139, 135)[seed]
        picks = check(method, normal(seed), k, f"seed {seed}", metric=metric, preselected=fixed, **size)
        assert not set(rows_of(picks)) & set(fixed), f"{method}/{metric}: a preselected row was picked"


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_preselected_rows_with_ties(method, metric):
    """Small integers: preselected rows keep the rule for ties."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        features = rng.integers(-1 * (seed % 2), 3, (int(rng.integers(4, 30)), 2)).astype(np.float32)
        fixed = rng.choice(len(features), 3, replace=False)
        k = len(features) - 3
        got = rows_of(run(method, features, k, metric=metric, preselected=fixed))
        expected, _ = oracle.greedy(problem_of(method, features, metric, preselected=fixed), k)
        assert got == expected, f"{method}/{metric} seed {seed}"


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_preselected_picks_continue_the_selection(method, metric):
    features = normal(5)
    whole = run(method, features, 40, metric=metric)
    rest = run(method, features, 28, metric=metric, preselected=rows_of(whole)[:12])
    assert rows_of(rest) == rows_of(whole)[12:], f"{method}/{metric}"
    np.testing.assert_allclose(gains_of(rest), gains_of(whole)[12:], rtol=1e-7)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@pytest.mark.parametrize("block", [4, 512])
def test_preselected_outside_features(method, metric, block):
    size = {} if method == "herding" else {"block": block}
    for m in (1, 7):
        outside = normal(100 + m, m)
        outside[0] *= 3
        check(method, normal(6), 60, f"{m} outside rows", metric=metric, preselected=outside, **size)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_coresets_of_near_copies(metric):
    """Which of two near copies is nearer is below float32: the distance must not be to the wrong one."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        centres = 30 * rng.standard_normal((12, 64))
        features = (centres[rng.integers(0, 12, 300)] + rng.standard_normal((300, 64))).astype(np.float32)
        copies = np.repeat(features[rng.choice(300, 24, replace=False)], 5, 0) + 1e-3 * normal(seed, 120, 64)
        check("k_center", features, 100, f"seed {seed}", metric=metric, preselected=copies)
        check("k_center", features, 100, f"seed {seed}", metric=metric, preselected=copies, block=8)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_outside_copies_of_rows_act_as_those_rows(method, metric):
    """The preselected rows given as features: the same picks, but for the rows themselves."""
    features, fixed = normal(7), [4, 90, 31]
    inside = rows_of(run(method, features, 30, metric=metric, preselected=fixed))
    outside = rows_of(run(method, features, 33, metric=metric, preselected=features[fixed]))
    if method in ("k_center", "facility_location"):  # the copies are worth nothing, so they are never chosen
        assert outside[:30] == inside, f"{method}/{metric}"
    else:
        common = [row for row in outside if row not in fixed]
        assert common[:3] == inside[:3] or set(outside[:3]) & set(fixed), f"{method}/{metric}"


# ---- k-center -----------------------------------------------------------------------------------


def test_start_is_the_row_that_was_asked_for():
    for start in (0, 77, 139):
        picks = check("k_center", normal(8), 20, start=start)
        assert rows_of(picks)[0] == start


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_start_at_the_mean(metric):
    for seed in range(20):
        features = normal(seed, 60, 3) + 2
        points = oracle.unit_rows(features) if metric == "cosine" else features.astype(np.float64)
        distance = ((points - points.mean(0)) ** 2).sum(1)
        got = rows_of(run("k_center", features, 5, metric=metric, start="mean"))[0]
        assert got == distance.argmin(), f"{metric} seed {seed}: {distance[got]} against {distance.min()}"


def test_start_at_the_mean_takes_the_lowest_of_tied_rows():
    features = np.array([[3, 0], [1, 0], [-1, 0], [-3, 0]], np.float32)
    assert rows_of(run("k_center", features, 1, start="mean")) == [1]


def test_random_start_follows_the_generator():
    starts = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        first = run("k_center", normal(9), 3, start="random", generator=generator)
        again = run("k_center", normal(9), 3, start="random", generator=torch.Generator().manual_seed(seed))
        assert rows_of(first) == rows_of(again)
        starts.append(rows_of(first)[0])
    assert len(set(starts)) > 25, "40 seeds should start at many of 140 rows"


def test_random_start_is_uniform():
    features = normal(10, 5, 2)
    counts = np.zeros(5)
    for seed in range(600):
        generator = torch.Generator().manual_seed(seed)
        counts[rows_of(run("k_center", features, 1, start="random", generator=generator))[0]] += 1
    assert (abs(counts - 120) < 50).all(), counts  # five standard deviations


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [4, 512])
def test_stop_at_a_radius(metric, block):
    features = normal(11)
    gains = gains_of(run("k_center", features, 140, metric=metric))
    rows = rows_of(run("k_center", features, 140, metric=metric))
    for radius in (gains[1] * 1.01, gains[1] * 0.99, gains[30] * (1 + 1e-9), gains[100] * (1 - 1e-9), 1e-9):
        needed = 1 + int((gains[1:] > radius).sum())
        got = rows_of(run("k_center", features, 140, metric=metric, stop_at=radius, block=block))
        assert got == rows[:needed], f"{metric}: {len(got)} picks for radius {radius}, {needed} are enough"
        points = oracle.unit_rows(features) if metric == "cosine" else features
        distances = np.sqrt(oracle.squared_distances(points, points))
        reached = oracle.radius(distances, got)
        assert (reached**2 / 2 if metric == "cosine" else reached) <= radius * (1 + 1e-9)


def test_stop_at_is_met_by_equality():
    line = np.arange(9, dtype=np.float32)[:, None]
    assert rows_of(run("k_center", line, 9, stop_at=2.0)) == [0, 8, 4]
    assert rows_of(run("k_center", line, 9, stop_at=1.999)) == [0, 8, 4, 2, 6]
    assert rows_of(run("k_center", line, 9, stop_at=100.0)) == [0]
    assert rows_of(run("k_center", line, 2, stop_at=0.0)) == [0, 8], "k still bounds the picks"
    assert rows_of(run("k_center", np.repeat(line, 3, 0), 27, stop_at=0.0))[:3] == [0, 24, 12]
    assert len(rows_of(run("k_center", np.repeat(line, 3, 0), 27, stop_at=0.0))) == 9, (
        "duplicates are covered"
    )


def test_k_center_of_given_distances():
    for seed in range(10):
        points = normal(seed, 90, 4)
        distances = np.sqrt(oracle.squared_distances(points, points)).astype(np.float32)
        check("k_center", distances, 40, f"seed {seed}", metric="precomputed", start=seed)
        lopsided = np.abs(normal(seed, 50, 50))
        check("k_center", lopsided, 50, f"lopsided, seed {seed}", metric="precomputed", start=seed)


# ---- facility location --------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "rbf"])
@pytest.mark.parametrize("block", [4, 256])
def test_stop_at_a_share_of_the_full_coverage(metric, block):
    features = normal(12, 120, 5)
    s = np.maximum(oracle.similarity(features, metric), 0)
    full = s.max(1).sum()
    rows, gains = oracle.greedy(oracle.FacilityLocation(s), 120)
    covered = np.cumsum(gains) / full
    for share in (0.2, covered[4] - 1e-6, covered[4] + 1e-6, 0.99):
        needed = int((covered < share).sum()) + 1
        got = rows_of(run("facility_location", features, 120, metric=metric, stop_at=share, block=block))
        assert got == rows[:needed], (
            f"{metric}: {len(got)} picks for {share} of the coverage, {needed} are enough"
        )


@pytest.mark.parametrize("method", ["facility_location", "graph_cut"])
def test_given_matrices(method):
    for seed in range(12):
        lopsided = normal(seed, 90, 90)
        for name, s in {
            "signed": lopsided,
            "positive": np.abs(lopsided),
            "negative": -np.abs(lopsided),
            "symmetric": np.abs(lopsided + lopsided.T),
            "integers": np.round(2 * lopsided),
        }.items():
            check(
                method,
                s.astype(np.float32),
                90,
                f"{name}, seed {seed}",
                metric="precomputed",
                block=(4, 256)[seed % 2],
            )


def test_log_det_of_a_given_matrix():
    for seed in range(6):
        half = normal(seed, 80, 100)
        s = (half @ half.T / 100).astype(np.float32)
        s = np.tril(s) + np.tril(s, -1).T
        check("log_det", s, 70, f"seed {seed}", metric="precomputed", block=(4, 256)[seed % 2])


def sparse_matrix(
    seed: int, n: int = 80, density: float = 0.08, integers: bool = False, symmetric: bool = False
):
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 4, (n, n)) if integers else rng.random((n, n))
    dense = np.where(rng.random((n, n)) < density, values, 0).astype(np.float32)
    dense[:, rng.integers(n)] = 0
    if symmetric:
        dense = np.maximum(dense, dense.T)
    return scipy_sparse.csr_matrix(dense), dense


@pytest.mark.parametrize("method", ["facility_location", "graph_cut"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("integers", [False, True])
def test_sparse_and_dense_matrices_give_the_same_picks(method, symmetric, integers):
    for seed in range(12):
        sparse, dense = sparse_matrix(seed, integers=integers, symmetric=symmetric)
        fixed = [[], [3, 50]][seed % 2]
        options = {"preselected": fixed} if fixed else {}
        k = 80 - len(fixed)
        judged = check(method, dense, k, f"seed {seed}", metric="precomputed", **options)
        got = run(method, sparse, k, metric="precomputed", **options)
        assert rows_of(got) == rows_of(judged), f"{method} seed {seed}"
        np.testing.assert_allclose(gains_of(got), gains_of(judged), rtol=1e-9, atol=1e-9)


def test_entries_given_twice_are_added_up():
    twice = scipy_sparse.coo_matrix((np.ones(4, np.float32), ([0, 0, 1, 2], [1, 1, 1, 2])), (3, 3))
    picks = run("facility_location", twice, 3, metric="precomputed")
    assert rows_of(picks)[0] == 1
    assert gains_of(picks).tolist() == [3.0, 1.0, 0.0]


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "rbf"])
def test_little_memory_changes_no_pick(metric):
    """The matrix-free engine and the one that keeps n x n similarities."""
    features = normal(13, 400, 20)
    expected = rows_of(check("facility_location", features, 80, metric=metric))
    for memory in (0, 200 << 10, 1 << 30):
        for block in (4, 256):
            picks = run("facility_location", features, 80, metric=metric, memory=memory, block=block)
            assert rows_of(picks) == expected, f"{metric} memory={memory} block={block}"


# ---- graph cut and log-determinant --------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "rbf"])
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 1.0, 3.0, 100.0])
def test_lam(metric, lam):
    for block in (4, 384):
        check("graph_cut", normal(14), 140, f"lam={lam} block={block}", metric=metric, lam=lam, block=block)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0, 3.0])
def test_graph_cut_gains_add_up_to_the_value(lam):
    features = normal(15, 60, 4)
    for metric in ("cosine", "dot", "euclidean", "rbf"):
        s = oracle.similarity(features, metric)
        picks = run("graph_cut", features, 25, metric=metric, lam=lam)
        value = oracle.graph_cut_value(s, rows_of(picks), lam)
        assert gains_of(picks).sum() == pytest.approx(value, rel=1e-9, abs=1e-8), f"{metric} lam={lam}"


@pytest.mark.parametrize("metric", ["cosine", "dot", "rbf"])
@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0, 50.0])
def test_ridge(metric, ridge):
    for block in (4, 256):
        k = 40 if ridge > 1e-6 or metric == "rbf" else 9  # dot and cosine have rank 9 or 10 and no more
        check("log_det", normal(16), k, f"ridge={ridge}", metric=metric, ridge=ridge, block=block)


def test_no_ridge():
    check("log_det", normal(17), 60, metric="rbf", ridge=0.0)
    check("log_det", normal(17), 9, metric="dot", ridge=0.0)


def test_log_det_gains_add_up_to_slogdet():
    features = normal(18, 90, 12)
    for metric in ("cosine", "dot", "rbf"):
        s = oracle.similarity(features, metric)
        for ridge in (None, 0.1):
            picks = run("log_det", features, 30, metric=metric, ridge=ridge)
            used = 1e-3 * np.diagonal(s).mean() if ridge is None else ridge
            value = oracle.log_det_value(s, rows_of(picks), used)
            assert gains_of(picks).sum() == pytest.approx(value, rel=1e-9), f"{metric} ridge={ridge}"


def test_log_det_without_ridge_refuses_dependent_rows():
    with pytest.raises(ValueError, match="ridge"):
        run("log_det", normal(19, 40, 5), 20, metric="dot", ridge=0.0)


@pytest.mark.parametrize(("n", "d"), [(60, 9), (400, 60), (700, 512)])
def test_log_det_without_ridge_takes_as_many_rows_as_the_rank(n, d):
    features = normal(22, n, d)
    assert len(rows_of(run("log_det", features, d, metric="dot", ridge=0.0))) == d
    with pytest.raises(ValueError, match="larger ridge"):
        run("log_det", features, d + 1, metric="dot", ridge=0.0)


def test_log_det_refuses_an_indefinite_matrix():
    matrix = np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1]], np.float32)
    with pytest.raises(ValueError, match="semidefinite"):
        run("log_det", matrix, 3, metric="precomputed", ridge=0.0)


def test_log_det_refuses_what_does_not_fit():
    with pytest.raises(MemoryError, match="memory"):
        run("log_det", normal(20), 50, memory=1000)


@pytest.mark.parametrize("method", METHODS)
def test_progress_counts_every_pick(method):
    class Count:
        total = 0

        def update(self, picks: int) -> None:
            self.total += picks

    count = Count()
    run(method, normal(21), 50, progress=count)
    assert count.total == 50, f"{method} counted {count.total} of 50"
