"""Graph cut: representative rows minus redundancy, many exact picks for each pass over the data.

Under inner products (dot, cosine) the gains of all rows are one product of the features with
(sum of all rows - 2 lambda * sum of the picks), so a pass costs one read of the features and no n x n matrix
exists. Under other metrics the sums are taken in tiles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import Batch, batches, mark, pick, top_block, trim
from fastcore.greedy.cuts import LinearCut, PairwiseCut, SparseCut
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.numerics import full_precision
from fastcore.ops.graph_cut_block import graph_cut_block
from fastcore.similarity import FeatureSimilarity, Similarity, SparseSimilarity

BLOCK = 384
FLOOR = 1e-14


@full_precision()
def graph_cut(
    view: Similarity,
    partition: Partition,
    *,
    lam: float = 1.0,
    preselected: Tensor | None = None,
    progress: Counter | None = None,
    block: int = BLOCK,
) -> Picks:
    """Picks the row j with the largest gain, again and again.

    The function is sum_{i in V, j in S} s_ij - lam * sum_{i, j in S} s_ij; a gain is
    sum_i s_ij - lam * sum_{i in S} (s_ij + s_ji) - lam * s_jj. Cost for dot and cosine: n * d a pass, about
    ten passes; for other metrics n^2 * d once and n * k * d. Memory: 40 bytes a row for features.
    Iyer and Bilmes, "Submodular optimization with submodular cover and submodular knapsack constraints", 2013.
    """
    out = Collector(partition)
    for batch in batches(partition, view.device, _row_bytes(view, partition)):
        sets = _cut(view, batch, lam)
        fixed = batch.rows < 0
        if preselected is not None and preselected.is_floating_point():
            sets.add_external(preselected.to(view.device))
        elif preselected is not None:
            chosen = torch.zeros(view.n, dtype=torch.bool, device=view.device)
            chosen[preselected.to(view.device)] = True
            sets.add_mask(batch.take(chosen))
            fixed |= batch.take(chosen)
        made = PickList(batch)
        while bool((made.left > 0).any()):
            values = sets.values().masked_fill(fixed, -torch.inf)
            floor = FLOOR * values.masked_fill(fixed, 0).abs().amax(1)
            at, outside, outside_row = top_block(values, sets.block(block), floor)
            most = min(at.shape[1], int(made.left.max()))
            budgets = made.left.clamp(max=most)
            limits = (outside, outside_row, floor, sets.rise, sets.reach)
            new, gains = graph_cut_block(sets.among(at), pick(values, at), at, budgets, *limits, 2 * lam, most)
            new = torch.where(new < 0, -1, at.gather(1, new.clamp(min=0)))
            number = made.count.unsqueeze(1) + torch.arange(most, device=new.device)
            count = made.append(new, gains + sets.offset(number))
            new = trim(new)
            mark(fixed, new)
            sets.add(new)
            out.count(passes=1)
            if progress is not None:
                progress.update(count)
        out.add(batch, made)
    return out.picks()


def _cut(view: Similarity, batch: Batch, lam: float) -> LinearCut | PairwiseCut | SparseCut:
    if isinstance(view, SparseSimilarity):
        return SparseCut(view, batch, lam)
    if isinstance(view, FeatureSimilarity) and view.metric in ("cosine", "dot"):
        return LinearCut(view, batch, lam)
    return PairwiseCut(view, batch, lam)


def _row_bytes(view: Similarity, partition: Partition) -> int:
    if isinstance(view, FeatureSimilarity):
        return 4 * view.features.shape[1]
    return 8 if isinstance(view, SparseSimilarity) else 4 * int(partition.sizes.max())
