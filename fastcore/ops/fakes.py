"""Shapes and types of every op's results, for torch.compile and FakeTensor."""

from __future__ import annotations

import torch
from torch import Tensor


def project(features: Tensor, direction: Tensor) -> Tensor:
    return features.new_empty(features.shape[:2], dtype=torch.float64)


def squared_norms(features: Tensor) -> Tensor:
    return features.new_empty(features.shape[:2], dtype=torch.float64)


def weighted_sum(features: Tensor, weights: Tensor) -> Tensor:
    return features.new_empty((features.shape[0], features.shape[2]), dtype=torch.float64)


def nearest_update(*arguments: object) -> None:
    return None


def _picks(row_ids: Tensor, most: int) -> tuple[Tensor, Tensor]:
    picks = row_ids.new_empty((row_ids.shape[0], most), dtype=torch.int64)
    return picks, torch.empty_like(picks, dtype=torch.float64)


def farthest_first_block(
    distances: Tensor,
    nearest: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    outside: Tensor,
    outside_row: Tensor,
    most: int,
) -> tuple[Tensor, Tensor]:
    return _picks(row_ids, most)


def graph_cut_block(
    similarity: Tensor,
    values: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    outside: Tensor,
    outside_row: Tensor,
    floor: Tensor,
    penalty: float,
    most: int,
) -> tuple[Tensor, Tensor]:
    return _picks(row_ids, most)


def graph_cut_sparse(
    offsets: Tensor,
    indices: Tensor,
    weights: Tensor,
    values: Tensor,
    starts: Tensor,
    budgets: Tensor,
    floor: Tensor,
    penalty: float,
    most: int,
) -> tuple[Tensor, Tensor]:
    return _picks(budgets, most)


def linear_cut(
    features: Tensor,
    second: Tensor | None,
    scale: Tensor,
    coordinates: Tensor,
    values: Tensor,
    budgets: Tensor,
    floor: Tensor,
    penalty: float,
    error: float,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return (*_picks(budgets, most), torch.empty_like(budgets))


def log_det_block(
    schur: Tensor,
    pivots: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    outside: Tensor,
    outside_row: Tensor,
    floor: Tensor,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return *_picks(row_ids, most), pivots.new_empty((pivots.shape[0], most, pivots.shape[1]))


def herding(
    features: Tensor,
    codes: Tensor | None,
    step: Tensor | None,
    slack: Tensor | None,
    scale: Tensor,
    norms: Tensor,
    mean: Tensor,
    residual: Tensor,
    taken: Tensor,
    budgets: Tensor,
    floor: Tensor,
    most: int,
) -> tuple[Tensor, Tensor]:
    return _picks(features, most)


def matching_pursuit(
    delta: Tensor, h: Tensor, target: Tensor, limits: Tensor, budgets: Tensor, *_: object
) -> Tensor:
    return torch.empty_like(budgets)


def coverage_gains(similarity: Tensor, coverage: Tensor) -> Tensor:
    return similarity.new_empty(similarity.shape[:2], dtype=torch.float64)


def product_gains(features: Tensor, candidates: Tensor, coverage: Tensor) -> Tensor:
    return coverage.new_empty(candidates.shape[:2])


def refine_products(products: Tensor, features: Tensor, positions: Tensor, least: Tensor) -> Tensor:
    return torch.empty_like(positions)


def facility_location_block(
    similarity: Tensor,
    features: Tensor | None,
    scale: Tensor | None,
    norms: Tensor | None,
    second: Tensor | None,
    positions: Tensor,
    coverage: Tensor,
    bounds: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    outside: Tensor,
    outside_row: Tensor,
    floor: Tensor,
    error: float,
    metric: int,
    parameter: float,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return *_picks(row_ids, most), row_ids.new_empty((row_ids.shape[0], 2))


def coordinates(features: Tensor, along: Tensor) -> Tensor:
    return features.new_empty(*along.shape[:2], features.shape[1])


def euclidean_tile(
    products: Tensor,
    factors: Tensor,
    features: Tensor,
    second: Tensor,
    norms: Tensor,
    positions: Tensor,
    out: Tensor,
    first: int,
    mirror: bool,
    relative: float,
    absolute: float,
    error: float,
    parameter: float,
) -> Tensor:
    return positions.new_empty(1)


def facility_location_factored(
    features: Tensor,
    second: Tensor,
    reduced: Tensor,
    left_out: Tensor,
    norms: Tensor,
    coverage: Tensor,
    bounds: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    floor: Tensor,
    relative: float,
    absolute: float,
    parameter: float,
    pairs: int,
    room: int,
    most: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *_picks(row_ids, most), row_ids.new_empty((row_ids.shape[0], 3)), row_ids.new_empty(1)


def nearest_factored(
    features: Tensor,
    second: Tensor,
    reduced: Tensor,
    left_out: Tensor,
    norms: Tensor,
    members: Tensor,
    picks: Tensor,
    blur: Tensor,
    relative: float,
    absolute: float,
) -> Tensor:
    return torch.empty_like(members)


def factored_columns(features: Tensor, second: Tensor, others: Tensor, other_second: Tensor) -> Tensor:
    return features.new_empty(*features.shape[:2], others.shape[1], dtype=torch.float64)


def factored_project(features: Tensor, second: Tensor, direction: Tensor) -> Tensor:
    return direction.new_empty(features.shape[:2])


def factored_sum(features: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    return weights.new_empty(len(features), features.shape[2], 1 + second.shape[2])


def factored_coordinates(features: Tensor, second: Tensor, second_along: Tensor, along: Tensor) -> Tensor:
    return features.new_empty(*along.shape[:2], features.shape[1])


def asymmetry(matrix: Tensor) -> Tensor:
    return matrix.new_empty(matrix.shape[0], dtype=torch.int64)


def facility_location_sparse(
    offsets: Tensor,
    indices: Tensor,
    values: Tensor,
    coverage: Tensor,
    bounds: Tensor,
    starts: Tensor,
    budgets: Tensor,
    floor: Tensor,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return (*_picks(budgets, most), torch.empty_like(budgets))


def deepfool_step(*arguments: object) -> None:
    return None


OPS = (
    project,
    squared_norms,
    weighted_sum,
    nearest_update,
    farthest_first_block,
    graph_cut_block,
    graph_cut_sparse,
    linear_cut,
    log_det_block,
    herding,
    matching_pursuit,
    coverage_gains,
    product_gains,
    refine_products,
    facility_location_block,
    coordinates,
    euclidean_tile,
    facility_location_factored,
    nearest_factored,
    factored_columns,
    factored_project,
    factored_sum,
    asymmetry,
    factored_coordinates,
    facility_location_sparse,
    deepfool_step,
)


def register(namespace: str) -> None:
    """Register these for the ops of a loaded library."""
    for fake in OPS:
        torch.library.register_fake(f"{namespace}::{fake.__name__}", fake)
