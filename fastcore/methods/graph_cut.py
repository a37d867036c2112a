"""Graph cut."""

from __future__ import annotations

from typing import Any

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.graph_cut import graph_cut as engine
from fastcore.greedy.picks import Picks
from fastcore.methods._optimizers import general, native
from fastcore.registry import Context, method


@method(
    "graph_cut",
    signal="gradients",
    sparse=True,
    sharded=("cosine", "dot", "euclidean", "rbf", "precomputed"),
    cost="a few n·d passes for cosine and dot; n²·d for other metrics",
    paper='Iyer et al., "Submodular combinatorial information measures with applications in machine '
    'learning", 2021',
)
def graph_cut(
    view: Any,
    partition: Partition,
    *,
    lam: float = 1.0,
    optimizer: str = "lazy",
    epsilon: float | None = None,
    beta: float | None = None,
    context: Context,
) -> Picks:
    """Rows similar to all rows and unlike each other: the cut between the picks and the data.

    Helps at small budgets, where typical rows teach most: on CIFAR-10 it led DeepCore's table up to 10 %.

    Picks greedily by the gain in sum_{i in V, j in S} s_ij - lam * sum_{i, j in S} s_ij, in units of the
    similarity; monotone for lam up to 1/2 and non-negative similarities. A larger ``lam`` spreads the picks.
    """
    checks.number("lam", lam, "[0, inf)")
    if native(optimizer, epsilon, beta):
        return engine(view, partition, lam=lam, preselected=context.preselected, progress=context.progress)
    return general("graph_cut", view, partition, context, optimizer, epsilon, beta, lam=lam)
