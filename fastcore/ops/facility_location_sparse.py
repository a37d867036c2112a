"""Lazy facility-location picks over a sparse similarity matrix."""

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
    budget: int,
    floor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the largest coverage gain `budget` times over a sparse matrix held column by column.

    Candidate j covers the rows indices[offsets[j]:offsets[j + 1]] (int64) with the values (float32) beside them.
    coverage (rows,) and bounds (candidates,) float64 are changed in place; a bound of -inf closes a candidate.
    Returns picks (budget,) int64, gains (budget,) float64 and the number of evaluations (1,). Tensors live on
    the CPU. An evaluation costs the entries of one column.
    """
    return implementation("facility_location_sparse", facility_location_sparse_reference, values)(
        offsets, indices, values, coverage, bounds, budget, floor
    )


def facility_location_sparse_reference(
    offsets: Tensor,
    indices: Tensor,
    values: Tensor,
    coverage: Tensor,
    bounds: Tensor,
    budget: int,
    floor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    picks = indices.new_full((budget,), -1)
    gains = coverage.new_zeros(budget)
    column = torch.repeat_interleave(torch.arange(len(bounds)), offsets.diff())
    rows = torch.arange(len(bounds))
    for t in range(budget):
        excess = (values.double() - coverage[indices]).clamp(min=0)
        fresh = coverage.new_zeros(len(bounds)).index_add(0, column, excess)
        bounds.copy_(torch.where(bounds == -torch.inf, bounds, fresh))
        p = choose(bounds, rows, floor)
        if p is None:
            break
        picks[t], gains[t] = p, bounds[p]
        span = slice(int(offsets[p]), int(offsets[p + 1]))
        coverage[indices[span]] = torch.maximum(coverage[indices[span]], values[span].double())
        bounds[p] = -torch.inf
    return picks, gains, torch.tensor([budget * len(bounds)])
