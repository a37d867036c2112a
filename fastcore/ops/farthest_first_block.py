"""Farthest-first picks inside a block of candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose, wins


def farthest_first_block(
    distances: Tensor,
    nearest: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    outside: Tensor,
    outside_row: Tensor,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Pick the farthest candidate again and again, as long as no row outside the block could be farther.

    distances (sets, block, block), float32 or float64: row p holds the distances of all candidates to p.
    nearest (sets, block) float64: distance to the coreset so far, changed in place, -inf for padding.
    row_ids (sets, block) int64 break ties; budgets (sets,) int64; outside (sets,) float64 and outside_row
    (sets,) int64 bound the rest. Returns picks (sets, most) int64 positions, -1 after the last, and their
    distances (sets, most) float64. Cost: block numbers a pick.
    """
    return implementation("farthest_first_block", farthest_first_block_reference, distances)(
        distances, nearest, row_ids, budgets, outside, outside_row, most
    )


def farthest_first_block_reference(
    distances: Tensor,
    nearest: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    outside: Tensor,
    outside_row: Tensor,
    most: int,
) -> tuple[Tensor, Tensor]:
    picks = row_ids.new_full((len(nearest), most), -1)
    gains = nearest.new_zeros((len(nearest), most))
    for g, value in enumerate(nearest):
        for t in range(int(budgets[g])):
            p = choose(value, row_ids[g])
            if p is None or not wins(value, p, int(row_ids[g, p]), float(outside[g]), int(outside_row[g])):
                break
            picks[g, t], gains[g, t] = p, value[p]
            torch.minimum(value, distances[g, p].double(), out=value)
            value[p] = -torch.inf
    return picks, gains
