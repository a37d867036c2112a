"""The oracle itself, against values of whole subsets and against brute force over all subsets."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests import oracle

METRICS = ["cosine", "dot", "euclidean", "rbf"]


@pytest.fixture
def features(rng):
    return rng.standard_normal((9, 4)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_similarity_pair_by_pair(features, metric):
    features[3] = 0
    s = oracle.similarity(features, metric)
    wide = features.astype(np.float64)
    centre = wide.mean(0)
    pairs = [(i, j) for i in range(9) for j in range(9)]
    mean_square = np.mean([((wide[i] - wide[j]) ** 2).sum() for i, j in pairs])
    shift = 2 * max(np.linalg.norm(row - centre) for row in wide)
    for i, j in pairs:
        distance = np.linalg.norm(wide[i] - wide[j])
        lengths = np.linalg.norm(wide[i]) * np.linalg.norm(wide[j])
        expected = {
            "cosine": 0.5 + 0.5 * (wide[i] @ wide[j] / lengths if lengths else 0.0),
            "dot": wide[i] @ wide[j],
            "euclidean": shift - distance,
            "rbf": math.exp(-(distance**2) / mean_square),
        }[metric]
        assert s[i, j] == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert metric == "dot" or s.min() >= 0


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_gains_are_differences_of_values(features, lam):
    s = oracle.similarity(features, "cosine")
    lopsided = s + np.random.default_rng(1).random(s.shape)
    for problem, value in [
        (oracle.FacilityLocation(lopsided), lambda rows: oracle.facility_location_value(lopsided, rows)),
        (oracle.GraphCut(lopsided, lam), lambda rows: oracle.graph_cut_value(lopsided, rows, lam)),
        (oracle.LogDet(s, 0.1), lambda rows: oracle.log_det_value(s, rows, 0.1)),
    ]:
        taken: list[int] = []
        for row in (4, 0, 7):
            for j in range(9):
                if j not in taken:
                    gain = problem.gain(j, problem.values()[j])
                    assert gain == pytest.approx(value([*taken, j]) - value(taken), rel=1e-9, abs=1e-9)
            problem.add(row)
            taken.append(row)


def test_herding_score_orders_the_errors(features):
    problem = oracle.Herding(features)
    taken: list[int] = []
    for _ in range(4):
        row, value = problem.choose()
        errors = [oracle.herding_error(features, [*taken, j]) if j not in taken else np.inf for j in range(9)]
        assert errors[row] == pytest.approx(min(errors), rel=1e-9)
        assert problem.gain(row, value) == pytest.approx(errors[row], rel=1e-9)
        problem.add(row)
        taken.append(row)


def test_ties_go_to_the_lowest_row():
    s = np.eye(6)
    assert oracle.greedy(oracle.FacilityLocation(s), 6)[0] == list(range(6))
    s[4, 4] = 1 + 1e-13
    assert oracle.greedy(oracle.FacilityLocation(s), 1)[0] == [0], "inside the tolerance"
    s[4, 4] = 1 + 1e-11
    assert oracle.greedy(oracle.FacilityLocation(s), 1)[0] == [4], "outside the tolerance"


@pytest.mark.parametrize("seed", range(20))
def test_greedy_against_all_subsets(seed):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((9, 3)).astype(np.float32)
    s = oracle.similarity(points, "cosine")
    for k in (1, 2, 3):
        picks, gains = oracle.greedy(oracle.FacilityLocation(s), k)
        best, rows = oracle.best_subset(lambda rows: oracle.facility_location_value(s, rows), 9, k)
        assert sum(gains) >= (1 - 1 / math.e) * best
        assert k > 1 or tuple(picks) == rows
        distances = np.sqrt(oracle.squared_distances(points, points))
        optimum = min(oracle.radius(distances, rows) for rows in itertools.combinations(range(9), k))
        for first in range(9):
            picks, _ = oracle.greedy(oracle.KCenter(points), k, first)
            assert oracle.radius(distances, picks) <= 2 * optimum + 1e-12
