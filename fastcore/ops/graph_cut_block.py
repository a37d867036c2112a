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
    rise: Tensor,
    reach: Tensor,
    penalty: float,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Pick the largest graph-cut gain again and again, as long as no row outside the block could be larger.

    similarity (sets, block, block) symmetric, float32 or float64; values (sets, block) float64 gains, changed
    in place: each pick p takes `penalty * similarity[p]` off; row_ids, budgets, outside, outside_row, floor as
    for every block op. A gain outside may grow by `rise` (sets,) a pick, and by no more than
    `penalty * reach * |sum of the picked rows|` in all; reach (sets,) is +inf where similarities are no
    inner products. Returns picks (sets, most) int64 positions, -1 after the last, and gains (sets, most).
    Cost: block numbers a pick.
    """
    return implementation("graph_cut_block", graph_cut_block_reference, similarity)(
        similarity, values, row_ids, budgets, outside, outside_row, floor, rise, reach, penalty, most
    )


def graph_cut_block_reference(
    similarity: Tensor,
    values: Tensor,
    row_ids: Tensor,
    budgets: Tensor,
    outside: Tensor,
    outside_row: Tensor,
    floor: Tensor,
    rise: Tensor,
    reach: Tensor,
    penalty: float,
    most: int,
) -> tuple[Tensor, Tensor]:
    picks = row_ids.new_full((len(values), most), -1)
    gains = values.new_zeros((len(values), most))
    for g, value in enumerate(values):
        squared_sum = torch.zeros((), dtype=torch.float64, device=values.device)
        for t in range(int(budgets[g])):
            drift = penalty * reach[g] * squared_sum.clamp(min=0).sqrt() if t else 0.0
            bound = float(outside[g] + min(t * rise[g], drift)) if t else float(outside[g])
            p = choose(value, row_ids[g], float(floor[g]))
            if p is None or not wins(
                value, p, int(row_ids[g, p]), bound, int(outside_row[g]), float(floor[g])
            ):
                break
            row = similarity[g, p].double()
            squared_sum += 2 * row[picks[g, :t]].sum() + row[p]
            picks[g, t], gains[g, t] = p, value[p]
            value -= penalty * row
            value[p] = -torch.inf
    return picks, gains
