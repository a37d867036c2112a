"""DeepFool."""

from __future__ import annotations

from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods._scores import hardest
from fastcore.registry import Context, method


@method(
    "deepfool",
    needs=("boundary_distances",),
    signal_options={"candidates": 10, "overshoot": 0.02, "iterations": 50},
    order="score",
    hard="low",
    sharded=("rows",),
    cost="a few steps a row, each of one forward and `candidates` - 1 backward passes of the network",
    paper='Ducoffe and Precioso, "Adversarial active learning for deep networks: a margin based approach", 2018; '
    'Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep neural networks", '
    "2016",
)
def deepfool(
    distances: Tensor, partition: Partition, *, keep: str = "hard", ties: str = "random", context: Context
) -> Picks:
    """Rows nearest to the decision boundary: those whose prediction the smallest perturbation changes.

    Helps to find the rows near the boundary where confidence is not calibrated; costs far more than margin.

    Scores are the lengths of the perturbations, in the units of the network's inputs; the shortest are the
    hardest. They count from the predicted class, whether it is right or not. ``candidates`` is how many of the
    highest logits are considered, the predicted class included (None for all), ``overshoot`` the fraction by
    which a perturbation is lengthened to land across the boundary, and ``iterations`` the steps at most.
    ``keep`` is "hard", "easy" or "middle", ``ties`` "random" or "row".
    """
    return hardest(distances, partition, keep, ties, context, hard="low")
