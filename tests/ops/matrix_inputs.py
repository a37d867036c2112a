"""Inputs of ops on given matrices."""

from __future__ import annotations

import numpy as np
import torch

from fastcore.numerics import round_to_tf32
from tests.ops.inputs import Arguments, rows_of, tensor


def asymmetry(
    rng: np.random.Generator, sets: int, rows: int, changes: int, infinite: float = 0.0
) -> Arguments:
    """Symmetric matrices with `changes`: one more at an entry, or `infinite` more there and at its mirror."""
    matrix = rng.integers(-3, 4, (sets, rows, rows)).astype(float)
    matrix += np.swapaxes(matrix, 1, 2)
    for _ in range(changes):
        g, i, j = rng.integers(sets), rng.integers(rows), rng.integers(rows)
        matrix[g, i, j] += infinite if infinite else 1
        matrix[g, j, i] += infinite
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


def factored_coordinates(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int, outer: int, directions: int
) -> Arguments:
    sets, rows, second = shape
    return {
        "features": tensor(rows_of(rng, (sets, rows, width), kind), torch.float32),
        "second": tensor(rows_of(rng, shape, kind), torch.float32),
        "second_along": tensor(rng.standard_normal((sets, outer, 1 + second)), torch.float32),
        "along": tensor(rng.standard_normal((sets, directions, width * outer)), torch.float32),
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


def product_gains(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, block: int, half: bool
) -> Arguments:
    """Numbers that tensor cores read without rounding, and a coverage in the middle of the products."""
    features = tensor(rows_of(rng, shape, kind), torch.float32)
    candidates = tensor(rows_of(rng, (shape[0], block, shape[2]), kind), torch.float32)
    features, candidates = (x.half() if half else round_to_tf32(x) for x in (features, candidates))
    products = candidates.double() @ features.double().mT
    coverage = products.mean(1) + tensor(rng.random((shape[0], shape[1])))
    if kind == "integer":
        coverage = tensor(rng.integers(-3, 4, coverage.shape))
    coverage[tensor(rng.random(coverage.shape)) < 0.1] = torch.inf
    return {"features": features, "candidates": candidates, "coverage": coverage}


def _factors(rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int) -> Arguments:
    second = rows_of(rng, (*shape[:2], width), kind)
    return {
        "features": tensor(rows_of(rng, shape, kind), torch.float32),
        "second": tensor(second, torch.float32),
    }


def factored_columns(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int, others: int
) -> Arguments:
    """The others are rows of the same kind."""
    return _factors(rng, shape, kind, width) | {
        "others": tensor(rows_of(rng, (shape[0], others, shape[2]), kind), torch.float32),
        "other_second": tensor(rows_of(rng, (shape[0], others, width), kind), torch.float32),
    }


def factored_project(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int
) -> Arguments:
    direction = rng.standard_normal((shape[0], shape[2], 1 + width))
    return _factors(rng, shape, kind, width) | {"direction": tensor(direction)}


def factored_sum(rng: np.random.Generator, shape: tuple[int, int, int], kind: str, width: int) -> Arguments:
    return _factors(rng, shape, kind, width) | {"weights": tensor(rng.standard_normal(shape[:2]))}


def euclidean_tile(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, tile: tuple[int, int, int], mirror: bool
) -> Arguments:
    """`tile` is candidates, columns and the first column; products are rounded to float32 once."""
    (sets, rows, _), (block, columns, first) = shape, tile
    factors = _factors(rng, shape, kind, 9)
    x, y = (factor.double() for factor in factors.values())
    at = np.stack([rng.choice(rows, block, replace=False) for _ in range(sets)])
    if mirror:
        at = np.tile(np.arange(first, first + block), (sets, 1))
    positions = torch.from_numpy(at)
    part = slice(first, first + columns)
    both = [torch.stack([f[g, p] @ f[g, part].mT for g, p in enumerate(positions)]).float() for f in (x, y)]
    norms = x.square().sum(-1) * (1 + y.square().sum(-1))
    longest = float(norms.max().sqrt())
    return {
        "products": both[0],
        "factors": both[1],
        **factors,
        "norms": norms,
        "positions": positions,
        "out": torch.full((sets, rows if mirror else block, rows), -7.0),
        "first": first,
        "mirror": mirror,
        "relative": 2.0**-19,
        "absolute": 1e-30,
        "error": 2.0**-14 * longest,
        "parameter": 4 * longest,
    }
