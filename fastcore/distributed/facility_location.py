"""Facility location over rows on several ranks: the engine of one process, whose state asks all of them."""

from __future__ import annotations

import torch

from fastcore.budget import Partition
from fastcore.distributed.coverage import (
    CoverageOverRanks,
    ShardedCoverage,
    ShardedGradientCoverage,
    ShardedMatrixCoverage,
)
from fastcore.distributed.matrix import MatrixRows
from fastcore.distributed.shards import Shards
from fastcore.greedy.batches import batches, earlier
from fastcore.greedy.coverage import reached
from fastcore.greedy.facility_location import BLOCK, make_picks
from fastcore.greedy.picks import Collector, Counter, PickList, Picks, Tally
from fastcore.numerics import full_precision
from fastcore.similarity import FeatureSimilarity, GradientSimilarity, Outside

BLOCK_BYTES = 1 << 30
"""Candidates of a pass are fewer where their similarities with the rows of a rank would take more bytes."""


@full_precision()
def facility_location(
    shards: Shards,
    view: FeatureSimilarity | GradientSimilarity | MatrixRows,
    partition: Partition,
    *,
    preselected: Outside | None = None,
    stop_at: float | None = None,
    memory: int | None = None,
    progress: Counter | None = None,
) -> Picks:
    """Picks the row that raises sum_i max_{j in S} s_ij most, again and again; negative s_ij count as 0.

    A rank covers its own rows. Where 4 bytes for each of them and each of all rows fit into `memory` on every rank
    (a third of what is free, shared by the ranks of a machine), it keeps their similarities, which takes n * d
    multiplications for each of its rows; else it makes those of a block of candidates in each pass, and
    keeps lists of what still matters. A gain is the sum of what the ranks find: four to eight collectives a pick.
    """
    state = _coverage(shards, view)
    fixed, outside = earlier(preselected, shards.n, view.device)
    if outside is not None:
        state.add_external(outside)
    elif fixed is not None:
        state.add_mask(fixed[None])
    state.make_room(memory)
    block = max(64, min(BLOCK, BLOCK_BYTES // (4 * max(shards.counts))))
    # What is known of candidates is the same on every rank, and small: a CPU decides.
    batch = next(batches(partition, torch.device("cpu"), 4))
    out, made = Collector(partition), PickList(batch)
    state.start()
    if stop_at is not None:
        state.target = stop_at * state.full()
        made.end(reached(state.covered(), state.target))
    make_picks(state, made, state.target, Tally(progress), block, out)
    out.count(**state.counts())
    out.add(batch, made)
    return out.picks()


def _coverage(shards: Shards, view: FeatureSimilarity | GradientSimilarity | MatrixRows) -> CoverageOverRanks:
    if isinstance(view, MatrixRows):
        return ShardedMatrixCoverage(shards, view)
    return (ShardedGradientCoverage if isinstance(view, GradientSimilarity) else ShardedCoverage)(
        shards, view
    )
