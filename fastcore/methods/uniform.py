"""Uniform sampling."""

from __future__ import annotations

import torch

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.registry import Context, method


@method(
    "uniform",
    needs=(),
    order="random",
    metrics=("euclidean", "cosine", "dot", "rbf", "precomputed"),
    sparse=True,
    cost="n log n",
)
def uniform(partition: Partition, *, context: Context) -> Picks:
    """Rows at random without replacement, from each class when balanced.

    The baseline: with much of the data kept it is hard to beat.

    The rows of a ground set are shuffled, independently of the budget, and the first ones taken: so a
    prefix is the selection for a smaller budget. Looks at no feature; the metric serves assignments only.
    """
    rows, group = partition.rows, partition.membership
    if context.preselected is not None and context.preselected.ndim == 1:
        free = ~torch.isin(rows, context.preselected)
        rows, group = rows[free], group[free]
    shuffled = torch.randperm(len(rows), generator=context.generator, device="cpu")
    order = torch.argsort(group * len(rows) + shuffled)
    rows, group = rows[order], group[order]
    first = torch.searchsorted(group, torch.arange(partition.sets, device="cpu"))
    place = torch.arange(len(rows), device="cpu") - first[group]
    taken = place < partition.budgets[group]
    shape = partition.sets, int(partition.budgets.max())
    picks = torch.full(shape, -1, dtype=torch.int64, device="cpu")
    picks[group[taken], place[taken]] = rows[taken]
    return Picks(picks, torch.zeros(shape, dtype=torch.float64, device="cpu"))
