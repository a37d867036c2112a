"""Forgetting events."""

from __future__ import annotations

from typing import Any

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods._scores import hardest
from fastcore.registry import Context, method


@method(
    "forgetting",
    needs=("dynamics",),
    order="score",
    hard="high",
    sharded=("rows",),
    cost="n·epochs",
    paper='Toneva et al., "An empirical study of example forgetting during deep neural network learning", 2019',
)
def forgetting(
    dynamics: Any, partition: Partition, *, keep: str = "hard", ties: str = "random", context: Context
) -> Picks:
    """Rows that the network forgets: those that turn from right to wrong in the most epochs of a training.

    Helps to drop the easy rows of a large set: what was never forgotten is seldom missed.

    Scores count, over consecutive epochs in which a row was seen, those where its prediction was right before
    and is wrong now, as predicted while training. A row that was never right has the score inf, and comes
    first: published code gives it 0, the score of a row that was learned at once.

    Scores are small whole numbers, so that most rows are tied: ``ties`` puts them in "random" order, seeded, or
    in that of the "row" numbers. ``keep`` is "hard" (the largest scores), "easy" or "middle".
    """
    return hardest(dynamics.forgetting_events(), partition, keep, ties, context)
