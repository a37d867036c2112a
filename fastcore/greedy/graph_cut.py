"""Graph cut: representative rows minus redundancy, many exact picks for each pass over the data.

Under inner products (dot, cosine) the gains of all rows are one product of the features with
(sum of all rows - 2 lambda * sum of the picks), so a pass costs one read of the features and no n x n matrix
exists; between two passes the gains of few rows are measured, and those of all others are bounded. Under other
metrics the sums are taken in tiles.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy import sparse_cut
from fastcore.greedy.batches import Batch, earlier, in_batches, mark, pick, trim
from fastcore.greedy.cuts import FLOOR, BlockCut, Cut, LinearCut, MatrixCut, PairwiseCut
from fastcore.greedy.gradients import GradientCut, GradientPairwiseCut
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.greedy.streamed import StreamedCut
from fastcore.memory import retried
from fastcore.numerics import full_precision
from fastcore.ops.choice import choose
from fastcore.similarity import (
    DenseSimilarity,
    FeatureSimilarity,
    GradientSimilarity,
    Outside,
    Similarity,
    SparseSimilarity,
)

Held = FeatureSimilarity | GradientSimilarity | DenseSimilarity | ShardedView
"""What is picked from in passes."""


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
    sum_i s_ij - lam * sum_{i in S} (s_ij + s_ji) - lam * s_jj. Cost for dot and cosine: n * d for up to
    340 picks (250 on a GPU), fewer where rows lie all around the origin; for other metrics n^2 * d once
    and n * k * d; for a sparse matrix its entries, sorted once, and those of the picks. Memory: 100 bytes a row
    for features, and 8 * d for each pick of a pass (4 * d on a CPU); 120 bytes an entry of a sparse matrix.
    Iyer and Bilmes, "Submodular optimization with submodular cover and submodular knapsack constraints", 2013.
    """
    if isinstance(view, SparseSimilarity):
        return sparse_cut.cut(view, partition, lam, preselected, progress)
    out = Collector(partition)
    earlier_rows, outside = earlier(preselected, view.n, view.device)

    def pick_all(batch: Batch, progress: Counter) -> None:
        cut = _cut(view, batch, lam)
        fixed = batch.rows < 0
        if outside is not None:
            cut.add_external(outside)
        elif earlier_rows is not None:
            chosen = batch.take(earlier_rows)
            cut.add_mask(chosen)
            fixed |= chosen
        made = PickList(batch)

        def choose_some() -> tuple[Tensor, int]:
            new, gains = cut.pick(fixed, made.left, block)
            new = trim(new)
            if not new.shape[1] and isinstance(cut, BlockCut):
                new, gains = _settle(cut, fixed, made.left)
            return new, made.append(new, gains[:, : new.shape[1]])

        while made.more():
            new, count = retried(choose_some)
            if not made.grew:
                raise made.stuck("graph_cut", bounds=False)
            retried(partial(mark, fixed, new))
            if made.more():
                retried(partial(cut.add, new))
            out.count(passes=1)
            progress.update(count)
        out.add(batch, made)

    in_batches(pick_all, partition, view.device, _row_bytes(view, partition), progress)
    return out.picks()


def _cut(view: Held, batch: Batch, lam: float) -> Cut:
    if isinstance(view, ShardedView):
        return view.cut(batch, lam)
    if isinstance(view, DenseSimilarity):
        return MatrixCut(view, batch, lam)
    linear = view.metric in ("cosine", "dot")
    if isinstance(view, GradientSimilarity):
        return (GradientCut if linear else GradientPairwiseCut)(view, batch, lam)
    if not linear:
        return PairwiseCut(view, batch, lam)
    return (StreamedCut if batch.streams(view.features) else LinearCut)(view, batch, lam)


def _settle(cut: BlockCut, fixed: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """The next pick (G, 1) of every set and its gain, where more rows are all but tied than a block holds."""
    values = cut.gains.masked_fill(fixed, -torch.inf)
    floor = FLOOR * values.masked_fill(fixed, 0).abs().amax(1)
    rows = torch.arange(values.shape[1], device=values.device)
    at = [choose(values[g], rows, float(floor[g])) if int(left[g]) > 0 else None for g in range(len(left))]
    picks = left.new_tensor([-1 if p is None else p for p in at])[:, None]
    return picks, pick(values, picks)


def _row_bytes(view: Held, partition: Partition) -> int:
    if isinstance(view, FeatureSimilarity | ShardedView):
        return 4 * view.width
    if isinstance(view, GradientSimilarity):
        return 12 * view.width  # with the sums of the gradients of a set
    return 4 * int(partition.sizes.max())
