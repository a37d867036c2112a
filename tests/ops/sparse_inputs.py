"""Inputs of facility_location_sparse for the op table: ground sets of any size behind each other."""

from __future__ import annotations

import numpy as np
import torch

from tests.ops.inputs import Arguments, rows_of, tensor


def facility_location_sparse(
    rng: np.random.Generator, sizes: tuple[int, ...], density: float, kind: str
) -> Arguments:
    """Sets of these sizes, in turn with a budget that no set can fill, of half of the rows, of none."""
    rows = sum(sizes)
    member = np.repeat(np.arange(len(sizes)), sizes)
    filled = member[:, None] == member
    filled &= rng.random((rows, rows)) < (density if rows < 1000 else 0.02)
    filled[rng.random(rows) < 0.2] = False  # columns without an entry
    column, row = np.nonzero(filled)
    order = rng.permutation(len(row))  # the rows of a column come in no order
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
    budgets = [(size, (size + 1) // 2, 0)[g % 3] for g, size in enumerate(sizes)]
    floor = [1e-12 * float(gains[member == g].max(initial=0.0)) for g in range(len(sizes))]
    if kind == "integer":
        floor = [0.5 * (g % 3) for g in range(len(sizes))]  # sets differ in what is a tie
    return {
        "offsets": tensor(np.concatenate([[0], np.cumsum(filled.sum(1))]), torch.int64),
        "indices": tensor(row, torch.int64),
        "values": tensor(values, torch.float32),
        "coverage": tensor(rng.integers(0, 2, rows) * 0.5),
        "bounds": tensor(bounds),
        "starts": tensor(np.concatenate([[0], np.cumsum(sizes)]), torch.int64),
        "budgets": tensor(budgets, torch.int64),
        "floor": tensor(floor),
        "most": min(rows, max(budgets)),
    }
