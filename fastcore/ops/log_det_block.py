"""Pivoted Cholesky inside a block of candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose, wins


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
    """Pick the largest Cholesky pivot again and again, as long as no row outside the block could be larger.

    schur (sets, block, block) float64: the similarity of the candidates given all earlier picks, its diagonal
    unread; pivots (sets, block) float64: that diagonal, changed in place, -inf for padding; row_ids, budgets,
    outside, outside_row, floor as for every block op; the picks also end when the best pivot is <= floor.
    Returns picks (sets, most), pivots at the pick (sets, most) and the rows of the Cholesky factor
    (sets, most, block). Cost: block * t numbers for pick t.
    """
    return implementation("log_det_block", log_det_block_reference, schur)(
        schur, pivots, row_ids, budgets, outside, outside_row, floor, most
    )


def log_det_block_reference(
    schur: Tensor,
    pivots: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    outside: Tensor,
    outside_row: Tensor,
    floor: Tensor,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    picks = row_ids.new_full((len(pivots), most), -1)
    gains = pivots.new_zeros((len(pivots), most))
    factor = pivots.new_zeros((len(pivots), most, pivots.shape[1]))
    for g, value in enumerate(pivots):
        low = float(floor[g])
        for t in range(int(budgets[g])):
            p = choose(value, row_ids[g], low)
            if p is None or float(value.max()) <= low:
                break
            if not wins(value, p, int(row_ids[g, p]), float(outside[g]), int(outside_row[g]), low):
                break
            picks[g, t], gains[g, t] = p, value[p]
            root = value[p].sqrt()
            row = (schur[g, p] - factor[g, :t, p] @ factor[g, :t]) / root
            row[p] = root
            factor[g, t] = row
            value -= row.square()
            value[p] = -torch.inf
    return picks, gains, factor
