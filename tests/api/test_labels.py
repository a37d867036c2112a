"""Labels and preselected rows: every kind means the same, and bad ones say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastcore
from fastcore import inputs

X = np.random.default_rng(3).normal(size=(16, 5))
Y = np.arange(len(X)) % 3


@pytest.mark.parametrize(
    "labels",
    [
        Y.astype(np.int8),
        Y.astype(np.uint64),
        Y.astype(np.float32),
        Y.tolist(),
        torch.from_numpy(Y),
        torch.from_numpy(Y).bfloat16(),
        np.array(["ant", "bee", "cow"])[Y],
        np.array(["ant", "bee", "cow"], dtype=object)[Y],
        [("ant", "bee", "cow")[c] for c in Y],
        Y - 10,
        Y.astype(np.uint64) + np.uint64(2**63),
    ],
    ids=lambda each: f"{type(each).__name__}",
)
def test_labels_of_any_kind_mean_the_same_classes(labels):
    codes, classes = inputs.as_labels(labels, len(X))
    assert codes.tolist() == Y.tolist() and codes.dtype == torch.int64
    assert len(classes) == 3
    assert picks_balanced(labels) == picks_balanced(Y)


def picks_balanced(labels):
    return fastcore.select("uniform", X, 6, labels=labels).indices.tolist()


def test_labels_of_pandas_and_booleans():
    pandas = pytest.importorskip("pandas")
    names = pandas.Series(["ant", "bee", "cow"])[Y]
    assert picks_balanced(names) == picks_balanced(Y)
    assert picks_balanced(names.astype("category")) == picks_balanced(Y)
    assert inputs.as_labels(Y == 1, len(X))[0].tolist() == (Y == 1).tolist()
    with pytest.raises(ValueError, match="labels must be whole numbers or strings, got nan at row 2"):
        inputs.as_labels(pandas.array([1, 2, None] + [0] * (len(X) - 3), dtype="Int64"), len(X))


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (Y[:4], ValueError, f"labels must have shape ({len(X)},), one label a row, got (4,)"),
        (Y[:, None], ValueError, f"labels must have shape ({len(X)},), one label a row, got ({len(X)}, 1)"),
        (Y + 0.5, ValueError, "labels must be whole numbers or strings, got 0.5 at row 0"),
        (
            np.where(Y == 1, np.nan, Y),
            ValueError,
            "labels must be whole numbers or strings, got nan at row 1",
        ),
        ([None] * len(X), ValueError, "labels must not be missing, got None at row 0"),
        (
            np.array(["a", 1] * (len(X) // 2), dtype=object),
            TypeError,
            "labels must be of one kind, got a mix of int, str",
        ),
        (
            ["a", "b", float("nan"), *"abcabcabcabca"],
            ValueError,
            "labels must not be missing, got nan at row 2",
        ),
        (["a", 1] * (len(X) // 2), TypeError, "labels must be of one kind, got a mix of int, str"),
        (torch.zeros(len(X)).to_sparse(), TypeError, "labels must be one label a row, got a sparse tensor"),
        (torch.zeros(len(X), device="meta"), TypeError, "labels must hold values, got a tensor on the meta"),
        (Y.astype(complex), TypeError, "labels must be integers, strings or booleans, got dtype complex128"),
        ("a" * len(X), TypeError, "labels must be an array or a list with one label a row, got str"),
        (7, TypeError, "labels must be an array or a list with one label a row, got int"),
        ([[1], [1, 2]], ValueError, "labels must be one label a row, got rows of different lengths"),
    ],
    ids=str,
)
def test_bad_labels_say_what_they_are(labels, kind, message):
    with pytest.raises(kind) as caught:
        fastcore.select("uniform", X, 3, labels=labels)
    assert message in str(caught.value)


# ---- preselected --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preselected", "options", "kind", "message"),
    [
        ([0, 3, 0], {}, ValueError, "preselected rows must be unique, got 0 more than once"),
        ([0, 16], {}, ValueError, f"preselected rows must be between 0 and {len(X) - 1}, got 16"),
        ([-1], {}, ValueError, f"preselected rows must be between 0 and {len(X) - 1}, got -1"),
        (
            [0.5],
            {},
            TypeError,
            "preselected must be integer row numbers or 2-D features, got dtype torch.float64",
        ),
        (
            np.ones(len(X), bool),
            {},
            TypeError,
            "preselected must be integer row numbers or 2-D features, got dtype torch.bool",
        ),
        (
            X[None],
            {},
            ValueError,
            f"preselected must be row numbers or 2-D features, got shape (1, {len(X)}, 5)",
        ),
        (X[:, :3], {}, ValueError, "preselected features must have 5 columns like data, got 3"),
        (
            X,
            {"labels": Y},
            ValueError,
            "preselected features need one ground set, got 3 classes: use row numbers or balance=False",
        ),
        (
            np.where(np.arange(5) == 2, np.nan, X),
            {},
            ValueError,
            "preselected must be finite in float32, got nan at row 0, column 2",
        ),
        (7, {}, TypeError, "preselected must be a torch tensor"),
    ],
    ids=str,
)
def test_bad_preselected_says_what_it_is(preselected, options, kind, message):
    with pytest.raises(kind) as caught:
        fastcore.select("k_center", X, 3, preselected=preselected, **options)
    assert message in str(caught.value)


def test_preselected_features_need_features():
    with pytest.raises(
        ValueError, match="preselected must be row numbers when metric='precomputed', got a 2-D array"
    ):
        fastcore.select("graph_cut", np.eye(16), 3, metric="precomputed", preselected=X)


@pytest.mark.parametrize("rows", [range(2, 9), (2, 3, 4, 5, 6, 7, 8), np.arange(2, 9, dtype=np.uint8)])
def test_any_row_numbers(rows):
    plain = fastcore.select("k_center", X, 6, preselected=[2, 3, 4, 5, 6, 7, 8])
    assert fastcore.select("k_center", X, 6, preselected=rows).indices.tolist() == plain.indices.tolist()


@pytest.mark.parametrize("nothing", [None, [], np.array([], int), torch.zeros(0, 5)])
def test_nothing_preselected(nothing):
    plain = fastcore.select("k_center", X, 6)
    assert fastcore.select("k_center", X, 6, preselected=nothing).indices.tolist() == plain.indices.tolist()
