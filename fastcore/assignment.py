"""Which pick represents each row: the most similar one, or the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import TILE_BYTES, batches
from fastcore.memory import tiles
from fastcore.ops.facility_location_block import inner_products, similarity_of_products
from fastcore.ops.nearest_factored import nearest_factored
from fastcore.similarity import (
    METRICS,
    DenseSimilarity,
    GradientSimilarity,
    RowSimilarity,
    Similarity,
    SparseSimilarity,
)

_TIE = 1e-12
_TILE = 1024

WORTH_BOUNDS = 32
"""Picks of a set from which on bounds on distances of gradients, from few coordinates, save time."""


def assign(view: Similarity, partition: Partition, indices: Tensor, pairs: str = "similarity") -> Tensor:
    """For every row the position in ``indices`` of the pick that represents it, (n,) int64 on the CPU.

    That is the pick of the row's own ground set with the largest similarity, or the smallest distance
    where the pairs of ``view`` are distances; the earlier of equal picks. A row whose ground set has no pick
    goes to the best pick of all. n·k·d time in float64 (n·d times the picks of a set), ground sets side by side
    in tiles of some MB; for a sparse matrix the time to sort the entries of the picks.
    """
    group = torch.empty(view.n, dtype=torch.int64, device="cpu")
    group[partition.rows] = partition.membership
    owners = torch.empty(view.n, dtype=torch.int64, device="cpu")
    for rows, positions in side_by_side(view, partition, group, indices):
        picks = torch.where(positions < 0, -1, indices[positions.clamp(min=0)]).to(view.device)
        if isinstance(view, SparseSimilarity):
            best = _best_stored(view, rows, picks, pairs)
        else:
            best = closest(view, rows, picks, pairs)
        rows = rows.cpu()
        owners[rows[rows >= 0]] = positions.gather(1, best.cpu())[rows >= 0]
    return owners


def side_by_side(
    view: Similarity, partition: Partition, group: Tensor, indices: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (G, n) of some ground sets, on the device, and the positions (G, P) of their picks; -1 for padding.

    Sets that come together have about as many rows, and at most twice as many picks as one another.
    """
    # Picks of one ground set lie together after a stable sort, still in pick order.
    by_group = torch.argsort(group[indices], stable=True)
    counts = torch.bincount(group[indices], minlength=partition.sets)
    first = counts.cumsum(0) - counts
    powers = counts.double().log2().ceil()
    width = view.width if isinstance(view, RowSimilarity) else 0
    for power in powers[counts > 0].unique():
        some = torch.where(powers == power, counts, 0)
        most = int(some.max())
        share = Partition(partition.rows, partition.offsets, some)
        for batch in batches(share, view.device, 8 * (width + min(most, _TILE))):
            within = torch.arange(int(some[batch.sets].max()), device="cpu")
            at = (first[batch.sets, None] + within).clamp(max=len(indices) - 1)
            yield batch.rows, torch.where(within < some[batch.sets, None], by_group[at], -1)
    without = partition.rows[counts[partition.membership] == 0]
    if len(without):
        yield without[None].to(view.device), torch.arange(len(indices), device="cpu")[None]


def closest(view: RowSimilarity | DenseSimilarity, rows: Tensor, picks: Tensor, pairs: str) -> Tensor:
    """For each of ``rows`` (G, n) the position in ``picks`` (G, P) of the closest one of its set."""
    if isinstance(view, GradientSimilarity) and picks.shape[1] >= WORTH_BOUNDS and view.reducible:
        return _nearest(view, rows, picks)
    best = torch.zeros_like(rows)
    wide = (view.width if isinstance(view, RowSimilarity) else 0) + min(picks.shape[1], _TILE)
    for tile in tiles(rows.shape[1], 8 * len(rows) * wide, TILE_BYTES):
        part = rows[:, tile].clamp(min=0)
        ceiling = torch.full(part.shape, -torch.inf, dtype=torch.float64, device=rows.device)
        for first in range(0, picks.shape[1], _TILE):
            some = picks[:, first : first + _TILE]
            closeness, blur = _closeness(view, part, some.clamp(min=0), pairs)
            closeness.masked_fill_((some < 0).unsqueeze(1), -torch.inf)
            # Equal are those that rounding cannot tell from the best one.
            floor = closeness.amax(2)
            floor -= _TIE * floor.abs() + blur
            position = (closeness >= floor.unsqueeze(2)).to(torch.uint8).argmax(2)
            better = floor > ceiling
            best[:, tile] = torch.where(better, first + position, best[:, tile])
            ceiling = torch.where(better, closeness.gather(2, position.unsqueeze(2))[:, :, 0], ceiling)
    return best


def _closeness(
    view: RowSimilarity | DenseSimilarity, rows: Tensor, picks: Tensor, pairs: str
) -> tuple[Tensor, Any]:
    """How close rows (G, T) and picks (G, P) are, (G, T, P) float64, and how far rounding may part equal picks.

    Larger is closer. For the metrics of distance it is minus the squared distance: it orders picks like they do,
    and neither the square root nor the exponential blurs near-duplicates or makes far picks look equal. The blur
    (G, T) is that of the best picks of a row: an error is a share of both squared norms, and that of a pick is at
    most twice that of the row and twice their squared distance, of which `_TIE` takes care.
    """
    if isinstance(view, DenseSimilarity):
        entries = view.matrix[rows.unsqueeze(2), picks.unsqueeze(1)].double()
        return (-entries if pairs == "distance" else entries), 0.0
    ours, others = ([factor[at].double() for factor in view.factors] for at in (rows, picks))
    products, norms, pick_norms = inner_products(ours, others), view.norms[rows], view.norms[picks]
    if view.metric in ("euclidean", "rbf"):
        products.mul_(2).sub_(norms.unsqueeze(2)).sub_(pick_norms.unsqueeze(1))
        return products, _blur(view, norms)
    sides = (view.scale[rows], norms), (view.scale[picks], pick_norms)
    return similarity_of_products(products, *sides, METRICS[view.metric], view.parameter), 0.0


def _blur(view: RowSimilarity, norms: Tensor) -> Tensor:
    # Two pairs, each of which errs by that of its row and of its pick.
    share: float = 6e-15 * sum(factor.shape[1] ** 0.5 for factor in view.factors)
    return share * norms


def _nearest(view: GradientSimilarity, rows: Tensor, picks: Tensor) -> Tensor:
    """`closest` by distances of gradients, most of which bounds leave out."""
    delta, h = view.factors
    reduced, blur = view.reduced, _blur(view, view.norms)
    each = delta, h, reduced.coordinates, reduced.left_out, view.norms
    return nearest_factored(*each, rows, picks, blur, reduced.relative, reduced.absolute)


def _best_stored(view: SparseSimilarity, rows: Tensor, picks: Tensor, pairs: str) -> Tensor:
    """The same for a sparse matrix, from its entries alone; a pick without an entry is at 0."""
    sets, most = picks.shape
    counts = (picks >= 0).sum(1)
    place = torch.full((view.n,), -1, dtype=torch.int64, device=view.device)  # of a row among all of `rows`
    inside = rows.flatten() >= 0
    place[rows.flatten()[inside]] = inside.nonzero()[:, 0]
    column, position = picks.flatten(), torch.arange(most, device=view.device).repeat(sets)
    slot, entry = view.entries(column[column >= 0])
    slot = (column >= 0).nonzero()[:, 0][slot]
    row, value = place[view.indices[entry]], view.values[entry].double()
    value = -value if pairs == "distance" else value
    # Of the entries that pair a row with a pick of its own set, those of a row together, in pick order.
    kept = ((row >= 0) & (row // rows.shape[1] == slot // most) & (value != 0)).nonzero()[:, 0]
    kept = kept[(row[kept] * most + position[slot[kept]]).argsort()]
    row, value, position = row[kept], value[kept], position[slot[kept]]
    stored = torch.bincount(row, minlength=rows.numel())
    everyone = counts.repeat_interleave(rows.shape[1])
    largest = torch.full((rows.numel(),), -torch.inf, dtype=torch.float64, device=view.device)
    largest.scatter_reduce_(0, row, value, "amax")
    # The first pick without an entry is the first whose position is not that of the entry in the row.
    rank = torch.arange(len(row), device=view.device) - (stored.cumsum(0) - stored)[row]
    gap = stored.scatter_reduce(0, row, torch.where(position > rank, rank, most), "amin")
    nothing = (stored < everyone) & (largest < 0)
    earliest = torch.full_like(stored, most)
    earliest.scatter_reduce_(0, row, torch.where(value == largest[row], position, most), "amin")
    return torch.where(nothing, gap, earliest).clamp(max=most - 1).view_as(rows)
