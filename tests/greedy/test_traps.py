"""Mistakes that other implementations made: each test fails on the mistaken version."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests import oracle
from tests.greedy.support import gains_of, rows_of, run


def normal(seed: int, n: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def picked_by(values, n: int, k: int) -> list[int]:
    """Greedy by any function from the picks so far to the values of all rows."""
    picks: list[int] = []
    for _ in range(k):
        scores = np.array(values(picks), np.float64)
        scores[picks] = -np.inf
        picks.append(int(scores.argmax()))
    return picks


def test_herding_takes_the_nearest_not_the_farthest():
    """DeepCore takes the argmax of the distance: its mean is several times worse than that of random rows."""
    better = 0
    for seed in range(20):
        features = normal(seed, 300, 8)
        error = oracle.herding_error(features, rows_of(run("herding", features, 20)))
        rng = np.random.default_rng(seed)
        random = np.mean(
            [oracle.herding_error(features, rng.choice(300, 20, replace=False)) for _ in range(20)]
        )
        better += error < random / 4

        def farthest(picks, features=features):
            sums = features[picks].sum(0) + features
            return np.linalg.norm(features.mean(0) - sums / (len(picks) + 1), axis=1)

        mistaken = oracle.herding_error(features, picked_by(farthest, 300, 20))
        assert mistaken > random, "the mistaken version is what the test takes it for"
    assert better == 20, f"herding came within a quarter of random's error in {better} of 20 cases"


def test_herding_error_is_the_smallest_at_every_step():
    features = normal(1, 40, 3)
    rows = rows_of(run("herding", features, 12))
    for t, row in enumerate(rows):
        errors = {j: oracle.herding_error(features, [*rows[:t], j]) for j in range(40) if j not in rows[:t]}
        assert errors[row] == pytest.approx(min(errors.values()), rel=1e-9), f"step {t}"


def test_herding_gains_are_the_errors():
    features = normal(2, 60, 5)
    picks = run("herding", features, 20)
    rows = rows_of(picks)
    for t, gain in enumerate(gains_of(picks)):
        assert gain == pytest.approx(oracle.herding_error(features, rows[: t + 1]), rel=1e-9), f"step {t}"


def test_herding_with_all_rows_reaches_the_mean():
    picks = run("herding", normal(3, 50, 4), 50)
    assert gains_of(picks)[-1] == pytest.approx(0, abs=1e-12)


def test_k_center_keeps_its_first_point():
    """DeepCore drops the point it starts from; the radius it reports is then too small for its picks."""
    for start in (0, 13):
        rows = rows_of(run("k_center", normal(4, 40, 3), 10, start=start))
        assert len(rows) == 10 and rows[0] == start


def test_k_center_does_not_clip_large_distances():
    """Squared distances clipped at a sentinel such as 5e4 make all far rows look alike."""
    features = np.array([[0.0], [300], [-1000], [40000], [-90000], [1e9]], np.float32)
    picks = run("k_center", features, 6)
    assert rows_of(picks) == [0, 5, 4, 3, 2, 1]
    assert gains_of(picks)[1:].tolist() == [1e9, 90000, 40000, 1000, 300]


def test_k_center_gains_are_distances():
    picks = run("k_center", np.array([[0.0], [3], [10]], np.float32), 3)
    assert gains_of(picks).tolist() == [np.inf, 10.0, 3.0]


@pytest.mark.parametrize("seed", range(10))
def test_k_center_radius_is_at_most_twice_the_best(seed):
    features = normal(seed, 11, 2)
    distances = np.sqrt(oracle.squared_distances(features, features))
    for k in (1, 2, 3, 4):
        optimum = min(oracle.radius(distances, rows) for rows in itertools.combinations(range(11), k))
        for start in range(0, 11, 3):
            reached = oracle.radius(distances, rows_of(run("k_center", features, k, start=start)))
            assert reached <= 2 * optimum * (1 + 1e-9), f"seed {seed} k={k} start={start}"


@pytest.mark.parametrize("seed", range(10))
def test_facility_location_against_the_optimum(seed):
    features = normal(seed, 12, 3)
    for metric in ("cosine", "dot", "euclidean", "rbf"):
        s = np.maximum(oracle.similarity(features, metric), 0)
        for k in (1, 2, 4):
            value = oracle.facility_location_value(
                s, rows_of(run("facility_location", features, k, metric=metric))
            )
            best, _ = oracle.best_subset(lambda rows, s=s: oracle.facility_location_value(s, rows), 12, k)
            share = 1 if k == 1 else 1 - 1 / math.e
            assert value >= share * best * (1 - 1e-12), f"seed {seed} {metric} k={k}: {value} of {best}"


def test_facility_location_counts_negative_similarities_as_zero():
    s = np.array([[1, -5, 0], [-9, 2, 0], [-9, -9, 0]], np.float32)
    picks = run("facility_location", s, 3, metric="precomputed")
    assert rows_of(picks) == [1, 0, 2]
    assert gains_of(picks).tolist() == [2, 1, 0]


def test_facility_location_reads_the_matrix_by_columns():
    """s_ij says how well j represents i, so that gains are sums of columns."""
    s = np.array([[0, 9, 3], [0, 0, 3], [0, 0, 3]], np.float32)
    assert rows_of(run("facility_location", s, 1, metric="precomputed")) == [1]  # 9 and 9: the lowest row
    s[0, 1] = 8
    assert rows_of(run("facility_location", s, 1, metric="precomputed")) == [2]
    s[0, 1] = 10
    picks = run("facility_location", s, 2, metric="precomputed")
    assert rows_of(picks) == [1, 2]
    assert gains_of(picks).tolist() == [10, 6]


def test_graph_cut_gain_by_hand():
    """gain_j = sum_i s_ij - 2 lam sum_{i in S} s_ij - lam s_jj: no extra factor, the diagonal counts once."""
    s = np.array([[4, 1, 0], [1, 9, 2], [0, 2, 1]], np.float32)
    for lam in (0.0, 0.25, 1.0):
        picks = run("graph_cut", s, 3, metric="precomputed", lam=lam)
        rows = rows_of(picks)
        total, diagonal, chosen = s.sum(0), np.diagonal(s), []
        for row, gain in zip(rows, gains_of(picks), strict=True):
            assert gain == pytest.approx(total[row] - 2 * lam * s[chosen, row].sum() - lam * diagonal[row])
            chosen.append(row)
    assert rows_of(run("graph_cut", s, 1, metric="precomputed", lam=0.0)) == [1]
    assert rows_of(run("graph_cut", s, 1, metric="precomputed", lam=1.0)) == [1]
    assert rows_of(run("graph_cut", s, 1, metric="precomputed", lam=1.5)) == [2], (
        "without the diagonal term it is row 1"
    )


def test_graph_cut_of_the_shifted_cosine():
    """The shift by 1/2 changes the gains as the formula says, and no pick."""
    features = normal(5, 80, 6)
    unit = oracle.unit_rows(features)
    for lam in (0.3, 1.0):
        picks = run("graph_cut", features, 30, metric="cosine", lam=lam)
        plain, _ = oracle.greedy(oracle.GraphCut(unit @ unit.T, lam), 30)
        assert rows_of(picks) == plain
        shifted = 0.5 + 0.5 * unit @ unit.T
        assert gains_of(picks)[0] == pytest.approx(shifted[:, plain[0]].sum() - lam)


def test_log_det_avoids_near_duplicates():
    """s_jA S_AA^-1 s_Aj without the subtraction from s_jj is largest for the most redundant rows."""
    base = normal(6, 12, 16)
    features = np.concatenate([base, base + 1e-3 * normal(7, 12, 16), base + 1e-3 * normal(8, 12, 16)])
    s = oracle.similarity(features, "cosine")
    rows = rows_of(run("log_det", features, 12))
    assert sorted(row % 12 for row in rows) == list(range(12)), f"near-duplicates among {sorted(rows)}"

    def mistaken(picks):
        if not picks:
            return np.diagonal(s)
        inverse = np.linalg.inv(s[np.ix_(picks, picks)] + 1e-3 * np.eye(len(picks)))
        return np.einsum("ja,ab,jb->j", s[:, picks], inverse, s[:, picks])

    assert len({row % 12 for row in picked_by(mistaken, 36, 12)}) < 12


def test_log_det_gain_is_the_logarithm():
    features = normal(9, 40, 10)
    s = oracle.similarity(features, "rbf")
    picks = run("log_det", features, 15, metric="rbf", ridge=0.01)
    rows = rows_of(picks)
    for t, gain in enumerate(gains_of(picks)):
        expected = oracle.log_det_value(s, rows[: t + 1], 0.01) - oracle.log_det_value(s, rows[:t], 0.01)
        assert gain == pytest.approx(expected, abs=1e-9), f"step {t}"


@pytest.mark.parametrize("metric", ["cosine"])
def test_a_zero_row_is_like_every_row_alike(metric):
    """A zero row has cos = 0, so s = 1/2 with every row and itself, and never NaN."""
    features = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1], [0, 0]], np.float32)
    for method in ("facility_location", "graph_cut", "log_det", "k_center", "herding"):
        picks = run(method, features, 6, metric=metric)
        assert sorted(rows_of(picks)) == list(range(6))
        assert not np.isnan(gains_of(picks)).any()
    s = np.full((6, 6), 0.5)
    s[1:5, 1:5] = 0.5 + 0.5 * features[1:5] @ features[1:5].T
    expected, gains = oracle.greedy(oracle.FacilityLocation(s), 6)
    picks = run("facility_location", features, 6)
    assert rows_of(picks) == expected
    np.testing.assert_allclose(gains_of(picks), gains, atol=1e-12)


def test_default_parameters_are_those_of_the_definitions():
    """rbf: 1 / gamma is the mean squared distance; euclidean: c changes the first gain and no pick."""
    features = normal(10, 70, 4)
    mean_square = oracle.squared_distances(features, features).mean()
    for method in ("facility_location", "graph_cut", "log_det"):
        default = run(method, features, 20, metric="rbf")
        given = run(method, features, 20, metric="rbf", gamma=1 / mean_square)
        assert rows_of(default) == rows_of(given)
        np.testing.assert_allclose(default.gains, given.gains, rtol=1e-9)
    distances = np.sqrt(oracle.squared_distances(features, features))
    picks = run("facility_location", features, 20, metric="euclidean")
    for c in (distances.max(), 3 * distances.max()):
        expected, gains = oracle.greedy(oracle.FacilityLocation(c - distances), 20)
        assert rows_of(picks) == expected
        np.testing.assert_allclose(gains_of(picks)[1:], gains[1:], rtol=1e-9)
