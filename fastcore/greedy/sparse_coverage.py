"""Facility location over a sparse similarity matrix: all ground sets at once, a gain costs a column's entries."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import row_mask
from fastcore.greedy.coverage import FLOOR, reached
from fastcore.greedy.picks import Counter, Picks
from fastcore.greedy.sparse_sets import SparseSets, owners
from fastcore.ops.facility_location_sparse import facility_location_sparse
from fastcore.similarity import SparseSimilarity


class SparseCoverage(SparseSets):
    """How well every row is covered within its ground set, the rows of a set side by side.

    Attributes:
        coverage: (n,) float64 similarity of every row to its best pick, 0 at first.
        bounds: (n,) float64 upper bounds on the gains, -inf for rows that cannot be picked.
        floor: (G,) rounding of the gains.
    """

    def __init__(self, view: SparseSimilarity, partition: Partition) -> None:
        super().__init__(view, partition)
        self.coverage = torch.zeros_like(self.own)
        self.bounds = torch.full_like(self.coverage, torch.inf)
        self.floor = FLOOR * self.largest(self.own.abs())

    def add(self, fixed: Tensor) -> None:
        """Takes the rows where the mask (n,) is true as picked."""
        entries = fixed[owners(self.offsets, len(self.indices))]
        self._cover(self.coverage, self.indices[entries], self.values[entries])
        self.bounds.masked_fill_(fixed, -torch.inf)

    def covered(self) -> Tensor:
        """(G,) the sum of the coverage of each set."""
        return self.sums(self.coverage)

    def full(self) -> Tensor:
        """(G,) the same with all rows picked."""
        return self.sums(self._cover(torch.zeros_like(self.coverage), self.indices, self.values))

    def greedy(self) -> tuple[Tensor, Tensor, Tensor]:
        """Picks (G, most) by place, gains (G, most), and gains taken (G,)."""
        arrays = (self.offsets, self.indices, self.values, self.coverage, self.bounds, self.starts)
        return facility_location_sparse(*arrays, self.budgets, self.floor, self.most)

    def _cover(self, coverage: Tensor, rows: Tensor, values: Tensor) -> Tensor:
        return coverage.scatter_reduce_(0, rows, values.double(), "amax")


def cover(
    view: SparseSimilarity,
    partition: Partition,
    preselected: Tensor | None,
    stop_at: float | None,
    progress: Counter | None,
) -> Picks:
    """The picks of all ground sets by one call of the native op; see `facility_location`."""
    rows = SparseCoverage(view, partition)
    if preselected is not None:
        rows.add(row_mask(preselected, view.n, view.device)[rows.rows])
    before = rows.covered()
    made, gains, evaluations = rows.greedy()
    if stop_at is not None:
        total = before.unsqueeze(1) + torch.nn.functional.pad(gains.cumsum(1), (1, -1))
        made = torch.where(reached(total, stop_at * rows.full().unsqueeze(1)), -1, made)
        gains = torch.where(made < 0, 0.0, gains)
    return rows.collect(made, gains, progress, evaluations=int(evaluations.sum()))
