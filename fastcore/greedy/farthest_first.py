"""Farthest-first traversal (greedy k-center): many exact picks for each pass over the data.

Distances to the coreset only shrink. A pass takes the rows that are farthest so far, picks among them as long
as no row outside the block could be farther, and folds all its picks into the distances with one product.
Float32 distances serve as bounds; what is compared inside a block is float64.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.divergence import Divergence
from fastcore.greedy.batches import Batch, earlier, in_batches, trim
from fastcore.greedy.distances import FeatureDistances
from fastcore.greedy.divergences import DivergenceDistances
from fastcore.greedy.pairwise import MatrixDistances, PairwiseDistances, ProductDistances
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.memory import retried
from fastcore.numerics import full_precision
from fastcore.ops.choice import choose, tolerance
from fastcore.ops.farthest_first_block import farthest_first_block
from fastcore.similarity import DenseSimilarity, FeatureSimilarity, Outside, RowSimilarity

BLOCK = 512

View = RowSimilarity | DenseSimilarity | Divergence | ShardedView
Distances = FeatureDistances | PairwiseDistances


@full_precision()
def farthest_first(
    view: View,
    partition: Partition,
    *,
    start: str | int = "random",
    preselected: Outside | None = None,
    stop_at: float | None = None,
    generator: torch.Generator | None = None,
    progress: Counter | None = None,
    block: int = BLOCK,
) -> Picks:
    """Picks, again and again, the row farthest from all picks so far.

    The first pick is a "random" row, the row nearest to the "mean", or a given row, unless rows of its set are
    `preselected` (row numbers, or outside rows of the same kind). Gains are distances to the earlier picks, inf
    for a first pick: Euclidean, 1 - cos under "cosine", as given for a matrix (entry [i, j]: from row i to
    pick j), in nats for a Divergence. `stop_at` ends a set once every row is that near to a pick. Cost: n * k
    * d multiplications in about ten passes over the features, in float64 for gradients; memory: 30 to 60 bytes a
    row and tiles of a few MB (32 MB for gradients).
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.
    """
    out = Collector(partition)
    draws = torch.rand(partition.sets, generator=generator, dtype=torch.float64, device="cpu")
    fixed, external = earlier(preselected, view.n, view.device)

    def traverse(batch: Batch, progress: Counter) -> None:
        sets = _distances(view, batch)
        made = PickList(batch)
        covered = torch.zeros_like(batch.rows, dtype=torch.bool) if fixed is None else batch.take(fixed)
        if external is not None:
            sets.fold_external(external)  # type: ignore[arg-type]
        elif bool(covered.any()):
            sets.fold_mask(covered)
        if external is None:
            first = sets.first(start, draws[batch.sets].to(view.device))
            first = torch.where(covered.any(1), -1, first).unsqueeze(1)
            count = made.append(first, torch.full_like(first, torch.inf, dtype=torch.float64))
            sets.fold(first)
            progress.update(count)
        _traverse(sets, made, stop_at, progress, block, out)
        out.add(batch, made)

    in_batches(traverse, partition, view.device, _row_bytes(view, partition, block), progress)
    return out.picks()


def _distances(view: View, batch: Batch) -> Distances:
    if isinstance(view, ShardedView):
        return view.distances(batch)
    if isinstance(view, FeatureSimilarity):
        return FeatureDistances(view, batch)
    if isinstance(view, DenseSimilarity):
        return MatrixDistances(view, batch)
    return DivergenceDistances(view, batch) if isinstance(view, Divergence) else ProductDistances(view, batch)


def _row_bytes(view: View, partition: Partition, block: int) -> int:
    """What a row of a batch costs: what is copied of it, or its share of the distances inside a block."""
    if isinstance(view, DenseSimilarity):
        return 4 * int(partition.sizes.max())
    if isinstance(view, Divergence):
        return max(view.probabilities.element_size() * view.probabilities.shape[1], 8 * block)
    return 4 * view.width


def _traverse(
    sets: Distances,
    made: PickList,
    stop_at: float | None,
    progress: Counter,
    block: int,
    out: Collector,
) -> None:
    """Makes the picks of a batch, pass by pass."""

    def choose_some() -> tuple[Tensor, int]:
        at, outside, outside_row = sets.candidates(block)
        nearest = sets.exact(at)
        best = nearest.amax(1)
        most = min(at.shape[1], int(made.left.max()))
        budgets = made.left.clamp(max=most)
        chosen, values = farthest_first_block(
            sets.among(at), nearest, at, budgets, outside, outside_row, most
        )
        new = torch.where(chosen < 0, -1, at.gather(1, chosen.clamp(min=0)))
        for g in ((chosen[:, 0] < 0) & (budgets > 0)).nonzero()[:, 0].tolist():
            found, value = _settle(sets, float(best[g]), g)
            found = found[: int(made.left[g])]
            if len(found) > new.shape[1]:
                new, values = (
                    torch.nn.functional.pad(t, (0, len(found) - t.shape[1]), value=-1) for t in (new, values)
                )
            new[g, : len(found)], values[g, : len(found)] = found, value
        gains = sets.distance(values)
        if stop_at is not None:
            near = ((gains <= stop_at) & (new >= 0)).cumsum(1) > 0
            new = torch.where(near, -1, new)
        new = trim(new)
        return new, made.append(new, gains[:, : new.shape[1]], None if stop_at is None else near.any(1))

    while made.more():
        new, count = retried(choose_some)
        if not made.grew:
            raise made.stuck("farthest_first", bounds=False)
        out.count(passes=1)
        progress.update(count)
        if made.more():
            retried(partial(sets.fold, new))


def _settle(sets: Distances, best: float, g: int) -> tuple[Tensor, float]:
    """The next pick of set g where more rows than a block holds could be it: all of them are measured.

    Returns positions and their value. When even the farthest row coincides with a pick, all open rows do, and
    they follow in row order.
    """
    rivals = sets.rivals(best - tolerance(best), g)
    values = torch.cat([sets.exact(part[None], slice(g, g + 1))[0] for part in rivals.split(BLOCK)])
    p = choose(values, rivals)
    if p is None or float(values[p]) <= 0:
        return rivals, 0.0
    return rivals[p : p + 1], float(values[p])
