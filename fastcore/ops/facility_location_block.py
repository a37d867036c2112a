"""Exact lazy facility-location picks inside a block of candidates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose, wins

PRECOMPUTED, COSINE, DOT, EUCLIDEAN, RBF = range(5)

SAME = 1e-13
"""A squared distance from products below this fraction of the two squared norms is rounding, and counts as 0."""


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
    """Pick the largest coverage gain again and again, as long as no row outside the block could be larger.

    similarity (sets, block, rows) float32 within `error` of the exact similarity, which is computed in float64
    from features (sets, rows, width) float32, scale and norms (sets, rows) float64 where near-equal gains
    ask for it (None for a precomputed matrix, exact as it is). With second (sets, rows, width) float32 the
    inner product of two rows is that of their features times 1 + that of these. positions (sets, block): the
    candidates' places among the rows. coverage (sets, rows) and bounds (sets, block) float64 are changed in
    place; row_ids, budgets, outside, outside_row, floor as for every block op. Returns picks (sets, most),
    exact gains (sets, most) and the counts of float32 and float64 evaluations (sets, 2); each costs one pass
    over a candidate's row.
    """
    return implementation("facility_location_block", facility_location_block_reference, similarity)(
        similarity,
        features,
        scale,
        norms,
        second,
        positions,
        coverage,
        bounds,
        row_ids,
        budgets,
        outside,
        outside_row,
        floor,
        error,
        metric,
        parameter,
        most,
    )


def inner_products(rows: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Inner products (..., a, b) of two lists of factors: <x, x'>, or <x, x'> (1 + <y, y'>) of x and y."""
    products = rows[0] @ others[0].mT
    return products if len(rows) == 1 else products.mul_((rows[1] @ others[1].mT).add_(1))


def similarity_of_products(
    products: Tensor,
    rows: tuple[Tensor, Tensor],
    others: tuple[Tensor, Tensor],
    metric: int,
    parameter: float,
) -> Tensor:
    """Similarities (..., a, b) from inner products (..., a, b) and the (scale, squared norm) of both sides."""
    (scale_a, norm_a), (scale_b, norm_b) = rows, others
    if metric == DOT:
        return products
    if metric == COSINE:
        return 0.5 + 0.5 * products * scale_a.unsqueeze(-1) * scale_b.unsqueeze(-2)
    sums = norm_a.unsqueeze(-1) + norm_b.unsqueeze(-2)
    squared = sums - 2 * products
    squared = torch.where(squared < SAME * sums, 0.0, squared)
    return parameter - squared.sqrt() if metric == EUCLIDEAN else (-parameter * squared).exp()


def facility_location_block_reference(
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
    picks = row_ids.new_full((len(bounds), most), -1)
    gains = bounds.new_zeros((len(bounds), most))
    evaluations = row_ids.new_zeros((len(bounds), 2))
    for g, value in enumerate(bounds):
        exact = similarity[g].double()
        if features is not None and scale is not None and norms is not None:
            factors, at = [f[g].double() for f in (features, second) if f is not None], positions[g]
            sides = (scale[g, at], norms[g, at]), (scale[g], norms[g])
            products = inner_products([factor[at] for factor in factors], factors)
            exact = similarity_of_products(products, *sides, metric, parameter)
        closed = value == -torch.inf
        for t in range(int(budgets[g])):
            gain = (exact - coverage[g]).clamp(min=0).sum(-1).masked_fill(closed, -torch.inf)
            value.copy_(gain)
            evaluations[g, 1] += len(gain)
            p = choose(value, row_ids[g], float(floor[g]))
            limits = float(outside[g]), int(outside_row[g]), float(floor[g])
            if p is None or not wins(value, p, int(row_ids[g, p]), *limits):
                break
            picks[g, t], gains[g, t] = p, value[p]
            torch.maximum(coverage[g], exact[p], out=coverage[g])
            value[p] = -torch.inf
            closed[p] = True
    return picks, gains, evaluations
