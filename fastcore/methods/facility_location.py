"""Facility location."""

from __future__ import annotations

from typing import Any

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.facility_location import facility_location as engine
from fastcore.greedy.picks import Picks
from fastcore.methods._optimizers import general, native
from fastcore.registry import Context, method


@method(
    "facility_location",
    signal="gradients",
    sparse=True,
    sharded=("cosine", "dot", "euclidean", "rbf", "precomputed"),
    cost="about 3 to 7 n²·d from features; n² from a matrix",
    paper='Cornuejols et al., "Location of bank accounts to optimize float", 1977; '
    'Wei et al., "Submodularity in data subset selection and active learning", 2015',
)
def facility_location(
    view: Any,
    partition: Partition,
    *,
    optimizer: str = "lazy",
    epsilon: float | None = None,
    beta: float | None = None,
    stop_at: float | None = None,
    context: Context,
) -> Picks:
    """Rows that represent all rows: the largest sum, over the rows, of the similarity to the nearest pick.

    Helps when few rows must speak for many: at small budgets it beats random rows in the DeepCore benchmark.

    Picks greedily by the gain in sum_i max_{j in S} s_ij, in units of the similarity; a negative one counts
    as 0. ``stop_at`` in (0, 1] stops at that fraction of the full coverage, that of all rows together.
    """
    if stop_at is not None:
        checks.number("stop_at", stop_at, "(0, 1]")
    if native(optimizer, epsilon, beta):
        return engine(
            view,
            partition,
            preselected=context.preselected,
            stop_at=stop_at,
            memory=context.memory,
            progress=context.progress,
        )
    if stop_at is not None:
        raise ValueError(f"stop_at needs optimizer='lazy', got optimizer={optimizer!r}")
    return general("facility_location", view, partition, context, optimizer, epsilon, beta)
