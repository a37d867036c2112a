"""Facility location over a sparse similarity matrix: all ground sets at once, a gain costs a column's entries."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import row_mask
from fastcore.greedy.coverage import FLOOR, reached
from fastcore.greedy.picks import Collector, Counter, Picks
from fastcore.ops.facility_location_sparse import facility_location_sparse
from fastcore.similarity import SparseSimilarity


class SparseCoverage:
    """How well every row is covered within its ground set, the rows of a set side by side.

    Columns hold the entries between rows of one set; rows are numbered by their place in the partition.

    Attributes:
        offsets: (n + 1,) int64, column j holds the entries offsets[j] to offsets[j + 1].
        indices, values: rows, int64, and similarities, float32, of the entries.
        coverage: (n,) float64 similarity of every row to its best pick, 0 at first.
        bounds: (n,) float64 upper bounds on the gains, -inf for rows that cannot be picked.
        floor: (G,) rounding of the gains.
    """

    def __init__(self, view: SparseSimilarity, partition: Partition) -> None:
        rows, self.starts = partition.rows.to(view.device), partition.offsets.to(view.device)
        self.member, self.sets = partition.membership.to(view.device), partition.sets
        self.offsets, self.indices, self.values = view.offsets, view.indices, view.values
        if partition.sets > 1:  # one set holds all rows in order
            column, entry = view.entries(rows)
            row = rows.argsort().index_select(0, view.indices.index_select(0, entry))
            inside = self.member.index_select(0, row) == self.member.index_select(0, column)
            if not bool(inside.all()):
                kept = inside.nonzero()[:, 0]
                column, entry, row = (each.index_select(0, kept) for each in (column, entry, row))
            self.indices, self.values = row, view.values.index_select(0, entry)
            counts = torch.bincount(column, minlength=view.n)
            self.offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        self.coverage = torch.zeros(view.n, dtype=torch.float64, device=view.device)
        self.bounds = torch.full_like(self.coverage, torch.inf)
        size = view.diagonal()[rows].abs()
        self.floor = FLOOR * self.coverage.new_zeros(self.sets).scatter_reduce_(0, self.member, size, "amax")

    def add(self, fixed: Tensor) -> None:
        """Takes the rows where the mask (n,) is true as picked."""
        entries = fixed[torch.repeat_interleave(self.offsets.diff())]
        self._cover(self.coverage, self.indices[entries], self.values[entries])
        self.bounds.masked_fill_(fixed, -torch.inf)

    def covered(self) -> Tensor:
        """(G,) the sum of the coverage of each set."""
        return self._sums(self.coverage)

    def full(self) -> Tensor:
        """(G,) the same with all rows picked."""
        return self._sums(self._cover(torch.zeros_like(self.coverage), self.indices, self.values))

    def greedy(self, budgets: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Picks (G, most) by place, gains (G, most), and gains taken (G,)."""
        arrays = (self.offsets, self.indices, self.values, self.coverage, self.bounds, self.starts)
        return facility_location_sparse(*arrays, budgets.to(self.floor.device), self.floor, most)

    def _cover(self, coverage: Tensor, rows: Tensor, values: Tensor) -> Tensor:
        return coverage.scatter_reduce_(0, rows, values.double(), "amax")

    def _sums(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.sets).index_add_(0, self.member, values)


def cover(
    view: SparseSimilarity,
    partition: Partition,
    preselected: Tensor | None,
    stop_at: float | None,
    progress: Counter | None,
) -> Picks:
    """The picks of all ground sets by one call of the native op; see `facility_location`."""
    out = Collector(partition)
    rows = SparseCoverage(view, partition)
    if preselected is not None:
        rows.add(row_mask(preselected, view.n, view.device)[partition.rows.to(view.device)])
    before = rows.covered()
    made, gains, evaluations = rows.greedy(partition.budgets, out.rows.shape[1])
    if stop_at is not None:
        total = before.unsqueeze(1) + torch.nn.functional.pad(gains.cumsum(1), (1, -1))
        made = torch.where(reached(total, stop_at * rows.full().unsqueeze(1)), -1, made)
        gains = torch.where(made < 0, 0.0, gains)
    made = made.cpu()
    out.rows = torch.where(made < 0, -1, partition.rows[made.clamp(min=0)])
    out.gains = gains.cpu()
    out.count(evaluations=int(evaluations.sum()))
    if progress is not None:
        progress.update(int((made >= 0).sum()))
    return out.picks()
