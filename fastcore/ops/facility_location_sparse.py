"""Lazy facility-location picks over a sparse similarity matrix, ground sets side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose


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
    """Pick the largest coverage gain again and again over a sparse matrix held column by column.

    Ground set g is the rows from starts[g] to starts[g + 1], starts (sets + 1,) int64. Candidate j covers the rows
    indices[offsets[j]:offsets[j + 1]] (int64) of its own set, no row twice, with the values (float32) beside them.
    coverage and bounds (rows,) float64 are changed in place: a bound is at least the gain, inf where nothing is
    known of it, and -inf closes a candidate. budgets (sets,) int64 of at most `most`, floor (sets,) float64.
    Returns picks (sets, most) int64 row numbers, -1 after the last, gains (sets, most) float64 and the gains
    taken (sets,) int64. A gain costs the entries of one column, a pick the logarithm of the rows of its set
    beside a few of them.
    """
    return implementation("facility_location_sparse", facility_location_sparse_reference, values)(
        offsets, indices, values, coverage, bounds, starts, budgets, floor, most
    )


def facility_location_sparse_reference(
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
    picks = budgets.new_full((len(budgets), most), -1)
    gains = coverage.new_zeros((len(budgets), most))
    rows = torch.arange(len(bounds), device=bounds.device)
    for g, (first, last) in enumerate(zip(starts.tolist(), starts[1:].tolist(), strict=False)):
        mine = slice(int(offsets[first]), int(offsets[last]))
        own = rows[: last - first]
        column = torch.repeat_interleave(own, offsets[first : last + 1].diff())
        bound = bounds[first:last]
        for t in range(int(budgets[g]) if last > first else 0):
            excess = (values[mine].double() - coverage[indices[mine]]).clamp(min=0)
            bound.copy_(torch.zeros_like(bound).index_add(0, column, excess).where(bound > -torch.inf, bound))
            p = choose(bound, own, float(floor[g]))
            if p is None:
                break
            picks[g, t], gains[g, t] = first + p, bound[p]
            span = slice(int(offsets[first + p]), int(offsets[first + p + 1]))
            coverage[indices[span]] = torch.maximum(coverage[indices[span]], values[span].double())
            bound[p] = -torch.inf
    return picks, gains, starts.diff() * budgets
