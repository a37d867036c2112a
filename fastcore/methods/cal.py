"""CAL: contrastive active learning."""

from __future__ import annotations

from torch import Tensor

from fastcore import checks
from fastcore.budget import Partition
from fastcore.divergence import mean_divergence
from fastcore.greedy.neighbours import nearest_neighbours
from fastcore.greedy.picks import Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.methods._scores import hardest
from fastcore.registry import Context, method


@method(
    "cal",
    needs=("features", "probabilities"),
    order="score",
    hard="high",
    sharded=("features",),
    cost="n²·d (n·d times the size of a class when balanced), and n·C for each neighbour",
    paper='Margatina et al., "Active learning by acquiring contrastive examples", 2021',
)
def cal(
    features: Tensor | ShardedView,
    probabilities: Tensor,
    partition: Partition,
    *,
    neighbours: int = 10,
    keep: str = "hard",
    ties: str = "random",
    context: Context,
) -> Picks:
    """Rows that look like their neighbours but are predicted otherwise: contrastive examples.

    Helps near the decision boundary, where alike rows are predicted unlike.

    Scores are mean_j KL(p_j || p_i) in nats over the nearest neighbours j of row i, by the Euclidean distance of
    the features, within the ground set and without i itself. ``neighbours`` is how many, fewer in a smaller set;
    a row alone in its set scores 0. The neighbours are exact, ties to the lowest row. Probabilities below 1e-12
    count as 1e-12. The most divergent rows come first; published code keeps the least divergent ones.

    ``keep`` is "hard" (the largest scores), "easy" or "middle"; ``ties`` puts equal scores in "random" order,
    seeded, or in that of the "row" numbers. Memory: 8 bytes for each neighbour, and tiles of some 100 MB in all.
    """
    count = min(checks.whole("neighbours", neighbours, 1), max(1, int(partition.sizes.max()) - 1))
    if isinstance(features, ShardedView):
        scores = features.divergence_from_neighbours(probabilities, count)
    else:
        scores = mean_divergence(probabilities, nearest_neighbours(features, partition, count))
    return hardest(scores, partition, keep, ties, context)
