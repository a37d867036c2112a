"""Entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods._scores import by_row, hardest
from fastcore.registry import Context, method


@method(
    "entropy",
    needs=("probabilities",),
    order="score",
    hard="high",
    sharded=("rows",),
    cost="n·C",
    paper='Shannon, "A mathematical theory of communication", 1948; '
    'Coleman et al., "Selection via proxy: efficient data selection for deep learning", 2020',
)
def entropy(
    probabilities: Tensor, partition: Partition, *, keep: str = "hard", ties: str = "random", context: Context
) -> Picks:
    """Rows whose class probabilities are spread the most evenly.

    Helps where many classes compete; else as least_confidence.

    Scores are -sum_c p_c log p_c in nats, between 0 and log C, with 0 log 0 = 0. The largest come first, in a
    balanced selection and in an unbalanced one; published code has the latter in the reverse order.

    ``keep`` is "hard" (the largest scores), "easy" or "middle"; ``ties`` puts equal scores in "random" order,
    seeded, or in that of the "row" numbers.
    """
    scores = by_row(lambda p: torch.special.entr(p).sum(1), probabilities)
    return hardest(scores, partition, keep, ties, context)
