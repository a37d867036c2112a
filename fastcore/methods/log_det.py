"""Log-determinant."""

from __future__ import annotations

from typing import Any

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.log_det import log_det as engine
from fastcore.greedy.picks import Picks
from fastcore.methods._optimizers import general, native
from fastcore.registry import Context, method


@method(
    "log_det",
    signal="gradients",
    sharded=("cosine", "dot", "euclidean", "rbf", "precomputed"),
    cost="n·k·d + n·k²",
    paper='Kulesza and Taskar, "Determinantal point processes for machine learning", 2012; '
    'Chen et al., "Fast greedy MAP inference for determinantal point process", 2018',
)
def log_det(
    view: Any,
    partition: Partition,
    *,
    ridge: float | None = None,
    optimizer: str = "lazy",
    epsilon: float | None = None,
    beta: float | None = None,
    context: Context,
) -> Picks:
    """Rows that span the largest volume: the greedy mode of a determinantal point process.

    Helps when the picks must differ from each other, also where some rows are near copies.

    Picks by the gain in log det(S_A + ridge * I), by incremental Cholesky; ``ridge`` is by default 1e-3 times
    the mean of the diagonal. Raises ValueError for a similarity that is not positive definite.
    """
    if ridge is not None:
        checks.number("ridge", ridge, "[0, inf)")
    if native(optimizer, epsilon, beta):
        return engine(
            view,
            partition,
            ridge=ridge,
            preselected=context.preselected,
            memory=context.memory,
            progress=context.progress,
        )
    return general("log_det", view, partition, context, optimizer, epsilon, beta, ridge=ridge)
