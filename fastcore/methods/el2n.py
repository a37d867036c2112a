"""EL2N: the length of the error vector."""

from __future__ import annotations

from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods._scores import hardest
from fastcore.registry import Context, method


@method(
    "el2n",
    needs=("error_norms",),
    signal_options={"epoch": None},
    order="score",
    hard="high",
    sharded=("rows",),
    cost="n·C",
    paper='Paul, Ganguli and Dziugaite, "Deep learning on a data diet: finding important examples early in '
    'training", 2021',
)
def el2n(
    error_norms: Tensor, partition: Partition, *, keep: str = "hard", ties: str = "random", context: Context
) -> Picks:
    """Rows with the largest errors early in training: the length of probabilities minus the label.

    Helps to prune a moderate part of clean data; wrong labels have large errors too.

    Scores are ||softmax(logits) - onehot(label)||_2, between 0 and sqrt(2), averaged over runs: several models,
    or a record of several trainings. They are meant for a network that was trained for a few epochs; of a record
    ``epoch`` says which, counted from 0 (None for the last).

    ``keep`` is "hard" (the largest scores), "easy" or "middle"; ``ties`` puts equal scores in "random" order,
    seeded, or in that of the "row" numbers.
    """
    return hardest(error_norms, partition, keep, ties, context)
