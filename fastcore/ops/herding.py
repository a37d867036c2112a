"""Herding: rows whose running mean follows the mean of the data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose


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
    """Pick, again and again, the row x nearest to the residual w, then add mean - x to the residual.

    features (sets, rows, width) float32, each row times scale (sets, rows) float64; norms (sets, rows) float64
    squared norms of the scaled rows; mean and residual (sets, width) float64; taken (sets, rows) uint8.
    The score is 2 x.w - |x|^2. residual and taken are changed in place. Returns picks (sets, most) int64
    positions, -1 after the budget of a set, and scores (sets, most) float64. Reads the features once a pick; with
    an 8-bit copy of them that copy, and the few rows that may be the best. codes (sets, rows, width rounded up to
    a multiple of 16) int8, step and slack (sets, rows) float64, or None all three: a scaled row is step * codes
    and a rest of length slack at most.
    """
    return implementation("herding", herding_reference, features)(
        features, codes, step, slack, scale, norms, mean, residual, taken, budgets, floor, most
    )


def herding_reference(
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
    picks = budgets.new_full((len(budgets), most), -1)
    gains = norms.new_zeros((len(budgets), most))
    for g, x in enumerate(features.double() * scale.unsqueeze(-1)):
        state = norms[g], mean[g], residual[g], taken[g], int(budgets[g]), float(floor[g])
        follow(x.__matmul__, x.__getitem__, *state, picks[g], gains[g])
    return picks, gains


def follow(
    products: Callable[[Tensor], Tensor],
    row: Callable[[int], Tensor],
    norms: Tensor,
    mean: Tensor,
    residual: Tensor,
    taken: Tensor,
    budget: int,
    floor: float,
    picks: Tensor,
    scores: Tensor,
) -> None:
    """The picks (most,) of one set: `products` (n,) of all scaled rows with a residual, `row` (d,) is one of them.

    Changes residual, taken, picks and scores in place.
    """
    rows = torch.arange(len(norms), device=norms.device)
    for t in range(budget):
        score = (2 * products(residual) - norms).masked_fill(taken.bool(), -torch.inf)
        p = choose(score, rows, floor)
        if p is None:
            break
        picks[t], scores[t], taken[p] = p, score[p], 1
        residual += mean - row(p)
