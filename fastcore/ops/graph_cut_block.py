"""Graph-cut picks inside a block of candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose, wins


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
    """Pick the largest graph-cut gain again and again, as long as no row outside the block could be larger.

    similarity (sets, block, block) symmetric, float32 or float64; values (sets, block) float64 gains, changed
    in place: each pick p takes `penalty * similarity[p]` off; row_ids, budgets, outside, outside_row, floor as
    for every block op. Gains outside the block must not grow while picks are taken: similarities are not
    negative, or the block holds all rows. Returns picks (sets, most) int64 positions, -1 after the last, and
    gains (sets, most). Cost: block numbers a pick.
    """
    return implementation("graph_cut_block", graph_cut_block_reference, similarity)(
        similarity, values, row_ids, budgets, outside, outside_row, floor, penalty, most
    )


def graph_cut_block_reference(
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
    picks = row_ids.new_full((len(values), most), -1)
    gains = values.new_zeros((len(values), most))
    for g, value in enumerate(values):
        low = float(floor[g])
        for t in range(int(budgets[g])):
            p = choose(value, row_ids[g], low)
            if p is None or not wins(
                value, p, int(row_ids[g, p]), float(outside[g]), int(outside_row[g]), low
            ):
                break
            picks[g, t], gains[g, t] = p, value[p]
            value -= penalty * similarity[g, p].double()
            value[p] = -torch.inf
    return picks, gains
