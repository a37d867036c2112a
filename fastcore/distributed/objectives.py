"""Set functions of rows on several ranks, for the optimizers that evaluate gains."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.distributed.parameters import ridge_of
from fastcore.distributed.shards import Shards
from fastcore.greedy.objectives import FacilityLocation, GraphCut, LogDet, Objective
from fastcore.memory import TILE_BYTES, tile_rows
from fastcore.similarity import DenseSimilarity, FeatureSimilarity, GradientSimilarity, Outside

View = FeatureSimilarity | GradientSimilarity | DenseSimilarity


class OverRanks(Objective):
    """Before a set function: its arrays are those of the rows of this rank, and candidates are rows of all ranks.

    Gains are the same bits on all ranks. A column is one collective, and so is what is asked of all ranks.
    """

    view: View

    def __init__(self, shards: Shards, view: View, *settings: float) -> None:
        self.shards, longest = shards, max(shards.counts)
        self._inside = (torch.arange(view.n, device=view.device) < shards.count).double()
        # As many on all ranks, whatever memory each has.
        self._few: int = min(shards.ranks.exchange(tile_rows(view.device, 8 * longest, 4 * TILE_BYTES)))
        super().__init__(view, torch.arange(shards.n), *settings)

    def diagonal(self) -> Tensor:
        return self.view.diagonal()

    def outside(self, features: Outside) -> Tensor:
        return self.view.external(features) * self._inside[:, None]  # type: ignore[union-attr, arg-type]

    def largest(self, values: Tensor) -> float:
        return float(self.shards.ranks.largest(values.amax()))

    def total(self, sums: Tensor) -> Tensor:
        return self.shards.ranks.sum(sums)

    def everywhere(self, values: Tensor) -> Tensor:
        return self.shards.ranks.gather_rows(values[: self.shards.count], self.shards.counts)

    def take(self, values: Tensor, candidates: Tensor) -> Tensor:
        return self.shards.take(values[None], candidates[None])[0]

    def place(self, candidate: int) -> Tensor:
        own = self.shards.own(super().place(candidate))
        return own[own >= 0]

    def columns(self, candidates: Tensor) -> Tensor:
        return self.shards.columns(self.view, candidates[None]) * self._inside[:, None]

    def few(self) -> int:
        return self._few


class ShardedFacilityLocation(OverRanks, FacilityLocation):
    """Coverage of the rows of this rank."""


class ShardedGraphCut(OverRanks, GraphCut):
    """The gains of all rows, on every rank: n numbers a pick."""

    def back(self, candidate: int) -> Tensor:
        assert isinstance(self.view, DenseSimilarity)
        return self.take(self.view.matrix, self.rows[[candidate]])[0].double()


class ShardedLogDet(OverRanks, LogDet):
    """The pivots and the columns of the Cholesky factor that belong to the rows of this rank."""


def objective_of(shards: Shards, view: View, name: str, lam: float, ridge: float | None) -> Objective:
    """A set function by name, with its parameters."""
    if name == "facility_location":
        return ShardedFacilityLocation(shards, view)
    if name == "graph_cut":
        return ShardedGraphCut(shards, view, lam)
    return ShardedLogDet(shards, view, ridge_of(shards, view) if ridge is None else ridge)
