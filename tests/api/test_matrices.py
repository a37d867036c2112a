"""Precomputed matrices: sparse ones give the picks of the dense one, and bad ones say what is wrong."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch

import fastcore

X = np.random.default_rng(3).integers(0, 5, size=(16, 5)).astype(float)


def similarity():
    squared = ((X[:, None] - X[None]) ** 2).sum(-1)
    matrix = np.exp(-squared / 4)
    matrix[matrix < 0.02] = 0
    return matrix.astype(np.float32)


def torch_sparse(layout):
    def convert(matrix):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.from_numpy(matrix).to_sparse(layout=layout)

    return convert


def scipy_sparse(name):
    return lambda matrix: getattr(pytest.importorskip("scipy.sparse"), name)(matrix)


def uncoalesced(matrix):
    places = matrix.nonzero()
    values = matrix[places] / 2
    index = np.stack([np.concatenate([p, p]) for p in places])
    return torch.sparse_coo_tensor(
        torch.from_numpy(index),
        torch.from_numpy(np.concatenate([values, values])),
        matrix.shape,
        check_invariants=True,
    )


SPARSE = {
    "coo": torch_sparse(torch.sparse_coo),
    "csr": torch_sparse(torch.sparse_csr),
    "csc": torch_sparse(torch.sparse_csc),
    "uncoalesced": uncoalesced,
    **{
        name: scipy_sparse(name)
        for name in ("csr_array", "csc_array", "coo_array", "lil_array", "dok_array", "csr_matrix")
    },
}


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_matrices_give_the_picks_of_the_dense_one(kind):
    dense = fastcore.select("facility_location", similarity(), 6, metric="precomputed", weights="cluster")
    sparse = fastcore.select(
        "facility_location", SPARSE[kind](similarity()), 6, metric="precomputed", weights="cluster"
    )
    assert sparse.indices.tolist() == dense.indices.tolist()
    np.testing.assert_allclose(sparse.gains, dense.gains, rtol=1e-6)
    assert sparse.weights.tolist() == dense.weights.tolist()


@pytest.mark.filterwarnings("error")
def test_sparse_values_beyond_float32_are_named_and_nothing_else_is_said():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_array(np.array([[1.0, 0.0], [1e300, 1.0]]))
    with pytest.raises(ValueError, match="data must be finite, got inf at row 1, column 0"):
        fastcore.select("graph_cut", matrix, 1, metric="precomputed")


def test_a_method_without_sparse_support_says_so():
    with pytest.raises(TypeError, match="k_center needs a dense matrix, got a sparse one"):
        fastcore.select("k_center", torch.eye(4).to_sparse(), 2, metric="precomputed")


@pytest.mark.parametrize(
    ("method", "data", "kind", "message"),
    [
        (
            "k_center",
            X,
            ValueError,
            f"metric='precomputed' needs a square distance matrix, got data of shape ({len(X)}, 5)",
        ),
        (
            "graph_cut",
            X,
            ValueError,
            f"metric='precomputed' needs a square similarity matrix, got data of shape ({len(X)}, 5)",
        ),
        ("graph_cut", np.zeros((0, 0)), ValueError, "data must not be empty, got shape (0, 0)"),
        (
            "k_center",
            np.array([[0, -1.5], [1, 0]]),
            ValueError,
            "data must hold distances of at least 0, got -1.5",
        ),
        ("graph_cut", np.array([[0, np.nan], [1, 0]]), ValueError, "got nan at row 0, column 1"),
        (
            "facility_location",
            torch.tensor([[1, 0], [np.inf, 1]]).to_sparse(),
            ValueError,
            "data must be finite, got inf at row 1, column 0",
        ),
        (
            "facility_location",
            torch.zeros(2, 3).to_sparse(),
            ValueError,
            "needs a square similarity matrix, got data of shape (2, 3)",
        ),
        (
            "herding",
            np.eye(3),
            ValueError,
            "metric of herding must be one of 'euclidean', 'cosine', got 'precomputed'",
        ),
        (
            "k_center",
            fastcore.LastLayerGradients(X, X),
            TypeError,
            "metric='precomputed' needs a distance matrix, got LastLayerGradients",
        ),
        (
            "graph_cut",
            fastcore.Signals(embeddings=X),
            TypeError,
            "metric='precomputed' needs a similarity matrix, got Signals",
        ),
    ],
)
def test_bad_matrices_say_what_they_are(method, data, kind, message):
    with pytest.raises(kind) as caught:
        fastcore.select(method, data, 1, metric="precomputed")
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize(("row", "column"), [(3, 3), (5, 12)])
@pytest.mark.parametrize("method", ["facility_location", "graph_cut", "log_det"])
def test_entries_that_are_not_finite_are_named_in_symmetric_matrices(method, row, column, value):
    matrix = similarity().astype(np.float64)
    matrix[row, column] = matrix[column, row] = value
    with pytest.raises(
        ValueError,
        match=re.escape(f"data must be finite in float32, got {value} at row {row}, column {column}"),
    ):
        fastcore.select(method, matrix, 4, metric="precomputed")
