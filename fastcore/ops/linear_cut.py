"""Lazy graph-cut picks over rows whose similarities are inner products."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose


def linear_cut(
    features: Tensor,
    scale: Tensor,
    along: Tensor,
    apart: Tensor,
    values: Tensor,
    budgets: Tensor,
    floor: Tensor,
    penalty: float,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the row with the largest gain again and again, measuring few rows for a pick.

    A pick p takes `penalty * scale[p] * scale[b] * (features[p] . features[b])` off the gain of row b.
    features (sets, rows, width) float32; scale and values (sets, rows) float64, the gains at the start, -inf for
    rows that are out, changed in place to no further use. along (sets, rows) is the component of every scaled row
    along some unit vector, apart (sets, rows) at least the length of the rest: they bound the gains of rows that
    are not measured. budgets (sets,) int64, floor (sets,) float64. Returns picks (sets, most) int64 positions, -1
    after the last, gains (sets, most) float64 and the gains measured (sets,) int64. A set may end early, but not
    before its first pick: when measuring all rows afresh is cheaper than going on.
    """
    return implementation("linear_cut", linear_cut_reference, features)(
        features, scale, along, apart, values, budgets, floor, penalty, most
    )


def linear_cut_reference(
    features: Tensor,
    scale: Tensor,
    along: Tensor,
    apart: Tensor,
    values: Tensor,
    budgets: Tensor,
    floor: Tensor,
    penalty: float,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    picks = budgets.new_full((len(values), most), -1)
    gains = values.new_zeros((len(values), most))
    rows = torch.arange(values.shape[1], device=values.device)
    for g, value in enumerate(values):
        x = features[g].double() * scale[g].unsqueeze(1)
        for t in range(int(budgets[g])):
            p = choose(value, rows, float(floor[g]))
            if p is None:
                break
            picks[g, t], gains[g, t] = p, value[p]
            value -= penalty * (x @ x[p])
            value[p] = -torch.inf
    return picks, gains, budgets * values.shape[1]
