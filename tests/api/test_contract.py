"""What every method owes, checked for all that the registry lists: a new method is tested by being there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcore
from fastcore.budget import Partition
from tests.api.material import COMPARING, METHODS, select

RNG = np.random.default_rng(11)
X = RNG.normal(size=(70, 9)).astype(np.float32) + 0.5
Y = RNG.choice(5, size=70, p=[0.5, 0.2, 0.15, 0.1, 0.05])

MAY_BE_INFINITE = {"k_center", "contextual_diversity", "forgetting"}
CASES = [(name, metric) for name in METHODS for metric in fastcore.get_method(name).metrics or [None]]


def check(selection, n, k, budgets=None, labels=None):
    indices = selection.indices
    assert indices.shape == (k,) and indices.dtype == np.int64
    assert len(set(indices.tolist())) == k and 0 <= indices.min() and indices.max() < n
    method = fastcore.get_method(selection.info["method"])
    if method.order == "random":
        assert selection.gains is None
    else:
        assert selection.gains.shape == (k,) and selection.gains.dtype == np.float64
        assert not np.isnan(selection.gains).any()
        assert np.isfinite(selection.gains).all() or method.name in MAY_BE_INFINITE
    if budgets is not None:
        assert np.bincount(labels[indices], minlength=len(budgets)).tolist() == budgets
        turns = [int((labels[indices[:i]] == labels[row]).sum()) for i, row in enumerate(indices)]
        assert turns == sorted(turns), "classes take turns"


@pytest.mark.parametrize(("name", "metric"), CASES)
@pytest.mark.parametrize("k", [1, 2, 25, 70])
def test_one_ground_set(name, metric, k):
    selection = select(name, X, k, metric=metric)
    check(selection, 70, k)
    assert select(name, X, k, metric=metric).indices.tolist() == selection.indices.tolist()


@pytest.mark.parametrize(("name", "metric"), CASES)
@pytest.mark.parametrize("k", [1, 3, 12, 70])
def test_balanced(name, metric, k):
    selection = select(name, X, k, metric=metric, labels=Y)
    check(selection, 70, k, Partition.by_label(torch.from_numpy(Y), k).budgets.tolist(), Y)
    again = select(name, X, k, metric=metric, labels=Y)
    assert again.indices.tolist() == selection.indices.tolist()


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_a_class_is_a_selection_of_its_own(name, metric):
    if metric in ("euclidean", "rbf") and name in ("facility_location", "graph_cut", "log_det"):
        pytest.skip("the constants of the metric come from all rows")
    order = fastcore.get_method(name).order
    if order == "random" or name in ("k_center", "contextual_diversity"):
        pytest.skip("the random start is drawn per class")
    ties = {"ties": "row"} if order == "score" else {}  # the permutation is one of all rows
    balanced = select(name, X, 20, metric=metric, labels=Y, **ties)
    for c in np.unique(Y):
        rows = np.flatnonzero(Y == c)
        mine = balanced.indices[Y[balanced.indices] == c]
        alone = select(name, X[rows], len(mine), metric=metric, **ties)
        assert rows[alone.indices].tolist() == mine.tolist()


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_a_prefix_is_the_selection_for_a_smaller_budget(name, metric):
    if not fastcore.get_method(name).prefix:
        pytest.skip("not declared")
    large = select(name, X, 40, metric=metric)
    small = select(name, X, 13, metric=metric)
    assert small.indices.tolist() == large.indices[:13].tolist()
    if small.gains is not None:
        np.testing.assert_allclose(small.gains, large.gains[:13], rtol=1e-6)
    large, small = (select(name, X, k, metric=metric, labels=Y).indices for k in (40, 13))
    for c in np.unique(Y):
        mine = small[Y[small] == c].tolist()
        assert mine == large[Y[large] == c][: len(mine)].tolist()


@pytest.mark.parametrize(
    "name", [name for name in COMPARING if fastcore.get_method(name).needs != ("gradients",)]
)
@pytest.mark.parametrize("kind", ["half", "strided", "double"])
def test_other_dtypes_and_strides_change_nothing(name, kind):
    exact = np.round(X * 8) / 8  # eighths: the same numbers in every dtype
    plain = fastcore.select(name, exact, 20, labels=Y)
    wide = np.zeros((140, 18), np.float32)
    wide[::2, ::2] = exact
    data = {"half": exact.astype(np.float16), "strided": wide[::2, ::2], "double": exact.astype(np.float64)}[
        kind
    ]
    assert fastcore.select(name, data, 20, labels=Y).indices.tolist() == plain.indices.tolist()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_backends_make_the_same_picks(name, backend):
    from fastcore import ops

    try:
        with ops.use_backend(backend):
            ops.active_backend("cpu")
    except RuntimeError as error:
        pytest.skip(str(error))
    for labels in (None, Y):
        plain = select(name, X, 20, labels=labels)
        assert select(name, X, 20, labels=labels, backend=backend).indices.tolist() == plain.indices.tolist()


@pytest.mark.parametrize("name", METHODS)
def test_preselected_rows_are_not_picked_again(name):
    taken = np.array([5, 0, 44, 13])
    for labels in (None, Y):
        selection = select(name, X, 66, labels=labels, preselected=taken)
        check(selection, 70, 66)
        assert not set(taken.tolist()) & set(selection)
        assert selection.info["preselected"] == 4


@pytest.mark.parametrize("name", [name for name in METHODS if fastcore.get_method(name).order == "greedy"])
def test_a_selection_goes_on_where_it_stopped(name):
    whole = select(name, X, 30)
    begun = whole.indices[:12]
    rest = select(name, X, 18, preselected=begun)
    assert rest.indices.tolist() == whole.indices[12:].tolist()
    if name in COMPARING:
        outside = fastcore.select(name, np.delete(X, begun, 0), 5, preselected=X[begun])
        check(outside, 58, 5)


@pytest.mark.parametrize("name", METHODS)
def test_full_classes_give_way(name):
    taken = np.flatnonzero(Y == 0)
    selection = select(name, X, 10, labels=Y, preselected=taken)
    expected = Partition.by_label(
        torch.from_numpy(Y), 10, preselected=torch.from_numpy(taken)
    ).budgets.tolist()
    assert expected[0] == 0
    check(selection, 70, 10, expected, Y)


HOSTILE = {
    "one row": np.array([[1.0, 2.0, 3.0]]),
    "one column": RNG.normal(size=(9, 1)),
    "all equal": np.ones((12, 4)),
    "all zero": np.zeros((12, 4)),
    "some zero rows": np.where(np.arange(14)[:, None] % 3 == 0, 0, RNG.normal(size=(14, 6))),
    "duplicates": np.repeat(RNG.normal(size=(5, 6)), 4, axis=0),
    "large": RNG.normal(size=(20, 5)) * 1e4,
    "huge": RNG.normal(size=(20, 5)) * 1e15,
    "tiny": RNG.normal(size=(20, 5)) * 1e-15,
    "far from the origin": RNG.normal(size=(20, 5)) + 1e3,
    "integers": RNG.integers(-2, 3, size=(40, 3)).astype(float),
    "odd sizes": RNG.normal(size=(257, 33)),
    "wide": RNG.normal(size=(6, 500)),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_features(name, kind):
    data = HOSTILE[kind]
    n = len(data)
    for k in sorted({1, (n + 1) // 2, n}):
        if name in COMPARING:
            selection = select(name, data, k, weights="cluster")
            assert selection.weights.sum() == n
        else:
            selection = select(name, data, k)
        check(selection, n, k)
    labels = np.arange(n) % min(n, 3)
    check(select(name, data, n, labels=labels), n, n, np.bincount(labels).tolist(), labels)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["one class", "a class each", "one of many"])
def test_hostile_labels(name, kind):
    labels = {
        "one class": np.zeros(70, int),
        "a class each": np.arange(70),
        "one of many": (np.arange(70) == 33) * 1,
    }[kind]
    for k in (1, 17, 70):
        budgets = Partition.by_label(torch.from_numpy(labels), k).budgets.tolist()
        check(select(name, X, k, labels=labels), 70, k, budgets, labels)
    if kind == "one class":
        whole = select(name, X, 17).indices.tolist()
        assert select(name, X, 17, labels=labels).indices.tolist() == whole


@settings(max_examples=25)
@given(st.data())
@pytest.mark.parametrize("name", METHODS)
def test_any_small_problem(name, data):
    n, d = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    rows = np.array(
        data.draw(st.lists(st.lists(st.integers(-2, 2), min_size=d, max_size=d), min_size=n, max_size=n))
    )
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    k = data.draw(st.integers(1, n))
    check(select(name, rows, k), n, k)
    classes, codes = np.unique(labels, return_inverse=True)
    budgets = Partition.by_label(torch.from_numpy(codes), k).budgets.tolist()
    check(select(name, rows, k, labels=labels), n, k, budgets, codes)
