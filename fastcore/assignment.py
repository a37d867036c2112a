"""Which pick represents each row: the most similar one, or the nearest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.similarity import RowSimilarity, Similarity

_TIE = 1e-12
_TILE = 1024


def assign(view: Similarity, partition: Partition, indices: Tensor, pairs: str = "similarity") -> Tensor:
    """For every row the position in ``indices`` of the pick that represents it, (n,) int64 on the CPU.

    That is the pick of the row's own ground set with the largest similarity, or the smallest distance
    where the pairs of ``view`` are distances; the earlier of equal picks. A row whose ground set has no pick
    goes to the best pick of all. n·k·d time in float64, and tiles of 8 MB.
    """
    n = view.n
    group = torch.empty(n, dtype=torch.int64, device="cpu")
    group[partition.rows] = partition.membership
    owners = torch.empty(n, dtype=torch.int64, device="cpu")
    everyone = torch.arange(len(indices), device="cpu")
    # Picks of one ground set lie together after a stable sort, still in pick order.
    by_group = torch.argsort(group[indices], stable=True)
    counts = torch.bincount(group[indices], minlength=partition.sets)
    picks_of = torch.split(by_group, counts.tolist())
    for rows, mine in zip(torch.split(partition.rows, partition.sizes.tolist()), picks_of, strict=True):
        positions = mine if len(mine) else everyone
        best = _best(view, rows.to(view.device), indices[positions].to(view.device), pairs)
        owners[rows] = positions[best.cpu()]
    return owners


def _best(view: Similarity, rows: Tensor, picks: Tensor, pairs: str) -> Tensor:
    """For each of ``rows`` the position in ``picks`` of the closest one."""
    best = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for start in range(0, len(rows), _TILE):
        part = rows[start : start + _TILE]
        ceiling = torch.full((len(part),), -torch.inf, dtype=torch.float64, device=rows.device)
        for first in range(0, len(picks), _TILE):
            closeness, row_blur, pick_blur = _closeness(view, part, picks[first : first + _TILE], pairs)
            # Equal are those that rounding cannot tell from the best one.
            floor = (closeness - pick_blur).amax(1)
            floor -= _TIE * floor.abs() + 2 * row_blur
            upper = closeness + pick_blur
            position = (upper >= floor[:, None]).to(torch.uint8).argmax(1)
            better = floor > ceiling
            best[start : start + _TILE][better] = first + position[better]
            ceiling = torch.where(better, upper.gather(1, position[:, None])[:, 0], ceiling)
    return best


def _closeness(view: Similarity, rows: Tensor, picks: Tensor, pairs: str) -> tuple[Tensor, Any, Any]:
    """How close rows and picks are, (rows, picks) float64, larger is closer, and what rounding blurs it by.

    For the metrics of distance it is minus the squared distance: it orders picks like they do, and neither
    the square root nor the exponential blurs near-duplicates or makes far picks look equal. The blur of a
    pair is the sum of that of its row and of its pick.
    """
    if isinstance(view, RowSimilarity) and view.metric in ("euclidean", "rbf"):
        norms, pick_norms = view.norms[rows], view.norms[picks]
        products = view.products(picks, rows)
        blur = 1e-15 * sum(factor.shape[1] ** 0.5 for factor in view.factors)
        return products.mul_(2).sub_(norms[:, None]).sub_(pick_norms), blur * norms, blur * pick_norms
    columns = view.columns(picks, rows)
    farther = pairs == "distance" and not isinstance(view, RowSimilarity)
    return (-columns if farther else columns), 0.0, 0.0
