"""Rows that lie on several ranks, as one ground set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed.facility_location import facility_location
from fastcore.distributed.gradient_ascent import SENT, gradient_ascent
from fastcore.distributed.graph_cut import (
    ShardedCut,
    ShardedGradientCut,
    ShardedMatrixCut,
    ShardedPairwiseCut,
)
from fastcore.distributed.herding import herding
from fastcore.distributed.k_center import (
    ShardedDistances,
    ShardedDivergences,
    ShardedPairs,
    ShardedProducts,
)
from fastcore.distributed.log_det import log_det
from fastcore.distributed.matching_pursuit import matching_pursuit
from fastcore.distributed.matrix import MatrixRows
from fastcore.distributed.neighbours import divergence_from_neighbours
from fastcore.distributed.objectives import objective_of
from fastcore.distributed.shards import Shards
from fastcore.divergence import Divergence
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.batches import Batch, batches
from fastcore.greedy.objectives import Objective
from fastcore.greedy.picks import Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.similarity import FeatureSimilarity, GradientSimilarity


class ShardedRows(ShardedView):
    """Features, gradients or a matrix of all ranks; `local` are the rows of this one, or one of padding."""

    def __init__(self, shards: Shards, local: FeatureSimilarity | GradientSimilarity | MatrixRows) -> None:
        self.shards, self.local = shards, local
        self.n, self.width = shards.n, local.width
        self.metric, self.device = local.metric, local.device

    def distances(self, batch: Batch) -> ShardedDistances | ShardedPairs:
        """Distances to a growing coreset, for farthest-first traversal."""
        if isinstance(self.local, MatrixRows):
            return ShardedPairs(self.shards, self.local)
        if isinstance(self.local, GradientSimilarity):
            return ShardedProducts(self.shards, self.local)
        return ShardedDistances(self.shards, self.local)

    def cut(self, batch: Batch, lam: float) -> ShardedCut | ShardedPairwiseCut:
        """Graph-cut gains."""
        if isinstance(self.local, MatrixRows):
            return ShardedMatrixCut(self.shards, self.local, lam)
        if self.metric not in ("cosine", "dot"):
            return ShardedPairwiseCut(self.shards, self.local, lam)
        if isinstance(self.local, GradientSimilarity):
            return ShardedGradientCut(self.shards, self.local, lam)
        return ShardedCut(self.shards, self.local, lam)

    def objective(self, name: str, lam: float, ridge: float | None) -> Objective:
        """A set function by name, for the optimizers that evaluate gains."""
        return objective_of(self.shards, self.local, name, lam, ridge)

    def facility_location(self, partition: Partition, **settings: Any) -> Picks:
        """The engine of facility location, with its settings."""
        return facility_location(self.shards, self.local, partition, **settings)

    def log_det(self, partition: Partition, **settings: Any) -> Picks:
        """The engine of the log-determinant, with its settings."""
        batch = next(batches(partition, self.device, 4 * self.width))
        return log_det(self.shards, self.local, partition, batch, **settings)

    def herding(self, partition: Partition, **settings: Any) -> Picks:
        """The engine of herding, with its settings."""
        if not isinstance(self.local, FeatureSimilarity):
            raise TypeError("herding follows the mean of features, got LastLayerGradients: pass embeddings")
        return herding(self.shards, self.local, partition, **settings)


class ShardedProbabilities(ShardedView):
    """The class probabilities of all ranks; `local` are those of this one, or one row of padding."""

    metric = Divergence.metric

    def __init__(self, shards: Shards, local: Tensor) -> None:
        self.shards, self.local = shards, local
        self.n, self.width, self.device = shards.n, local.shape[1], local.device

    def distances(self, batch: Batch) -> ShardedDivergences:
        """Divergences to a growing coreset."""
        return ShardedDivergences(self.shards, Divergence(self.local))


class ShardedGradients(ShardedView):
    """The last-layer gradients of all ranks; `local` are those of this one, or one row of padding."""

    metric = "dot"

    def __init__(self, shards: Shards, local: LastLayerGradients) -> None:
        self.shards, self.local = shards, local
        self.n, self.width, self.device = shards.n, local.width, local.device

    def __getitem__(self, rows: Tensor) -> LastLayerGradients:
        """The gradients of any rows (m,), on all ranks: C + D numbers for each are sent, some rows at a time."""
        factors = self.local.delta, self.local.h
        step = max(1, SENT // (self.local.classes + self.width))
        parts = [self.shards.side_by_side(factors, some[None]) for some in rows.split(step)]
        return LastLayerGradients.of_factors(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def gradient_ascent(self, partition: Partition, validation: Any, **settings: Any) -> Picks:
        """The engine of gradient ascent, with its validation rows and settings."""
        return gradient_ascent(self.shards, self.local, partition, validation, **settings)

    def matching_pursuit(self, partition: Partition, validation: Any, **settings: Any) -> Picks:
        """The engine of matching pursuit, with its validation rows and settings."""
        batch = next(batches(partition, self.device, 4 * self.width))
        return matching_pursuit(self.shards, self.local, partition, batch, validation, **settings)


class ShardedFeatures(ShardedView):
    """The features of all ranks; `local` are those of this one, or one row of padding."""

    metric = "euclidean"

    def __init__(self, shards: Shards, local: Tensor) -> None:
        self.shards, self.local = shards, local
        self.n, self.width, self.device = shards.n, local.shape[1], local.device

    def divergence_from_neighbours(self, probabilities: Tensor, count: int) -> Tensor:
        """(n,) `mean_divergence` from the nearest neighbours of every row, of the probabilities of this rank."""
        return divergence_from_neighbours(self.shards, self.local, probabilities, count)


VIEWS: dict[str, Any] = {
    "similarity": ShardedRows,
    "features": ShardedFeatures,
    "probabilities": ShardedProbabilities,
    "gradients": ShardedGradients,
}
"""The view that stands for the first need of a method."""
