"""Herding."""

from __future__ import annotations

from typing import Any

from fastcore.budget import Partition
from fastcore.greedy.herding import herding as engine
from fastcore.greedy.picks import Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.registry import Context, method
from fastcore.similarity import FeatureSimilarity


@method(
    "herding",
    metrics=("euclidean", "cosine"),
    sharded=("euclidean", "cosine"),
    cost="n·k·d",
    paper='Welling, "Herding dynamical weights to learn", 2009',
)
def herding(view: Any, partition: Partition, *, context: Context) -> Picks:
    """Rows whose mean is the mean of all rows: each pick brings the mean of the picks closest to it.

    Helps when the mean is what matters, as for classifiers by the nearest mean and for memories of past tasks.

    Minimises the distance between the mean of the features and the mean of the picks so far. Under "cosine"
    the rows are scaled to unit length first.
    """
    if not isinstance(view, FeatureSimilarity | ShardedView):
        raise TypeError(f"herding follows the mean of features, got a {type(view).__name__}: pass embeddings")
    return engine(view, partition, preselected=context.preselected, progress=context.progress)
