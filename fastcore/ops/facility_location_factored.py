"""Exact lazy facility-location picks among gradients, whose distances are bounded from a few coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.facility_location_block import EUCLIDEAN, facility_location_block_reference


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
    """Pick the largest coverage gain again and again, under parameter - distance of gradients x (1, y).

    features and second (sets, rows, width) float32 are x and y, reduced (sets, rows, r) float32 coordinates of y
    along r directions, left_out (sets, rows) float32 the length of the rest, norms (sets, rows) float64 squared
    norms. `relative` |g||g'| and `absolute` bound the rounding of squared distances from x and reduced in
    float32. coverage and bounds (sets, rows) float64 are changed in place; row_ids, budgets, floor as for every
    block op. Returns picks and exact gains (sets, most), counts (sets, 3) of evaluations, of candidates and of
    pairs measured in float64, and (1,) 0 where bounds told so little that a set stopped early: behind `pairs`
    measured pairs, or with more than `room` rows, 8 bytes each, that candidates may still add to. Cost:
    rows^2 (width + 12) / 2 multiplications, at most twice, rows^2 (width + r) at most for such lists, and
    (width + second width) a measured pair. The native op is for the CPU.
    """
    call = implementation("facility_location_factored", facility_location_factored_reference, features)
    rows, state = (features, second, reduced, left_out, norms), (coverage, bounds, row_ids, budgets, floor)
    found: tuple[Tensor, Tensor, Tensor, Tensor] = call(
        *rows, *state, relative, absolute, parameter, pairs, room, most
    )
    return found


def facility_location_factored_reference(
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
    sets, rows = norms.shape
    everyone = torch.arange(rows, device=norms.device).expand(sets, -1)
    outside = bounds.new_full((sets,), -torch.inf), row_ids.new_full((sets,), rows)
    picks, gains, evaluations = facility_location_block_reference(
        *(features, features, torch.ones_like(norms), norms, second, everyone, coverage, bounds, row_ids),
        *(budgets, *outside, floor, 0.0, EUCLIDEAN, parameter, most),
    )
    measured = evaluations[:, 1:]
    counts = torch.cat([measured, measured, measured * rows], 1)
    return picks, gains, counts, row_ids.new_ones(1)
