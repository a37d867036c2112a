"""GraNd: the length of the gradient."""

from __future__ import annotations

from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods._scores import hardest
from fastcore.registry import Context, method


@method(
    "grand",
    needs=("gradient_norms",),
    signal_options={"layers": "last"},
    order="score",
    hard="high",
    sharded=("rows",),
    cost="n·(C + D) for the last layer; a forward and a backward pass a row for all layers",
    paper='Paul, Ganguli and Dziugaite, "Deep learning on a data diet: finding important examples early in '
    'training", 2021',
)
def grand(
    gradient_norms: Tensor,
    partition: Partition,
    *,
    keep: str = "hard",
    ties: str = "random",
    context: Context,
) -> Picks:
    """Rows with the largest gradients of their own loss early in training.

    Helps to prune a moderate part of clean data; wrong labels have large gradients too.

    Scores are the lengths of per-row gradients of the cross-entropy, averaged over runs (a list of models), by
    the weights and the bias of the last layer with ``layers`` "last", ||p - y|| sqrt(1 + ||h||^2), or by all
    parameters with "all". The loss is that of one row: published code takes the mean over a batch, which
    divides every gradient by the size of its batch.

    ``keep`` is "hard" (the largest scores), "easy" or "middle"; ``ties`` puts equal scores in "random" order,
    seeded, or in that of the "row" numbers.
    """
    return hardest(gradient_norms, partition, keep, ties, context)
