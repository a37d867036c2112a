"""Which pick represents each row, class by class, against a plain loop in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcore import assignment
from fastcore.assignment import assign
from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.similarity import Similarity, view
from tests.greedy.support import Watch

METRICS = ("cosine", "dot", "euclidean", "rbf")
KINDS = [f"{what} {metric}" for what in ("features", "gradients") for metric in METRICS]
KINDS += [f"{what} {pairs}" for what in ("dense", "sparse") for pairs in ("similarity", "distance")]


def closest(kind: str, rows: np.ndarray, more: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(n, n) how close row and column are, larger is closer, exact for small integers."""
    what, metric = kind.split()
    if what in ("dense", "sparse"):
        return -matrix if metric == "distance" else matrix
    if what == "gradients":
        wide = np.c_[np.ones(len(more)), more]
        rows = np.einsum("nc,nd->ncd", rows, wide).reshape(len(rows), -1)
    if metric in ("euclidean", "rbf"):
        return -((rows[:, None] - rows[None]) ** 2).sum(-1)
    products = rows @ rows.T
    if metric == "dot":
        return products
    squares = np.maximum(np.diag(products), 1)  # rows of zeros are at right angles to all
    # cos^2 with its sign, in whole numbers over one denominator: ties of cosines are ties here, to rounding.
    return np.round(np.sign(products) * products**2 / squares[:, None] / squares[None], 13)


def brute_force(closeness: np.ndarray, labels: np.ndarray, picks: np.ndarray) -> list[int]:
    owners = []
    for i, label in enumerate(labels):
        mine = np.flatnonzero(labels[picks] == label)
        mine = mine if len(mine) else np.arange(len(picks))
        owners.append(int(mine[closeness[i, picks[mine]].argmax()]))
    return owners


def make(kind: str, seed: int) -> tuple[Similarity, np.ndarray, np.ndarray]:
    """Small whole numbers, so that many pairs tie and all is exact; a matrix is half zeros."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 90))
    rows, more = rng.integers(-2, 3, (n, 3)), rng.integers(-2, 3, (n, 2))
    matrix = rng.integers(-2, 3, (n, n)) * (rng.random((n, n)) < 0.5)
    what, metric = kind.split()
    if metric == "distance":
        matrix = np.abs(matrix)
    x, y, entries = (torch.from_numpy(a).float() for a in (rows, more, matrix))
    if what == "sparse":  # with some zeros as entries of their own
        at = ((entries != 0) | (torch.from_numpy(rng.random((n, n))) < 0.2)).nonzero().T
        entries = torch.sparse_coo_tensor(at, entries[at[0], at[1]], (n, n), check_invariants=True)
    data = {"features": x, "gradients": LastLayerGradients(x, y)}.get(what, entries)
    made = view(data, metric if metric in METRICS else "precomputed")
    closeness = closest(kind, *(a.astype(np.float64) for a in (rows, more, matrix)))
    return made, closeness, rng.integers(0, rng.integers(1, 12), n)


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_goes_to_the_closest_pick_of_its_class(kind, tile, monkeypatch):
    if tile is not None:
        monkeypatch.setattr(assignment, "_TILE", tile)
        monkeypatch.setattr(assignment, "TILE_BYTES", 500)
    for seed in range(12):
        rows, closeness, labels = make(kind, seed)
        rng = np.random.default_rng(seed + 100)
        picks = rng.permutation(len(labels))[: rng.integers(1, len(labels) + 1)]
        partition = Partition.by_label(torch.from_numpy(labels), 0)
        owners = assign(rows, partition, torch.from_numpy(picks), kind.split()[1])
        assert owners.tolist() == brute_force(closeness, labels, picks), (kind, seed)
        whole = assign(rows, Partition.whole(rows.n, 0), torch.from_numpy(picks), kind.split()[1])
        assert whole.tolist() == brute_force(closeness, np.zeros_like(labels), picks), (kind, seed)


@pytest.mark.parametrize("metric", ["euclidean", "rbf"])
@pytest.mark.parametrize("tile", [1024, 3, "bounds"])
def test_equal_but_for_rounding(metric, tile, monkeypatch):
    """Far from the origin, picks at one distance from a row: the first of them, whatever rounding says."""
    monkeypatch.setattr(assignment, "WORTH_BOUNDS", 1)
    if tile != "bounds":
        monkeypatch.setattr(assignment, "_TILE", tile)
    rng = np.random.default_rng(2)
    for width in (200, 2000):
        grid = 2.0**-10
        base = (rng.integers(2**22, 2**23, width) * grid).astype(np.float32)
        step = rng.integers(-40, 41, width) * 8 * grid
        around = np.stack([base + step * rng.choice([-1, 1], width) for _ in range(12)]).astype(np.float32)
        farther = base + 2 * step
        x = torch.from_numpy(np.stack([base, farther, *around]).astype(np.float32))
        rows = view(LastLayerGradients(torch.ones(14, 1), x) if tile == "bounds" else x, metric, 1e-9)
        owners = assign(rows, Partition.whole(14, 0), torch.arange(1, 14), "similarity")
        assert owners.tolist() == [1, *range(13)], width


@pytest.mark.parametrize("kind", ["features euclidean", "dense", "sparse"])
def test_there_is_no_loop_over_classes(kind):
    calls = []
    for classes in (20, 400):
        data = torch.randn(2000, 8)
        metric = "precomputed" if kind in ("dense", "sparse") else "euclidean"
        data = data @ data.T if metric == "precomputed" else data
        rows = view(
            data.to_sparse() if kind == "sparse" else data, "precomputed" if len(kind) < 9 else "cosine"
        )
        partition = Partition.by_label(torch.arange(2000) % classes, 0)
        with Watch() as watch:
            assign(rows, partition, torch.arange(classes))
        calls.append(watch.calls)
    assert calls[1] <= 2 * calls[0], calls


def test_no_array_of_all_rows_and_all_picks():
    rows = view(torch.randn(30_000, 4), "cosine")
    rows.diagonal()
    for partition in (Partition.whole(30_000, 0), Partition.by_label(torch.arange(30_000) // 10_000, 0)):
        with Watch() as watch:
            assign(rows, partition, torch.arange(0, 30_000, 10))
        assert watch.largest < 16 << 20 < 8 * 30_000 * 1000
