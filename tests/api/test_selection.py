"""``Selection``: an array, a subset and a sampler, and assignments against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fastcore
from tests.api.material import COMPARING

RNG = np.random.default_rng(7)
X = RNG.normal(size=(60, 5)).astype(np.float32)
Y = np.arange(60) % 4


@pytest.fixture
def selection():
    return fastcore.select("k_center", X, 9, labels=Y, weights="cluster", seed=2)


# ---- as an array --------------------------------------------------------------------------------


def test_it_is_an_array_of_row_numbers(selection):
    indices = selection.indices
    assert indices.dtype == np.int64 and indices.shape == (9,)
    np.testing.assert_array_equal(np.asarray(selection), indices)
    np.testing.assert_array_equal(torch.as_tensor(selection), indices)
    np.testing.assert_array_equal(X[selection], X[indices])
    assert torch.equal(torch.from_numpy(X)[torch.as_tensor(selection)], torch.from_numpy(X[indices]))
    assert len(selection) == 9 and list(selection) == indices.tolist()
    assert all(type(i) is int for i in selection)
    assert selection[0] == indices[0] and type(selection[0]) is int
    np.testing.assert_array_equal(selection[:4], indices[:4])


def test_array_dtype_and_copy(selection):
    assert np.asarray(selection, dtype=np.int32).dtype == np.int32
    assert np.shares_memory(np.asarray(selection), selection.indices)
    assert np.shares_memory(np.array(selection, copy=False), selection.indices)
    assert not np.shares_memory(np.array(selection), selection.indices)
    assert not np.shares_memory(np.array(selection, copy=True), selection.indices)
    with pytest.raises(ValueError, match="int64"):
        np.array(selection, dtype=np.int32, copy=False)


def test_it_is_frozen_and_says_what_it_is(selection):
    with pytest.raises(AttributeError):
        selection.indices = np.arange(3)
    assert repr(selection).startswith("Selection('k_center', k=9, n=60, seconds=")
    assert "\n" not in repr(selection)


def test_gains_are_of_the_same_order(selection):
    assert selection.gains.dtype == np.float64 and selection.gains.shape == (9,)
    assert np.isinf(selection.gains[:4]).all() and np.isfinite(selection.gains[4:]).all()
    assert selection.scores is None
    assert fastcore.select("uniform", X, 3).gains is None


# ---- with a data set ----------------------------------------------------------------------------


def test_subset_is_the_picks_in_order(selection):
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    subset = selection.subset(data)
    assert isinstance(subset, torch.utils.data.Subset) and len(subset) == 9
    np.testing.assert_array_equal(torch.stack([row for row, _ in subset]), X[selection.indices])
    with pytest.raises(ValueError, match="dataset must have the 60 rows of the selection, got 59"):
        selection.subset(X[:59])


def test_sampler_visits_every_pick_once_an_epoch(selection):
    data = TensorDataset(torch.arange(60))
    for shuffle in (True, False):
        sampler = selection.sampler(shuffle=shuffle)
        assert len(sampler) == 9
        loader = DataLoader(data, batch_size=4, sampler=sampler)
        for _ in range(2):
            seen = torch.cat([batch for (batch,) in loader]).tolist()
            assert sorted(seen) == sorted(selection) and (shuffle or seen == list(selection))
    orders = [list(selection.sampler(generator=torch.Generator().manual_seed(s))) for s in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


# ---- assignments --------------------------------------------------------------------------------


def closest(metric, features, picks):
    """(n, k) how close rows and picks are, larger is closer, in float64 from the definition."""
    x, p = features.astype(np.float64), features[picks].astype(np.float64)
    if metric == "dot":
        return x @ p.T
    if metric == "cosine":
        return (x / np.linalg.norm(x, axis=1)[:, None]) @ (p / np.linalg.norm(p, axis=1)[:, None]).T
    return -((x[:, None] - p[None]) ** 2).sum(-1)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "rbf"])
@pytest.mark.parametrize("labels", [None, Y], ids=["whole", "balanced"])
def test_assignments_are_the_most_similar_picks(metric, labels):
    selection = fastcore.select("facility_location", X, 9, metric=metric, labels=labels)
    closeness = closest(metric, X, selection.indices)
    if labels is not None:
        closeness[labels[:, None] != labels[selection.indices]] = -np.inf
    assigned = selection.assignments()
    assert assigned.dtype == np.int64 and assigned.shape == (60,)
    np.testing.assert_array_equal(assigned, closeness.argmax(1))
    np.testing.assert_array_equal(selection.assignments(X.astype(np.float64), labels), assigned)
    weighted = fastcore.select("facility_location", X, 9, metric=metric, labels=labels, weights="cluster")
    np.testing.assert_array_equal(weighted.weights, np.bincount(assigned, minlength=9))
    np.testing.assert_array_equal(weighted.assignments(), assigned)


@pytest.mark.parametrize("method", ["k_center", "facility_location"])
def test_assignments_of_a_matrix_follow_its_meaning(method):
    matrix = RNG.uniform(0.1, 1, size=(30, 30))  # not symmetric: entry [i, j] is of row i with pick j
    selection = fastcore.select(method, matrix, 5, metric="precomputed", weights="cluster")
    to_picks = matrix.astype(np.float32)[:, selection.indices]
    expected = to_picks.argmin(1) if method == "k_center" else to_picks.argmax(1)
    np.testing.assert_array_equal(selection.assignments(matrix), expected)
    assert selection.weights.tolist() == np.bincount(expected, minlength=5).tolist()


@pytest.mark.parametrize("method", COMPARING)
@pytest.mark.parametrize("labels", [None, Y], ids=["whole", "balanced"])
def test_weights_sum_to_n(method, labels):
    weights = fastcore.select(method, X, 9, labels=labels, weights="cluster").weights
    assert (
        weights.dtype == np.float64 and weights.shape == (9,) and weights.sum() == 60 and weights.min() >= 0
    )


def test_every_pick_represents_itself_even_among_near_copies():
    base = RNG.normal(size=(1, 50)) * 100
    rows = (base + RNG.normal(size=(40, 50)) * 1e-3).astype(np.float32)
    selection = fastcore.select("k_center", rows, 20)
    assert selection.assignments()[selection.indices].tolist() == list(range(20))


@pytest.mark.parametrize("metric", ["euclidean", "rbf", "cosine", "dot"])
def test_equal_picks_go_to_the_earlier_one(metric):
    rows = np.repeat(RNG.normal(size=(7, 33)).astype(np.float32) * 3, 4, axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # so that under "dot" a row is closest to itself
    selection = fastcore.select("uniform", rows, 28, metric=metric, seed=5)
    group = np.arange(28) // 4
    first = {g: min(np.flatnonzero(group[selection.indices] == g)) for g in range(7)}
    assert selection.assignments().tolist() == [first[g] for g in group]


def test_far_rows_of_rbf_go_to_the_nearest_though_the_similarity_is_zero():
    rows = np.array([[0.0], [1.0], [1000.0], [1001.0], [5000.0]], np.float32)
    selection = fastcore.select("uniform", rows, 2, metric="rbf", gamma=1.0, seed=3)
    np.testing.assert_array_equal(selection.assignments(), np.abs(rows - rows[selection.indices].T).argmin(1))


def test_a_pick_far_away_blurs_no_other():
    rows = np.concatenate([X, np.full((1, 5), 1e9, np.float32)])
    selection = fastcore.select("k_center", rows, 9, start=60)
    assert selection.indices[0] == 60
    expected = closest("euclidean", rows, selection.indices).argmax(1)
    np.testing.assert_array_equal(selection.assignments(), expected)


def test_a_class_without_picks_goes_to_the_best_pick_of_all():
    labels = np.array([0] * 29 + [1] + [2] * 30)
    selection = fastcore.select("k_center", X, 2, labels=labels, weights="cluster")
    assert sorted(labels[selection.indices]) == [0, 2]
    expected = closest("euclidean", X, selection.indices)
    own = labels[:, None] == labels[selection.indices]
    expected = np.where(own | (labels == 1)[:, None], expected, -np.inf).argmax(1)
    np.testing.assert_array_equal(selection.assignments(), expected)
    assert selection.weights.sum() == 60


def test_assignments_across_tiles(monkeypatch):
    selection = fastcore.select("k_center", X, 30)
    whole = selection.assignments()
    monkeypatch.setattr("fastcore.assignment._TILE", 7)
    np.testing.assert_array_equal(selection.assignments(), whole)


def test_the_data_is_not_kept_alive():
    data = X.copy()
    selection = fastcore.select("facility_location", data, 5, labels=Y)
    expected = selection.assignments()
    del data
    with pytest.raises(
        ValueError, match=r"features of this selection are gone: pass them, assignments\(features\)"
    ):
        selection.assignments()
    np.testing.assert_array_equal(selection.assignments(X), expected)
    from_list = fastcore.select("k_center", X.tolist(), 5)
    with pytest.raises(ValueError, match="are gone"):
        from_list.assignments()
    with pytest.raises(ValueError, match="features must have the 60 rows of the selection, got 59"):
        selection.assignments(X[:59])
