"""Graph cut: representative rows minus redundancy, many exact picks for each pass over the data.

Under inner products (dot, cosine) the gains of all rows are one product of the features with
(sum of all rows - 2 lambda * sum of the picks), so a pass costs one read of the features and no n x n matrix
exists; between two passes the gains of few rows are measured, and those of all others are bounded. Under other
metrics the sums are taken in tiles.
"""

from __future__ import annotations

from fastcore.budget import Partition
from fastcore.greedy.batches import Batch, batches, earlier, mark, trim
from fastcore.greedy.cuts import Cut, LinearCut, MatrixCut, PairwiseCut, SparseCut
from fastcore.greedy.gradients import GradientCut, GradientPairwiseCut
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.numerics import full_precision
from fastcore.similarity import (
    DenseSimilarity,
    FeatureSimilarity,
    GradientSimilarity,
    Outside,
    Similarity,
    SparseSimilarity,
)


@full_precision()
def graph_cut(
    view: Similarity | ShardedView,
    partition: Partition,
    *,
    lam: float = 1.0,
    preselected: Outside | None = None,
    progress: Counter | None = None,
    block: int | None = None,
) -> Picks:
    """Picks the row j with the largest gain, again and again.

    The function is sum_{i in V, j in S} s_ij - lam * sum_{i, j in S} s_ij; a gain is
    sum_i s_ij - lam * sum_{i in S} (s_ij + s_ji) - lam * s_jj. Cost for dot and cosine: n * d a pass, one pass
    for up to 250 picks, fewer where rows lie all around the origin; for other metrics n^2 * d once and n * k * d.
    Memory: 100 bytes a row for features, and 8 * d for each pick of a pass.
    Iyer and Bilmes, "Submodular optimization with submodular cover and submodular knapsack constraints", 2013.
    """
    out = Collector(partition)
    earlier_rows, outside = earlier(preselected, view.n, view.device)
    for batch in batches(partition, view.device, _row_bytes(view, partition)):
        cut = _cut(view, batch, lam)
        fixed = batch.rows < 0
        if outside is not None:
            cut.add_external(outside)
        elif earlier_rows is not None:
            chosen = batch.take(earlier_rows)
            cut.add_mask(chosen)
            fixed |= chosen
        made = PickList(batch)
        while bool((made.left > 0).any()):
            new, gains = cut.pick(fixed, made.left, block)
            count = made.append(new, gains)
            new = trim(new)
            mark(fixed, new)
            cut.add(new)
            out.count(passes=1)
            if progress is not None:
                progress.update(count)
        out.add(batch, made)
    return out.picks()


def _cut(view: Similarity | ShardedView, batch: Batch, lam: float) -> Cut:
    if isinstance(view, ShardedView):
        return view.cut(batch, lam)
    if isinstance(view, SparseSimilarity):
        return SparseCut(view, batch, lam)
    if isinstance(view, DenseSimilarity):
        return MatrixCut(view, batch, lam)
    linear = view.metric in ("cosine", "dot")
    if isinstance(view, GradientSimilarity):
        return (GradientCut if linear else GradientPairwiseCut)(view, batch, lam)
    return (LinearCut if linear else PairwiseCut)(view, batch, lam)


def _row_bytes(view: Similarity | ShardedView, partition: Partition) -> int:
    if isinstance(view, FeatureSimilarity | ShardedView):
        return 4 * view.width
    if isinstance(view, GradientSimilarity):
        return 12 * view.width  # with the sums of the gradients of a set
    return 8 if isinstance(view, SparseSimilarity) else 4 * int(partition.sizes.max())
