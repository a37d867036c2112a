"""Farthest-first traversal, with the options that its methods share."""

from __future__ import annotations

from typing import Any

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.farthest_first import farthest_first
from fastcore.greedy.picks import Picks
from fastcore.registry import Context


def traverse(view: Any, partition: Partition, start: Any, stop_at: Any, context: Context) -> Picks:
    """Picks the row farthest from all picks, again and again. Raises ValueError, TypeError for the options."""
    return farthest_first(
        view,
        partition,
        start=_checked(start, stop_at, view, partition),
        preselected=context.preselected,
        stop_at=stop_at,
        generator=context.generator,
        progress=context.progress,
    )


def _checked(start: Any, stop_at: Any, view: Any, partition: Partition) -> str | int:
    """The start, "random", "mean" or a row, after checks of it and of stop_at. Raises ValueError, TypeError."""
    if stop_at is not None:
        checks.number("stop_at", stop_at, "[0, inf)")
    if isinstance(start, str):
        checks.choice("start", start, ("random", "mean"))
        if start == "mean" and view.metric == "precomputed":
            raise ValueError("start='mean' needs features, got metric='precomputed'")
        return start
    row = checks.whole("start", start, 0)
    if row >= view.n:
        raise ValueError(f"start must be a row below {view.n}, got {row}")
    if partition.sets > 1:
        raise ValueError(f"start={row} needs one ground set, got {partition.sets} classes")
    return row
