"""Numbers of a metric that belong to all rows, from the rows of every rank."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.distributed.shards import Shards
from fastcore.ops.facility_location_block import SAME
from fastcore.ops.project import project
from fastcore.ops.weighted_sum import weighted_sum
from fastcore.similarity import DenseSimilarity, GradientSimilarity, RowSimilarity


def parameter_of(shards: Shards, view: RowSimilarity | DenseSimilarity, gamma: float | None) -> float:
    """c of "euclidean" and gamma of "rbf", as in RowSimilarity but over the rows of all ranks; otherwise 0."""
    if not isinstance(view, RowSimilarity) or view.metric not in ("euclidean", "rbf"):
        return 0.0
    if gamma is not None:
        return gamma
    inside = _inside(shards, view)
    mean, along = _mean(shards, view, inside)
    length = mean.square().sum()
    if view.metric == "rbf":
        total = shards.ranks.sum((view.norms * inside).sum())
        spread = 2.0 * float(total / shards.n - length)
        return 1.0 / spread if spread > 0 else 1.0
    sums = view.norms + length
    squared = sums - 2 * along
    farthest = torch.where(squared < SAME * sums, 0.0, squared) * inside
    return 2.0 * float(shards.ranks.largest(farthest.max()).sqrt())


def ridge_of(shards: Shards, view: RowSimilarity | DenseSimilarity) -> float:
    """What log_det adds to the diagonal by default, with the parameter of all rows."""
    total = shards.ranks.sum((view.diagonal() * _inside(shards, view)).sum())
    return 1e-3 * float(total) / shards.n or 1e-3


def _inside(shards: Shards, view: RowSimilarity | DenseSimilarity) -> Tensor:
    return (torch.arange(view.n, device=view.device) < shards.count).double()


def _mean(shards: Shards, view: RowSimilarity, inside: Tensor) -> tuple[Tensor, Tensor]:
    """The mean row, and the inner products (m,) of the rows of this rank with it."""
    share = inside / shards.n
    if isinstance(view, GradientSimilarity):
        mean = shards.ranks.sum(view.gradients.weighted_sum(share))
        return mean, view.gradients.project(mean)
    features = view.factors[0][None]
    mean = shards.ranks.sum(weighted_sum(features, share[None]))
    return mean, project(features, mean)[0]
