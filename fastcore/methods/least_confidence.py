"""Least confidence."""

from __future__ import annotations

from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods._scores import by_row, doubt, hardest
from fastcore.registry import Context, method


@method(
    "least_confidence",
    needs=("probabilities",),
    order="score",
    hard="high",
    sharded=("rows",),
    cost="n·C",
    paper='Lewis and Gale, "A sequential algorithm for training text classifiers", 1994; '
    'Coleman et al., "Selection via proxy: efficient data selection for deep learning", 2020',
)
def least_confidence(
    probabilities: Tensor, partition: Partition, *, keep: str = "hard", ties: str = "random", context: Context
) -> Picks:
    """Rows of which the network is least sure: those whose largest class probability is smallest.

    Helps at large budgets, and to choose what to label next; at small ones hard rows alone teach little.

    Scores are 1 - max_c p_c, between 0 and 1 - 1/C, computed as the sum of the other probabilities: rows whose
    largest probability rounds to 1 keep their order. It is the largest probability that counts, where published
    code takes the largest logit, which also grows with the others.

    ``keep`` is "hard" (the largest scores), "easy" or "middle"; ``ties`` puts equal scores in "random" order,
    seeded, or in that of the "row" numbers.
    """
    return hardest(by_row(lambda p: doubt(p)[0], probabilities), partition, keep, ties, context)
