"""Inputs of ops on gradients of which a few coordinates are known."""

from __future__ import annotations

import numpy as np
import torch

from fastcore.numerics import product_error
from tests.ops.inputs import Arguments, budgets_of, floor_of, pad, rows_of, tensor


def _rows(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int, dimensions: int
) -> Arguments:
    """x (sets, rows, width), y (sets, rows, second width) of which the first `dimensions` numbers are known."""
    x, y = rows_of(rng, shape, kind), rows_of(rng, (*shape[:2], width), kind)
    if kind == "duplicates":  # both factors of a row are those of one other
        y = np.sin(x.sum(-1, keepdims=True) * np.arange(1, width + 1)).astype(np.float32)
    rest = np.sqrt((y[..., dimensions:].astype(np.float64) ** 2).sum(-1))
    norms = (x.astype(np.float64) ** 2).sum(-1) * (1 + (y.astype(np.float64) ** 2).sum(-1))
    return {
        "features": tensor(x, torch.float32),
        "second": tensor(y, torch.float32),
        "reduced": tensor(y[..., :dimensions], torch.float32),
        "left_out": tensor(rest * (1 + 1e-6), torch.float32),
        "norms": tensor(norms),
    }


def _rounding(shape: tuple[int, int, int], dimensions: int) -> Arguments:
    e, f = product_error(shape[2]), product_error(dimensions)
    return {"relative": 2.001 * (e + f + e * f), "absolute": 1e-30}


def distances(arguments: Arguments, g: int) -> np.ndarray:
    """(rows, rows) between the gradients of set g, by definition."""
    x, y = (arguments[name][g].double().numpy() for name in ("features", "second"))
    rows = (x[:, :, None] * np.concatenate([np.ones((len(y), 1)), y], 1)[:, None]).reshape(len(x), -1)
    return np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(-1))


def facility_location_factored(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    kind: str,
    width: int,
    dimensions: int,
    covered: bool,
) -> Arguments:
    """Nothing is covered, or all rows are by one of them; some rows are padding, some candidates closed."""
    sets, rows, _ = shape
    each, most = _rows(rng, shape, kind, width, dimensions), min(rows, 45)
    parameter = 2 * float(each["norms"].max().sqrt()) + 1
    coverage = np.zeros((sets, rows))
    if covered:
        coverage = np.stack([parameter - distances(each, g)[rng.integers(rows)] for g in range(sets)])
    coverage[:, rng.random(rows) < 0.1] = np.inf
    return {
        **each,
        "coverage": tensor(coverage),
        "bounds": tensor(pad(rng, np.full((sets, rows), np.inf))),
        "row_ids": tensor([rng.permutation(2 * rows)[:rows] for _ in range(sets)], torch.int64),
        "budgets": budgets_of(sets, most),
        "floor": floor_of(sets, kind, 1e-11 * parameter * rows),
        **_rounding(shape, dimensions),
        "parameter": parameter,
        "pairs": rows**2,
        "room": sets * rows**2,
        "most": most,
    }


def nearest_factored(
    rng: np.random.Generator, rows: int, wide: int, kind: str, width: int, dimensions: int, sets: int
) -> Arguments:
    """Sets with fewer and fewer members and picks; some rows are as far from two picks, or all but so."""
    shape = 1, rows, wide
    each = {name: value[0] for name, value in _rows(rng, shape, kind, width, dimensions).items()}
    order = rng.permutation(rows)
    members, picks = np.full((sets, rows), -1), np.full((sets, max(1, rows // 2)), -1)
    for g in range(sets):
        members[g, : max(1, rows - g)] = order[: max(1, rows - g)]
        count = max(1, len(picks[g]) - 2 * g)
        picks[g, :count] = rng.choice(rows, count, replace=False)
    return {
        **each,
        "members": tensor(members, torch.int64),
        "picks": tensor(picks, torch.int64),
        "blur": 1e-13 * each["norms"],
        **_rounding(shape, dimensions),
    }
