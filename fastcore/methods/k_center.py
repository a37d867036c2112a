"""K-center."""

from __future__ import annotations

from typing import Any

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.farthest_first import farthest_first
from fastcore.greedy.picks import Picks
from fastcore.registry import Context, method


@method(
    "k_center",
    metrics=("euclidean", "cosine", "precomputed"),
    pairs="distance",
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

    Gains are distances (1 - cos under "cosine"), inf for a first pick. ``start`` is "random", "mean" (the row
    nearest to the mean) or a row number; it does not matter when rows are preselected. ``stop_at`` is the
    radius at which to stop: every row is then that near to a pick.
    """
    if isinstance(start, str):
        checks.choice("start", start, ("random", "mean"))
        if start == "mean" and view.metric == "precomputed":
            raise ValueError("start='mean' needs features, got metric='precomputed'")
    else:
        start = checks.whole("start", start, 0)
        if start >= view.n:
            raise ValueError(f"start must be a row below {view.n}, got {start}")
        if partition.sets > 1:
            raise ValueError(f"start={start} needs one ground set, got {partition.sets} classes")
    if stop_at is not None:
        checks.number("stop_at", stop_at, "[0, inf)")
    return farthest_first(
        view,
        partition,
        start=start,
        preselected=context.preselected,
        stop_at=stop_at,
        generator=context.generator,
        progress=context.progress,
    )
