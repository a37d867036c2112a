"""Picks by score: the hardest rows, the easiest, or those in the middle."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.picks import Picks

KEEP = ("hard", "easy", "middle")
TIES = ("random", "row")
_DROPPED_BITS = 12
"""Of the 53 of a float64: scores that differ by less than some 1e-12 of their value are tied."""


def ranked(
    scores: Tensor,
    partition: Partition,
    *,
    hard: str,
    keep: str = "hard",
    ties: str = "random",
    preselected: Any = None,
    generator: torch.Generator | None = None,
) -> Picks:
    """Picks the rows of every ground set that are first by score.

    `scores` is (n,) in the units of the method, infinity allowed, and `hard` says which end is the hard one,
    "high" or "low". `keep` is "hard" or "easy", from that end inwards, or "middle", from the median of the
    ground set outwards, by rank, the harder row first at equal distance. Equal scores follow a seeded
    permutation, or with ties="row" the order of the rows. `preselected` rows have no rank and are not picked;
    rows outside the data change no score, and are passed over. Gains are the scores of the picks. n log n,
    without a loop over the ground sets.
    """
    checks.choice("keep", keep, KEEP)
    checks.choice("ties", ties, TIES)
    scores = scores.detach().to("cpu", torch.float64)
    rows, group = partition.rows, partition.membership
    if isinstance(preselected, Tensor) and preselected.ndim == 1:
        free = ~torch.isin(rows, preselected.cpu())
        rows, group = rows[free], group[free]
    if ties == "random":
        shuffled = torch.randperm(len(rows), generator=generator, device="cpu")
        rows, group = rows[shuffled], group[shuffled]
    # Stable sorts from the last key to the first: ties, score, ground set.
    high = (hard == "high") == (keep != "easy")
    order = _rounded(scores[rows]).argsort(descending=high, stable=True)
    order = order[group[order].argsort(stable=True)]
    rows, group = rows[order], group[order]
    counts = torch.bincount(group, minlength=partition.sets)
    place = torch.arange(len(rows), device="cpu") - (counts.cumsum(0) - counts)[group]
    if keep == "middle":
        # Twice the distance to the centre of the ranks 0 .. count - 1.
        distance = (2 * place - (counts[group] - 1)).abs()
        order = distance.argsort(stable=True)
        order = order[group[order].argsort(stable=True)]
        rows, group = rows[order], group[order]
    taken = place < partition.budgets[group]
    shape = partition.sets, int(partition.budgets.max())
    picks = torch.full(shape, -1, dtype=torch.int64, device="cpu")
    gains = torch.zeros(shape, dtype=torch.float64, device="cpu")
    picks[group[taken], place[taken]] = rows[taken]
    gains[group[taken], place[taken]] = scores[rows[taken]]
    return Picks(picks, gains, scores=scores)


def _rounded(scores: Tensor) -> Tensor:
    """Scores without their last bits, so that sums in another order give no other rank."""
    unit = 1 << _DROPPED_BITS
    return (scores.view(torch.int64) + unit // 2).bitwise_and_(-unit).view(torch.float64)
