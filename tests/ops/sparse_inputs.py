"""Inputs of the ops on sparse matrices for the op table: ground sets of any size behind each other."""

from __future__ import annotations

import numpy as np
import torch

from tests.ops.inputs import Arguments, rows_of, tensor


def facility_location_sparse(
    rng: np.random.Generator, sizes: tuple[int, ...], density: float, kind: str
) -> Arguments:
    """Columns whose rows come in no order, and bounds of every kind."""
    filled = _filled(rng, sizes, density)
    rows = len(filled)
    column, row = np.nonzero(filled)
    order = rng.permutation(len(row))
    column, row = column[order], row[order]
    order = np.argsort(column, kind="stable")
    column, row = column[order], row[order]
    values = np.abs(rows_of(rng, (1, 1, len(row)), kind)[0, 0])
    if kind == "duplicates":
        values = np.round(values * 2) / 2
    gains = np.bincount(column, values, rows)
    bounds = gains * rng.choice([1.0, 1.5], rows)
    bounds[rng.random(rows) < 0.5] = np.inf
    bounds[rng.random(rows) < 0.1] = -np.inf
    return {
        **_lists(filled, row),
        "values": tensor(values, torch.float32),
        "coverage": tensor(rng.integers(0, 2, rows) * 0.5),
        "bounds": tensor(bounds),
        **_sets(sizes, gains, kind),
    }


def graph_cut_sparse(
    rng: np.random.Generator, sizes: tuple[int, ...], density: float, kind: str
) -> Arguments:
    """Symmetric weights of any sign, also of rows with themselves, and gains that are no sums of them."""
    filled = _filled(rng, sizes, density)
    filled |= filled.T
    row, other = np.nonzero(filled)
    weights = np.zeros(filled.shape)
    weights[row, other] = rows_of(rng, (1, 1, len(row)), kind)[0, 0]
    weights = (np.round(weights * 2) / 2 if kind == "duplicates" else weights) / 2
    weights += weights.T
    values = np.abs(weights).sum(1)
    if kind in ("integer", "duplicates"):
        values = rng.integers(-3, 4, len(filled)).astype(np.float64)
    values[rng.random(len(filled)) < 0.1] = -np.inf
    shared = _sets(sizes, np.where(np.isfinite(values), values, 0.0), kind)
    most = shared.pop("most")
    return {
        **_lists(filled, other),
        "weights": tensor(weights[row, other]),
        "values": tensor(values),
        **shared,
        "penalty": 0.5 if kind == "integer" else 0.8,
        "most": most,
    }


def _filled(rng: np.random.Generator, sizes: tuple[int, ...], density: float) -> np.ndarray:
    """The rows (n, n) within the same set that have an entry, some of them none."""
    rows = sum(sizes)
    member = np.repeat(np.arange(len(sizes)), sizes)
    filled = member[:, None] == member
    filled &= rng.random((rows, rows)) < (density if rows < 1000 else 0.02)
    filled[rng.random(rows) < 0.2] = False
    return filled


def _lists(filled: np.ndarray, indices: np.ndarray) -> Arguments:
    return {
        "offsets": tensor(np.concatenate([[0], np.cumsum(filled.sum(1))]), torch.int64),
        "indices": tensor(indices, torch.int64),
    }


def _sets(sizes: tuple[int, ...], gains: np.ndarray, kind: str) -> Arguments:
    """Sets of these sizes, in turn with a budget that no set can fill, of half of the rows, of none; large ones of
    a few hundred."""
    member = np.repeat(np.arange(len(sizes)), sizes)
    budgets = [min(200, (size, (size + 1) // 2, 0)[g % 3]) for g, size in enumerate(sizes)]
    floor = [1e-12 * float(np.abs(gains[member == g]).max(initial=0.0)) for g in range(len(sizes))]
    if kind == "integer":
        floor = [0.5 * (g % 3) for g in range(len(sizes))]  # sets differ in what is a tie
    return {
        "starts": tensor(np.concatenate([[0], np.cumsum(sizes)]), torch.int64),
        "budgets": tensor(budgets, torch.int64),
        "floor": tensor(floor),
        "most": min(len(member), max(budgets)),
    }
