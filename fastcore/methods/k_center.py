"""K-center."""

from __future__ import annotations

from typing import Any

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods._traversal import traverse
from fastcore.registry import Context, method


@method(
    "k_center",
    metrics=("euclidean", "cosine", "precomputed"),
    pairs="distance",
    sharded=("euclidean", "cosine", "precomputed"),
    cost="n·k·d, in about ten passes over the features",
    paper='Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; '
    'Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", 2018',
)
def k_center(
    view: Any,
    partition: Partition,
    *,
    start: str | int = "random",
    stop_at: float | None = None,
    context: Context,
) -> Picks:
    """Rows that leave no row far from a pick: each pick is the row farthest from the picks so far.

    Helps when no row may be far from a pick; it goes for outliers, and suits large budgets and clean data.

    Gains are distances (1 - cos under "cosine"), inf for a first pick. ``start`` is "random", "mean" (the row
    nearest to the mean) or a row number; it does not matter when rows are preselected. ``stop_at`` is the
    radius at which to stop: every row is then that near to a pick.
    """
    return traverse(view, partition, start, stop_at, context)
