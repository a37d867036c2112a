"""Margin."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods._scores import by_row, doubt, hardest
from fastcore.registry import Context, method


@method(
    "margin",
    needs=("probabilities",),
    order="score",
    hard="high",
    sharded=("rows",),
    cost="n·C",
    paper='Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", 2001; '
    'Coleman et al., "Selection via proxy: efficient data selection for deep learning", 2020',
)
def margin(
    probabilities: Tensor, partition: Partition, *, keep: str = "hard", ties: str = "random", context: Context
) -> Picks:
    """Rows between two classes: those whose two largest class probabilities are nearest to each other.

    Helps where two classes compete for a row; else as least_confidence.

    Scores are 1 - (p_1 - p_2) of the largest and the second largest probability, between 0 and 1, computed as
    the sum of all but the largest, plus p_2: nothing cancels where p_1 is near 1. Rows with the largest scores,
    the smallest margins, are picked first, balanced or not.

    ``keep`` is "hard" (the largest scores), "easy" or "middle"; ``ties`` puts equal scores in "random" order,
    seeded, or in that of the "row" numbers.
    """
    return hardest(
        by_row(lambda p: torch.stack(doubt(p)).sum(0), probabilities), partition, keep, ties, context
    )
