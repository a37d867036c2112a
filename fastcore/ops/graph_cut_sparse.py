"""Graph-cut picks over a sparse similarity matrix, ground sets side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose


def graph_cut_sparse(
    offsets: Tensor,
    indices: Tensor,
    weights: Tensor,
    values: Tensor,
    starts: Tensor,
    budgets: Tensor,
    floor: Tensor,
    penalty: float,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Pick the largest graph-cut gain again and again over a symmetric sparse matrix.

    Ground set g is the rows from starts[g] to starts[g + 1], starts (sets + 1,) int64. Row j is similar to the
    rows indices[offsets[j]:offsets[j + 1]] (int64) of its own set, ascending and no row twice, by the weights
    (float64) beside them, which stand in the lists of those rows as well. values (rows,) float64 are the gains,
    -inf for a row that cannot be picked, changed in place: a pick is closed and takes `penalty` times the weights
    off the rows of its list. budgets (sets,) int64 of at most `most`, floor (sets,) float64.
    Returns picks (sets, most) int64 row numbers, -1 after the last, and gains (sets, most) float64. A pick costs
    the entries of its list, times the logarithm of the rows of its set at worst.
    """
    return implementation("graph_cut_sparse", graph_cut_sparse_reference, weights)(
        offsets, indices, weights, values, starts, budgets, floor, penalty, most
    )


def graph_cut_sparse_reference(
    offsets: Tensor,
    indices: Tensor,
    weights: Tensor,
    values: Tensor,
    starts: Tensor,
    budgets: Tensor,
    floor: Tensor,
    penalty: float,
    most: int,
) -> tuple[Tensor, Tensor]:
    picks = budgets.new_full((len(budgets), most), -1)
    gains = values.new_zeros((len(budgets), most))
    rows = torch.arange(len(values), device=values.device)
    for g, (first, last) in enumerate(zip(starts.tolist(), starts[1:].tolist(), strict=False)):
        for t in range(int(budgets[g]) if last > first else 0):
            p = choose(values[first:last], rows[first:last], float(floor[g]))
            if p is None:
                break
            p += first
            picks[g, t], gains[g, t] = p, values[p]
            span = slice(int(offsets[p]), int(offsets[p + 1]))
            values[indices[span]] -= penalty * weights[span]
            values[p] = -torch.inf
    return picks, gains
