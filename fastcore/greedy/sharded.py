"""A view of rows that lie on several processes, as the engines meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastcore.budget import Partition

if TYPE_CHECKING:
    from fastcore.greedy.batches import Batch
    from fastcore.greedy.cuts import Cut
    from fastcore.greedy.distances import FeatureDistances
    from fastcore.greedy.divergences import DivergenceDistances
    from fastcore.greedy.objectives import Objective
    from fastcore.greedy.pairwise import PairwiseDistances
    from fastcore.greedy.picks import Picks


class ShardedView:
    """Features, gradients or probabilities of n rows, each on one process.

    It makes the state of an engine, or runs the engine, over all of them.
    One ground set holds all rows. Positions are row numbers over all processes.

    Attributes:
        n: rows on all processes.
        width: numbers that a row is made of.
        metric: as in RowSimilarity.
        device: where the rows of this process are.
    """

    n: int
    width: int
    metric: str
    device: torch.device

    def distances(self, batch: Batch) -> FeatureDistances | DivergenceDistances | PairwiseDistances:
        """Distances to a growing coreset, for farthest-first traversal."""
        raise NotImplementedError

    def cut(self, batch: Batch, lam: float) -> Cut:
        """Graph-cut gains."""
        raise NotImplementedError

    def objective(self, name: str, lam: float, ridge: float | None) -> Objective:
        """A set function by name, for the optimizers that evaluate gains."""
        raise NotImplementedError

    def facility_location(self, partition: Partition, **settings: Any) -> Picks:
        """The engine of facility location, with its settings."""
        raise NotImplementedError

    def log_det(self, partition: Partition, **settings: Any) -> Picks:
        """The engine of the log-determinant, with its settings."""
        raise NotImplementedError

    def herding(self, partition: Partition, **settings: Any) -> Picks:
        """The engine of herding, with its settings."""
        raise NotImplementedError

    def matching_pursuit(self, partition: Partition, validation: Any, **settings: Any) -> Picks:
        """The engine of matching pursuit, with its validation rows and settings."""
        raise NotImplementedError

    def gradient_ascent(self, partition: Partition, validation: Any, **settings: Any) -> Picks:
        """The engine of gradient ascent, with its validation rows and settings."""
        raise NotImplementedError

    def divergence_from_neighbours(self, probabilities: Any, count: int) -> Tensor:
        """(n,) `mean_divergence` from the nearest neighbours of every row; probabilities of this process."""
        raise NotImplementedError
