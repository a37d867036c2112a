"""Farthest-first traversal over rows on several ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore.distributed.shards import Shards
from fastcore.divergence import Divergence
from fastcore.greedy.batches import mark
from fastcore.greedy.candidates import Candidates
from fastcore.greedy.distances import FeatureDistances
from fastcore.greedy.divergences import DivergenceDistances
from fastcore.greedy.pairwise import PairwiseDistances, ProductDistances
from fastcore.similarity import FeatureSimilarity, GradientSimilarity


class OverRanks(Candidates):
    """Candidates over the rows of all ranks, before a class that knows the distances of those of one."""

    shards: Shards

    def _total(self, values: Tensor) -> Tensor:
        return self.shards.ranks.sum(values)

    def _largest(self, values: Tensor) -> Tensor:
        return self.shards.ranks.largest(values)

    def first(self, start: str | int, draws: Tensor) -> Tensor:
        """(1,) row of the first pick."""
        if isinstance(start, int):
            return torch.full_like(draws, start).long()
        if start == "random":  # nothing is closed before a first pick
            return (draws * self.shards.n).long().clamp(max=self.shards.n - 1)
        return self.shards.best(self._towards_mean())[1][None]

    def candidates(self, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
        """The block of the next pass over the rows of all ranks."""
        return self.shards.top(self.upper(), wanted)

    def rivals(self, bar: float, g: int) -> Tensor:
        """Rows of all ranks whose bound reaches `bar`, ascending."""
        mine = self.shards.start + (self.upper()[g] >= bar).nonzero()[:, 0]
        return self.shards.ranks.gather_rows(mine, self.shards.ranks.exchange(len(mine)))

    def exact(self, positions: Tensor, sets: slice = slice(None)) -> Tensor:
        """(1, B) float64 distances to the coreset of the rows at positions (1, B)."""
        own = self.shards.own(positions)
        at = (own[0] >= 0).nonzero()[:, 0]
        found = torch.zeros(positions.shape, dtype=torch.float64, device=positions.device)
        if len(at):
            found[:, at] = super().exact(own[:, at])
        return self.shards.ranks.unite(found)

    def _one_decides(self, distances: Tensor) -> Tensor:
        # Machines may round differently.
        return self.shards.ranks.from_rank(0, distances)


class ShardedDistances(OverRanks, FeatureDistances):
    """Distances to the coreset of all ranks, each rank's of its own rows.

    All ranks hold the features of the picks. A pass gathers the features of one block; inside it every rank picks
    the same rows from the same numbers.
    """

    def __init__(self, shards: Shards, view: FeatureSimilarity) -> None:
        self.shards = shards
        super().__init__(view, shards.batch(view.device))
        self._picked = self.x.new_empty(0, self.x.shape[2])
        self._picked_scale = self.scale.new_empty(0)

    def fold(self, positions: Tensor) -> None:
        """Adds the rows at positions (1, P) to the coreset and closes them."""
        positions = positions[:, positions[0] >= 0]
        y, scale, norms = (self.shards.take(v, positions) for v in (self.x, self.scale, self.norms))
        self._fold(y, scale, norms, self._folded())
        self.coreset = torch.cat([self.coreset, positions], 1)
        self._picked = torch.cat([self._picked, y[0]])
        self._picked_scale = torch.cat([self._picked_scale, scale[0]])
        mark(self.closed, self.shards.own(positions))

    def fold_external(self, features: Tensor) -> None:
        """Adds outside rows (m, d) to the coreset."""
        super().fold_external(features)
        self._picked, self._picked_scale = features, self.external_scale

    def _coreset_rows(self, owner: Tensor, sets: slice) -> tuple[Tensor, Tensor]:
        # Outside rows first, then picks: the numbers of the owners.
        at = owner.clamp(min=0)
        return self._picked[at].double(), self._picked_scale[at]

    def among(self, positions: Tensor) -> Tensor:
        """(1, B, B) float64 distances of the rows at positions (1, B) to each other."""
        x, scale = self.shards.take(self.x, positions).double(), self.shards.take(self.scale, positions)
        return self._one_decides(self._pairwise(x, scale, x, scale, x[:, :1]))


class ShardedPairs(OverRanks, PairwiseDistances):
    """Distances in a given matrix, of which every rank has the rows [i, :] of its own rows i."""

    def __init__(self, shards: Shards, view: Any) -> None:
        self.shards, self.view = shards, view
        PairwiseDistances.__init__(self, shards.batch(view.device))

    def _distance(self, similarity: Tensor) -> Tensor:
        return similarity

    def fold(self, positions: Tensor) -> None:
        """Adds the rows at positions (1, P) to the coreset and closes them."""
        for part in positions[:, positions[0] >= 0].split(512, 1):
            if part.shape[1]:  # none where there is no first pick
                distance = self._distance(self.shards.columns(self.view, part)[None])
                self.nearest = torch.minimum(self.nearest, distance.amin(2))
        mark(self.closed, self.shards.own(positions))

    def among(self, positions: Tensor) -> Tensor:
        """(1, B, B) float64 distances of the rows at positions (1, B) to each other, row p those to p."""
        return self._one_decides(self._distance(self.shards.among(self.view, positions)).mT.contiguous())


class ShardedProducts(ShardedPairs, ProductDistances):
    """Distances of gradients to the coreset of all ranks, each rank's of its own rows."""

    def __init__(self, shards: Shards, view: GradientSimilarity) -> None:
        self.shards = shards
        ProductDistances.__init__(self, view, shards.batch(view.device))

    def _distance(self, similarity: Tensor) -> Tensor:
        return ProductDistances._distance(self, similarity)

    def _towards_mean(self) -> Tensor:
        gradients, scale = self.view.gradients, self.view.scale
        share = scale * (self.batch.rows[0] >= 0) / self.shards.n
        towards = 2 * scale * gradients.project(self._total(gradients.weighted_sum(share)))
        near: Tensor = towards - (0 if self.view.metric == "cosine" else self.view.norms)
        return near[None].masked_fill(self.closed, -torch.inf)


class ShardedDivergences(OverRanks, DivergenceDistances):
    """Divergences to the coreset of all ranks, each rank's of its own rows."""

    def __init__(self, shards: Shards, view: Divergence) -> None:
        self.shards = shards
        super().__init__(view, shards.batch(view.device))

    def fold(self, positions: Tensor) -> None:
        """Adds the rows at positions (1, P) to the coreset and closes them."""
        for part in positions[:, positions[0] >= 0].split(512, 1):
            if part.shape[1]:  # none where there is no first pick
                self._fold(self.shards.take(self.p, part), part < 0)
        mark(self.closed, self.shards.own(positions))

    def among(self, positions: Tensor) -> Tensor:
        """(1, B, B) divergences of the rows at positions (1, B) to each other."""
        return self._one_decides(self._among(self.shards.take(self.p, positions)))
