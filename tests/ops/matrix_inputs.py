"""Inputs of ops on given matrices."""

from __future__ import annotations

import numpy as np
import torch

from tests.ops.inputs import Arguments, rows_of, tensor


def asymmetry(rng: np.random.Generator, sets: int, rows: int, changes: int) -> Arguments:
    matrix = rng.integers(-3, 4, (sets, rows, rows)).astype(float)
    matrix += np.swapaxes(matrix, 1, 2)
    for _ in range(changes):
        matrix[rng.integers(sets), rng.integers(rows), rng.integers(rows)] += 1
    return {"matrix": tensor(matrix, torch.float32)}


def coordinates(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, directions: int
) -> Arguments:
    along = rng.standard_normal((shape[0], directions, shape[2]))
    if kind == "integer":
        along = rng.integers(-3, 4, along.shape)
    return {
        "features": tensor(rows_of(rng, shape, kind), torch.float32),
        "along": tensor(along, torch.float32),
    }


def refine_products(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, block: int, share: float
) -> Arguments:
    """Bounds of which that share, and some that are NaN, are above what is asked for; some just reach it."""
    sets, rows, width = shape
    features = rows_of(rng, shape, kind)
    positions = np.stack([rng.permutation(rows)[:block] for _ in range(sets)])
    least = rng.standard_normal((sets, rows)).astype(np.float32)
    least[rng.random(least.shape) < 0.1] = np.inf
    above = rng.random((sets, block, rows)) < share
    products = np.where(above, least[:, None] + 1, least[:, None] - rng.integers(0, 2, above.shape))
    products[rng.random(products.shape) < 0.01 * share] = np.nan
    return {
        "products": tensor(products, torch.float32),
        "features": tensor(features, torch.float32),
        "positions": tensor(positions, torch.int64),
        "least": tensor(least, torch.float32),
    }


def _factors(rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int) -> Arguments:
    second = rows_of(rng, (*shape[:2], width), kind)
    return {
        "features": tensor(rows_of(rng, shape, kind), torch.float32),
        "second": tensor(second, torch.float32),
    }


def factored_project(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int
) -> Arguments:
    direction = rng.standard_normal((shape[0], shape[2], 1 + width))
    return _factors(rng, shape, kind, width) | {"direction": tensor(direction)}


def factored_sum(rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int) -> Arguments:
    return _factors(rng, shape, kind, width) | {"weights": tensor(rng.standard_normal(shape[:2]))}
