"""Which pick represents each row: the most similar one, or the nearest."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.similarity import FeatureSimilarity, Similarity

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
    """For each of ``rows`` the position in ``picks`` of the best one."""
    best = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for start in range(0, len(rows), _TILE):
        part = rows[start : start + _TILE]
        value = torch.full((len(part),), -torch.inf, dtype=torch.float64, device=rows.device)
        for first in range(0, len(picks), _TILE):
            closeness, slack = _closeness(view, part, picks[first : first + _TILE], pairs)
            top = closeness.amax(1)
            tied = closeness >= (top - _TIE * top.abs() - slack)[:, None]
            better = top > value + _TIE * value.abs().nan_to_num(posinf=0.0) + slack
            position = first + tied.to(torch.uint8).argmax(1)
            best[start : start + _TILE] = torch.where(better, position, best[start : start + _TILE])
            value = torch.where(better, top, value)
    return best


def _closeness(view: Similarity, rows: Tensor, picks: Tensor, pairs: str) -> tuple[Tensor, Tensor | float]:
    """How close rows and picks are, (rows, picks) float64, larger is closer, and its rounding error.

    For the metrics of distance it is minus the squared distance: it orders picks like they do, and neither
    the square root nor the exponential blurs near-duplicates or makes far picks look equal.
    """
    if not isinstance(view, FeatureSimilarity) or view.metric not in ("euclidean", "rbf"):
        columns = view.columns(picks, rows)
        return (-columns if pairs == "distance" and not isinstance(view, FeatureSimilarity) else columns), 0.0
    norms, pick_norms = view.norms[rows], view.norms[picks]
    products = view.features[rows].double() @ view.features[picks].double().T
    slack = 1e-15 * view.features.shape[1] ** 0.5 * (norms + pick_norms.max())
    return products.mul_(2).sub_(norms[:, None]).sub_(pick_norms), slack
