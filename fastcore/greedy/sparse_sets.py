"""The ground sets of a sparse similarity matrix, side by side in one numbering, for engines of one native call."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.picks import Collector, Counter, Picks
from fastcore.similarity import SparseSimilarity


class SparseSets:
    """The entries of a sparse matrix between rows of one set, by columns.

    Rows are numbered by their place in the partition, so that those of a set lie side by side.

    Attributes:
        most: the largest budget.
        rows: (n,) row numbers, by place.
        starts: (G + 1,) set g is the places starts[g] to starts[g + 1]; member: (n,) the set of every place.
        budgets: (G,) picks of each set.
        offsets: (n + 1,) int64, column j holds the entries offsets[j] to offsets[j + 1].
        indices, values: places, int64, and similarities, float32, of the entries.
        own: (n,) float64 similarity of every row with itself.
    """

    def __init__(self, view: SparseSimilarity, partition: Partition) -> None:
        self.out = Collector(partition)
        self.most = self.out.rows.shape[1]
        self.partition, self.sets, self.n = partition, partition.sets, view.n
        self.rows, self.starts = partition.rows.to(view.device), partition.offsets.to(view.device)
        self.budgets, self.member = partition.budgets.to(view.device), partition.membership.to(view.device)
        self.offsets, self.indices, self.values = view.offsets, view.indices, view.values
        if partition.sets > 1:  # one set holds all rows in order
            column, entry = view.entries(self.rows)
            row = self.rows.argsort().index_select(0, view.indices.index_select(0, entry))
            inside = self.member.index_select(0, row) == self.member.index_select(0, column)
            if not bool(inside.all()):
                kept = inside.nonzero()[:, 0]
                column, entry, row = (each.index_select(0, kept) for each in (column, entry, row))
            self.indices, self.values = row, view.values.index_select(0, entry)
            counts = torch.bincount(column, minlength=view.n)
            self.offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        self.own = view.diagonal()[self.rows]

    def sums(self, values: Tensor) -> Tensor:
        """(G,) sums of values (n,) over the rows of each set."""
        return values.new_zeros(self.sets).index_add_(0, self.member, values)

    def largest(self, sizes: Tensor) -> Tensor:
        """(G,) the largest of sizes (n,), none of which is negative, in each set."""
        return sizes.new_zeros(self.sets).scatter_reduce_(0, self.member, sizes, "amax")

    def collect(self, made: Tensor, gains: Tensor, progress: Counter | None, **facts: int) -> Picks:
        """The picks `made` (G, most) by place, -1 after the last of a set, and their gains, for the engine."""
        out, made = self.out, made.cpu()
        out.rows = torch.where(made < 0, -1, self.partition.rows[made.clamp(min=0)])
        out.gains = gains.cpu()
        out.count(**facts)
        if progress is not None:
            progress.update(int((made >= 0).sum()))
        return out.picks()


def owners(offsets: Tensor, entries: int) -> Tensor:
    """(entries,) the place that each entry belongs to, where place j has offsets[j] to offsets[j + 1]."""
    return torch.repeat_interleave(offsets.diff(), output_size=entries)
