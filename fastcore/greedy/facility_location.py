"""Facility location: rows that cover all others, exact lazy greedy with or without an n x n matrix.

Gains only shrink, so an old gain is an upper bound. Float32 similarities bound the gains; where two candidates
come nearer to each other than the bounds can tell, both are measured in float64.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import sparse_coverage
from fastcore.greedy.batches import Batch, earlier, in_batches, top_block
from fastcore.greedy.coverage import Coverage, FeatureCoverage, MatrixCoverage, reached
from fastcore.greedy.gradients import GradientCoverage
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.reduced_coverage import ReducedCoverage
from fastcore.greedy.sharded import ShardedView
from fastcore.greedy.stored import StoredCoverage
from fastcore.greedy.streamed import StreamedCoverage
from fastcore.greedy.tensor_core_coverage import TensorCoreCoverage
from fastcore.memory import retried, spare_bytes
from fastcore.numerics import full_precision, tensor_cores_pay
from fastcore.similarity import (
    DenseSimilarity,
    FeatureSimilarity,
    GradientSimilarity,
    Outside,
    Similarity,
    SparseSimilarity,
)

BLOCK = 512
PICKS_A_CALL = 1024


@full_precision()
def facility_location(
    view: Similarity | ShardedView,
    partition: Partition,
    *,
    preselected: Outside | None = None,
    stop_at: float | None = None,
    memory: int | None = None,
    progress: Counter | None = None,
    block: int = BLOCK,
) -> Picks:
    """Picks the row that raises sum_i max_{j in S} s_ij most, again and again; negative s_ij count as 0.

    `stop_at` ends a set at that fraction of its full coverage. Where n x n float32 numbers fit into `memory`
    bytes (a third of what is free), similarities are kept: n^2 * d / 2 multiplications and then little more.
    Otherwise they are made in blocks: about 2 to 3 n^2 * d multiplications in all, with memory for the block, one
    copy of the features and, in half of `memory`, at most n / 16 entries for each row of what it still
    adds to; 4 to 8 n^2 * d without room for those. With tensor cores most of these products are TF32 or
    float16, with a copy of the features each; what those leave open is decided in float32 or float64. Rows on
    the host are read once for each block, in float64; rows on the device in another type are converted in
    tiles, at most once more for each pick.
    Distances of gradients on a CPU are bounded from 32 coordinates, and measured where that leaves a choice.
    Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978.
    """
    if isinstance(view, ShardedView):
        return view.facility_location(partition, preselected=preselected, stop_at=stop_at, progress=progress)
    if isinstance(view, SparseSimilarity):
        if isinstance(preselected, LastLayerGradients):
            raise TypeError("preselected: outside gradients need gradients, not a sparse matrix")
        return sparse_coverage.cover(view, partition, preselected, stop_at, progress)
    out = Collector(partition)
    limit = spare_bytes(view.device) if memory is None else memory
    fixed, outside = earlier(preselected, view.n, view.device)
    copies = view.width if isinstance(view, GradientSimilarity) else 0

    def cover(batch: Batch, progress: Counter) -> None:
        rows = _coverage(view, batch, limit)
        if outside is not None:
            rows.add_external(outside)
        elif fixed is not None:
            rows.add_mask(batch.take(fixed))
        made = PickList(batch)
        rows.keep_lists(limit // 2)  # the rest is for blocks and copies
        retried(rows.start)
        target = stop_at * retried(rows.full) if stop_at is not None else None
        if target is not None:
            made.end(reached(rows.covered(), target))
        make_picks(rows, made, target, progress, block, out)
        out.count(**rows.counts())
        out.add(batch, made)

    in_batches(cover, partition, view.device, 4 * (int(partition.sizes.max()) + copies), progress)
    return out.picks()


def _coverage(
    view: FeatureSimilarity | GradientSimilarity | DenseSimilarity, batch: Batch, limit: int
) -> Coverage:
    if isinstance(view, FeatureSimilarity):
        if batch.streams(view.features):
            local = view.features.local  # type: ignore[union-attr]
            return StoredCoverage(view, batch, limit) if local else StreamedCoverage(view, batch)
        kind = TensorCoreCoverage if tensor_cores_pay(view.device) else FeatureCoverage
        return kind(view, batch, limit)
    if isinstance(view, GradientSimilarity):
        few = ReducedCoverage if ReducedCoverage.serves(view) else GradientCoverage
        return few(view, batch, limit)
    return MatrixCoverage(view, batch)


def make_picks(
    rows: Coverage,
    made: PickList,
    target: Tensor | None,
    progress: Counter,
    block: int,
    out: Collector,
) -> None:
    """Makes the picks of a batch, pass by pass."""
    size, before, lowest = 0, rows.bounds, True

    def choose_some() -> tuple[int, Tensor, Tensor, Tensor]:
        nonlocal size, before
        before, size = rows.bounds.clone(), rows.candidates(block)
        rows.tighten(size)
        at, outside, outside_row = top_block(rows.bounds, size, rows.floor, lowest)
        similarity = rows.similarities(at)
        most = min(at.shape[1], int(made.left.max()), PICKS_A_CALL if fresh or rows.sweeps else 1)
        new, gains, evaluations, state = rows.greedy(
            similarity, at, made.left.clamp(max=most), outside, outside_row, most
        )
        new, ends = torch.where(new < 0, -1, at.gather(1, new.clamp(min=0))), None
        if target is not None:
            total = rows.covered().unsqueeze(1) + gains.cumsum(1)
            done = reached(total, target.unsqueeze(1)) & (new >= 0)
            new = torch.where(done.cumsum(1) - done.long() > 0, -1, new)
            ends = done.any(1)
        evaluations = evaluations.sum(0).cpu()
        count = made.append(new, gains, ends)
        rows.coverage, rows.bounds = state
        return count, evaluations, at, similarity

    # The first pick changes every gain: all of them are taken again behind it, and not one by one.
    fresh = float(rows.covered().max()) > 0
    while made.more():
        count, evaluations, at, similarity = retried(choose_some)
        if made.grew or retried(lambda: bool((rows.bounds < before).any())):
            lowest = True
        elif lowest:
            lowest = False  # old bounds a little above the gains of the lowest rows: those are measured next
        else:
            block, lowest = 2 * size, True  # more rows are all but tied than a block holds
            if size >= rows.bounds.shape[1] or rows.candidates(block) == size:
                raise made.stuck("facility_location")
        retried(partial(rows.keep, at, similarity))
        del similarity  # before the next is made
        out.count(passes=1, evaluations=int(evaluations[0]), refinements=int(evaluations[1]))
        progress.update(count)
        if not fresh and count and made.more():
            retried(rows.sweep)
            fresh = True
