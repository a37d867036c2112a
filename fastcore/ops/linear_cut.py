"""Lazy graph-cut picks over rows whose similarities are inner products."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose


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
    """Pick the row with the largest gain again and again, measuring few rows for a pick.

    A pick p takes `penalty * scale[p] * scale[b] * (features[p] . features[b])` off the gain of row b, with
    `second` times `1 + second[p] . second[b]`. features (sets, rows, width) and second (sets, rows, width2)
    float32; scale and values (sets, rows) float64, the gains at the start, -inf for rows that are out, changed in
    place to no further use. coordinates (sets, r + 1, rows) float32 are those of every scaled row along r
    directions, then at least the length of its rest: they bound the gains of rows that are not measured, and
    `error` says how exact they are (csrc/kernels.h). budgets (sets,) int64, floor (sets,) float64. Returns picks
    (sets, most) int64 positions, -1 after the last, gains (sets, most) float64 and the gains measured (sets,)
    int64. A set may end early, but not before its first pick: when measuring all rows afresh is cheaper than
    going on. A CPU measures them itself then, and goes on, unless products of matrices would be faster.
    """
    return implementation("linear_cut", linear_cut_reference, features)(
        features, second, scale, coordinates, values, budgets, floor, penalty, error, most
    )


def linear_cut_reference(
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
            products = x @ x[p]
            if second is not None:
                products *= 1 + second[g].double() @ second[g, p].double()
            value -= penalty * products
            value[p] = -torch.inf
    return picks, gains, budgets * values.shape[1]
