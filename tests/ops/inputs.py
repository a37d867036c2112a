"""Inputs of the op table: random and hostile ones, for every op."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Arguments = dict[str, Any]

KINDS = ("random", "integer", "large", "duplicates", "zeros")
MOST = 45  # picks


def rows_of(rng: np.random.Generator, shape: tuple[int, int, int], kind: str) -> np.ndarray:
    """Features (sets, rows, width) float32."""
    if kind == "integer":
        return rng.integers(-2, 3, shape).astype(np.float32)
    x = rng.standard_normal(shape).astype(np.float32)
    if kind == "large":
        x *= 1e4
    if kind == "duplicates":
        x = x[:, rng.integers(0, max(1, shape[1] // 4), shape[1])]
    if kind == "zeros":
        x[:, rng.random(shape[1]) < 0.5] = 0
    return x


def tensor(values: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


def budgets_of(sets: int, most: int) -> Tensor:
    """The largest, none, and some in between."""
    return torch.tensor([most, 0, (most + 1) // 2, 1][:sets] if sets > 1 else [most])


def floor_of(sets: int, kind: str, rounding: float) -> Tensor:
    """Above rounding; for whole numbers so much that different values are a tie, too."""
    return torch.full((sets,), 1.0 if kind == "integer" else rounding, dtype=torch.float64)


def block_arguments(rng: np.random.Generator, values: np.ndarray, limits: str, most: int) -> Arguments:
    """What all block ops share, for these values (sets, block): row numbers, budgets, and who is outside."""
    sets, block = values.shape
    finite = np.where(np.isfinite(values), values, np.nan)
    outside, outside_row = np.full(sets, -np.inf), np.zeros(sets)
    if limits == "near":  # above the best, by less than the tolerance of whole numbers
        outside, outside_row = np.nanmax(finite, axis=1) + 0.5, np.full(sets, 2 * block)
    elif limits != "open":
        outside = np.nanquantile(finite, 0.6, axis=1, method="nearest" if limits == "tied" else "linear")
        outside_row = rng.integers(block, 3 * block, sets)
    return {
        "row_ids": tensor([rng.permutation(3 * block)[:block] for _ in range(sets)], torch.int64),
        "budgets": budgets_of(sets, most),
        "outside": tensor(outside),
        "outside_row": tensor(outside_row, torch.int64),
    }


def pad(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Closes a few candidates of every set, and all but one of the last of several sets."""
    sets, block = values.shape
    closed = rng.random(values.shape) < 0.15
    closed[:, block // 2] = False
    if sets > 1:
        closed[-1] = np.arange(block) != block // 2
    return np.where(closed, -np.inf, values)


# ---- sums -------------------------------------------------------------------------------------------------


def project(rng: np.random.Generator, shape: tuple[int, int, int], kind: str) -> Arguments:
    direction = rng.integers(-3, 4, shape[::2]) if kind == "integer" else rng.standard_normal(shape[::2])
    return {"features": tensor(rows_of(rng, shape, kind), torch.float32), "direction": tensor(direction)}


def squared_norms(rng: np.random.Generator, shape: tuple[int, int, int], kind: str) -> Arguments:
    return {"features": tensor(rows_of(rng, shape, kind), torch.float32)}


def weighted_sum(rng: np.random.Generator, shape: tuple[int, int, int], kind: str) -> Arguments:
    weights = rng.integers(-3, 4, shape[:2]) if kind == "integer" else rng.standard_normal(shape[:2])
    return {"features": tensor(rows_of(rng, shape, kind), torch.float32), "weights": tensor(weights)}


def coverage_gains(rng: np.random.Generator, shape: tuple[int, int, int], kind: str) -> Arguments:
    sets, block, rows = shape
    similarity = rows_of(rng, shape, kind)
    coverage = similarity.mean(1) + rng.random((sets, rows))
    if kind == "integer":
        coverage = rng.integers(-2, 3, (sets, rows))
    coverage = np.where(rng.random((sets, rows)) < 0.1, np.inf, coverage)
    return {"similarity": tensor(similarity, torch.float32), "coverage": tensor(coverage)}


def deepfool_step(rng: np.random.Generator, shape: tuple[int, int, int], kind: str) -> Arguments:
    """Some rows have no candidate yet, some have a nearer one, some one that ties or nearly does."""
    sets, rows, width = shape
    normals = rows_of(rng, (1, sets * rows, width), kind)[0]
    values = rng.integers(-2, 3, sets * rows) if kind == "integer" else rng.standard_normal(sets * rows)
    squares = (normals.astype(np.float64) ** 2).sum(-1)
    distance = np.divide(np.abs(values), np.sqrt(squares), out=np.full(len(values), 2.0), where=squares > 0)
    factors = [np.inf, 0.5, 2, 1, 1 - 1e-13, 1 + 1e-13, 1 + 1e-11]
    factor = rng.choice(factors, sets * rows)
    return {
        "normals": tensor(normals, torch.float32),
        "values": tensor(values),
        "nearest": tensor(
            np.where(np.isinf(factor), np.inf, distance * np.where(np.isinf(factor), 1, factor))
        ),
        "step": tensor(rng.standard_normal((sets * rows, width)), torch.float32),
        "least": 0.5,
    }


# ---- nearest distances ------------------------------------------------------------------------------------


def nearest_update(
    rng: np.random.Generator, sets: int, rows: int, picks: int, kind: str, started: bool
) -> Arguments:
    """`started`: earlier picks have left their mark, and the state is a slice of columns."""
    x, y = (rows_of(rng, (sets, n, 5), kind) for n in (rows, picks))
    pick_norms = np.where(rng.random((sets, picks)) < 0.2, np.inf, (y**2).sum(-1))
    nearest, second = np.full((2, sets, rows + 7), np.inf)
    owner = np.full((sets, rows + 7), -1)
    row_norms = np.full((sets, rows + 7), np.inf)
    row_norms[:, 4 : 4 + rows] = (x**2).sum(-1)
    if started:
        spread = rng.integers(0, 60, (2, sets, rows + 7)) * (1e8 if kind == "large" else 1.0)
        nearest, second, owner = spread.min(0), spread.max(0), rng.integers(0, 9, (sets, rows + 7))
    columns = slice(4, 4 + rows)
    state = [tensor(values, torch.float32) for values in (row_norms, nearest, second)]
    row_norms, nearest, second = (t[:, columns] if started else t[:, columns].contiguous() for t in state)
    owner = tensor(owner, torch.int64)[:, columns]
    return {
        "products": tensor(x @ y.transpose(0, 2, 1), torch.float32),
        "row_norms": row_norms,
        "pick_norms": tensor(pick_norms, torch.float32),
        "nearest": nearest,
        "owner": owner if started else owner.contiguous(),
        "second": second,
        "offset": 9,
    }


# ---- picks inside a block ---------------------------------------------------------------------------------


def farthest_first_block(
    rng: np.random.Generator, sets: int, block: int, kind: str, limits: str, dtype: torch.dtype
) -> Arguments:
    most = min(block, MOST)
    x = rows_of(rng, (sets, block, 4), kind)
    distances = ((x[:, :, None].astype(np.float64) - x[:, None]) ** 2).sum(-1)
    start = ((x - x.mean(1, keepdims=True).round()) ** 2).sum(-1).astype(np.float64)
    nearest = pad(rng, start)
    return {
        "distances": tensor(distances, dtype),
        "nearest": tensor(nearest),
        **block_arguments(rng, nearest, limits, most),
        "most": most,
    }


def graph_cut_block(
    rng: np.random.Generator, sets: int, block: int, kind: str, limits: str, dtype: torch.dtype
) -> Arguments:
    most = min(block, MOST)
    x = rows_of(rng, (sets, block, 6), kind).astype(np.float64)
    similarity = x @ x.transpose(0, 2, 1)
    values = pad(rng, similarity.sum(2) * 0.5)
    shared = block_arguments(rng, values, limits, most)
    return {
        "similarity": tensor(similarity, dtype),
        "values": tensor(values),
        **shared,
        "floor": floor_of(sets, kind, 1e-9 * float(np.abs(similarity).max() + 1)),
        "penalty": 0.8 if kind != "integer" else 0.5,
        "most": most,
    }


def log_det_block(
    rng: np.random.Generator, sets: int, block: int, kind: str, limits: str, most: int = MOST
) -> Arguments:
    x = rows_of(rng, (sets, block, 6), kind).astype(np.float64)
    schur = x @ x.transpose(0, 2, 1)
    ridge = 0.0 if kind == "duplicates" else 0.1  # without one the pivots end at the rank
    pivots = np.einsum("gii->gi", schur) + ridge * max(1.0, float(np.abs(schur).max()))
    np.einsum("gii->gi", schur)[:] = np.nan  # its diagonal is not read
    values, most = pad(rng, pivots), min(block, most)
    return {
        "schur": tensor(schur),
        "pivots": tensor(values),
        **block_arguments(rng, values, limits, most),
        "floor": floor_of(sets, kind, 1e-9 * float(np.abs(pivots).max())),
        "most": most,
    }


def facility_location_block(
    rng: np.random.Generator,
    sets: int,
    block: int,
    rows: int,
    kind: str,
    limits: str,
    metric: int,
    factored: bool = False,
) -> Arguments:
    width, most = 6, min(block, MOST)
    x = rows_of(rng, (sets, rows, width), kind)
    positions = np.stack([rng.permutation(rows)[:block] for _ in range(sets)])
    factors = {"features": tensor(x, torch.float32), "second": None}
    norms = (x.astype(np.float64) ** 2).sum(-1)
    if factored and metric != 0:
        y = rows_of(rng, (sets, rows, 9), kind)
        if kind == "duplicates":  # both factors of a row are those of one other
            y = np.sin(x.sum(-1, keepdims=True) * np.arange(1, 10)).astype(np.float32)
        factors["second"] = tensor(y, torch.float32)
        norms = norms * (1 + (y.astype(np.float64) ** 2).sum(-1))
    scale = np.divide(1.0, np.sqrt(norms), out=np.zeros_like(norms), where=norms > 0)
    parameter = float(np.sqrt(norms.max()) * 2 + 1) if metric == 3 else float(1 / (norms.max() + 1))
    products = products_of(factors, positions)
    exact = similarity_of(products, positions, norms, scale, metric, parameter)
    # Float columns that are as far off as the error allows, so that they alone do not decide.
    size = float(np.abs(exact).max() + 1)
    error = 0.0 if metric == 0 else (1e-2 if kind in ("random", "duplicates") else 1e-5) * size
    shown = exact + error * 0.9 * rng.uniform(-1, 1, exact.shape)
    coverage = np.where(rng.random((sets, rows)) < 0.3, np.quantile(exact, 0.5), min(0.0, float(exact.min())))
    coverage[:, rng.random(rows) < 0.1] = np.inf
    gains = np.maximum(0, exact - coverage[:, None]).sum(-1)
    stale = rng.random((sets, block)) * 0.3 * gains + error * rows
    bounds = pad(rng, gains + (0 if kind == "integer" else stale))
    computed = metric != 0
    return {
        "similarity": tensor(shown, torch.float32),
        "features": factors["features"] if computed else None,
        "scale": tensor(scale) if computed else None,
        "norms": tensor(norms) if computed else None,
        "second": factors["second"],
        "positions": tensor(positions, torch.int64),
        "coverage": tensor(coverage),
        "bounds": tensor(bounds),
        **block_arguments(rng, bounds, limits, most),
        "floor": floor_of(sets, kind, 1e-11 * size * rows),
        "error": error + (0 if metric == 0 else 2e-7 * size),
        "metric": metric,
        "parameter": parameter,
        "most": most,
    }


def linear_cut(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    kind: str,
    most: int,
    directions: int,
    factored: bool,
) -> Arguments:
    sets, rows, width = shape
    x = rows_of(rng, shape, kind)
    second = rows_of(rng, (sets, rows, 1 + width // 3), kind) if factored else None
    scale = np.ones((sets, rows)) if kind == "integer" else rng.random((sets, rows)) + 0.5
    scaled = (x * scale[..., None]).astype(np.float64)
    if second is not None:  # the rows that the factors stand for
        wide = np.concatenate([np.ones((sets, rows, 1)), second], 2)
        scaled = (scaled[..., :, None] * wide[..., None, :]).reshape(sets, rows, -1)
    basis = np.concatenate(
        [scaled.sum(1)[:, None] + 1e-9, rng.standard_normal((sets, directions - 1, scaled.shape[2]))], 1
    )
    basis = np.linalg.qr(basis.transpose(0, 2, 1))[0][..., :directions]
    along = np.einsum("gik,gkc->gci", scaled, basis).astype(np.float32)
    squares = (scaled**2).sum(-1)
    error = 5 * 2.0**-23 + 2 * (directions + 8) * 2.0**-24
    rest = np.maximum(0, squares - (along.astype(np.float64) ** 2).sum(1)) + error * squares
    rest = np.nextafter(np.sqrt(rest).astype(np.float32), np.float32(np.inf))
    return {
        "features": tensor(x, torch.float32),
        "second": None if second is None else tensor(second, torch.float32),
        "scale": tensor(scale),
        "coordinates": tensor(np.concatenate([along, rest[:, None]], 1), torch.float32),
        "values": tensor(pad(rng, np.einsum("gik,gk->gi", scaled, scaled.sum(1)))),
        "budgets": budgets_of(sets, most),
        "floor": floor_of(sets, kind, 1e-10 * float(squares.sum() + 1)),
        "penalty": 0.5,
        "error": error,
        "most": most,
    }


def products_of(arguments: Arguments, positions: np.ndarray) -> np.ndarray:
    """Inner products (sets, block, rows) of the rows at these positions with all rows."""

    def inner(x: Tensor) -> np.ndarray:
        wide = x.double().numpy()
        return np.take_along_axis(wide, positions[..., None], 1) @ wide.transpose(0, 2, 1)

    products = inner(arguments["features"])
    return products if arguments["second"] is None else products * (1 + inner(arguments["second"]))


def similarity_of(
    products: np.ndarray,
    positions: np.ndarray,
    norms: np.ndarray,
    scale: np.ndarray,
    metric: int,
    parameter: float,
) -> np.ndarray:
    """Exact similarities (sets, block, rows) from products, as kernels.h defines them."""
    if metric in (0, 2):
        return products.astype(np.float32).astype(np.float64) if metric == 0 else products
    if metric == 1:
        return 0.5 + 0.5 * products * np.take_along_axis(scale, positions, 1)[..., None] * scale[:, None]
    sums = np.take_along_axis(norms, positions, 1)[..., None] + norms[:, None]
    squared = sums - 2 * products
    squared[squared < 1e-13 * sums] = 0
    return parameter - np.sqrt(squared) if metric == 3 else np.exp(-parameter * squared)
