"""Contextual diversity."""

from __future__ import annotations

from torch import Tensor

from fastcore.budget import Partition
from fastcore.divergence import Divergence
from fastcore.greedy.picks import Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.methods._traversal import traverse
from fastcore.registry import Context, method


@method(
    "contextual_diversity",
    needs=("probabilities",),
    sharded=("probabilities",),
    cost="2 n·k·C, in about twenty passes over the probabilities",
    paper='Agarwal et al., "Contextual diversity for active learning", 2020',
)
def contextual_diversity(
    probabilities: Tensor | ShardedView,
    partition: Partition,
    *,
    start: str | int = "random",
    stop_at: float | None = None,
    context: Context,
) -> Picks:
    """Rows on which the network's predictions differ: each pick is the row farthest from the picks so far.

    Helps when predictions rather than features should vary, as in segmentation and active learning.

    Distances are symmetric divergences of the class probabilities,

        D(p, q) = KL(p || q) / 2 + KL(q || p) / 2 = sum_c (p_c - q_c) (log p_c - log q_c) / 2,

    in nats. Gains are distances to the earlier picks, inf for a first pick. Ties go to the lowest row.

    Probabilities below 1e-12 count as 1e-12, so that D exists where a class is ruled out: published code has no
    such bound, and one-hot rows turn its distances into NaN. Two rows with D below 1e-12 coincide.

    ``start`` is "random", "mean" (the row nearest to the mean of the probabilities) or a row number; it does not
    matter when rows are preselected, by number or as probabilities of rows outside the data. ``stop_at`` is the
    distance at which to stop: every row is then that near to a pick. Memory: some 60 bytes a row, the
    probabilities of the picks, and tiles of some tens of MB.
    """
    view = probabilities if isinstance(probabilities, ShardedView) else Divergence(probabilities)
    return traverse(view, partition, start, stop_at, context)
