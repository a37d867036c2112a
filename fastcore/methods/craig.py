"""CRAIG."""

from __future__ import annotations

from typing import Any

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.methods.facility_location import facility_location
from fastcore.registry import Context, method


@method(
    "craig",
    signal="gradients",
    metrics=("euclidean", "cosine", "dot"),
    weights="cluster",
    sharded=("euclidean", "cosine", "dot"),
    cost="n²·(C + D) from gradients of C classes and width D",
    paper='Mirzasoleiman et al., "Coresets for data-efficient training of machine learning models", 2020',
)
def craig(
    view: Any,
    partition: Partition,
    *,
    stop_at: float | None = None,
    context: Context,
) -> Picks:
    """Rows whose gradients, weighted by the rows they stand for, sum to nearly that of all rows.

    Helps when training by gradient descent on weighted rows, re-selected now and then.

    Facility location on c - |g_i - g_j|, c twice the largest distance to the mean: the picks bound the error
    of the weighted gradient sum, which is at most the sum of the distances to the nearest picks. A weight is
    the number of rows whose nearest pick it is; the weights of a ground set sum to its size. ``stop_at`` in
    (0, 1] stops at that fraction of the full coverage.
    """
    picks: Picks = facility_location(view, partition, stop_at=stop_at, context=context)
    return picks
