"""Graph cut over a sparse similarity matrix: all ground sets at once, a pick costs the entries of its row."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import earlier
from fastcore.greedy.cuts import FLOOR, OUTSIDE
from fastcore.greedy.picks import Counter, Picks
from fastcore.greedy.sparse_sets import SparseSets, owners
from fastcore.ops.graph_cut_sparse import graph_cut_sparse
from fastcore.similarity import Outside, SparseSimilarity


class SparseCut(SparseSets):
    """Graph-cut gains of every row within its ground set, the rows of a set side by side.

    Attributes:
        gains: (n,) float64, -inf for rows that cannot be picked.
        first: (n + 1,) int64, row j is similar to the rows of the entries first[j] to first[j + 1].
        others, weights: places, int64, ascending for each row, and (s_ij + s_ji) / 2, float64, of the entries.
    """

    def __init__(self, view: SparseSimilarity, partition: Partition, lam: float) -> None:
        super().__init__(view, partition)
        self.penalty = 2 * lam
        column, values = owners(self.offsets, len(self.indices)), self.values.double()
        self.gains = torch.zeros_like(self.own).index_add_(0, column, values) - lam * self.own
        self.first, self.others, self.weights = self._both_ways(column, values)

    def _both_ways(self, column: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`first`, `others` and `weights` of entries in these columns: the function counts s_ij and s_ji alike.

        Entries and their mirror images are in order, and merged: sorting all of them would take most of the time
        of a selection on a CPU.
        """
        count, row, order = len(column), self.indices, self.indices.argsort(stable=True)
        mirrored_row, mirrored_column = column[order], row[order]
        entries = torch.nn.functional.pad(column * self.n + row, (0, 1), value=self.n**2)
        mirrored = mirrored_column * self.n + mirrored_row
        at = torch.searchsorted(entries, mirrored)
        new = entries[at] != mirrored
        more = new.nonzero()[:, 0]
        places = torch.arange(count + 1, device=at.device)
        places += torch.bincount(at[more], minlength=count + 1).cumsum(0)
        mirrored = torch.where(new, at + new.cumsum(0) - 1, places[at])
        others, weights = row.new_empty(count + len(more)), values.new_zeros(count + len(more))
        others[places[:-1]], weights[places[:-1]] = row, values / 2
        others[mirrored] = mirrored_row
        weights.index_add_(0, mirrored, values[order], alpha=0.5)
        lengths = self.offsets.diff() + torch.bincount(mirrored_column[more], minlength=self.n)
        return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)), others, weights

    def add(self, fixed: Tensor) -> None:
        """Takes the rows where the mask (n,) is true as picked."""
        weights = self.weights * fixed[owners(self.first, len(self.others))]
        self.gains.index_add_(0, self.others, weights, alpha=-self.penalty)
        self.gains.masked_fill_(fixed, -torch.inf)

    def greedy(self) -> tuple[Tensor, Tensor]:
        """Picks (G, most) by place, and gains (G, most)."""
        floor = FLOOR * self.largest(torch.where(self.gains == -torch.inf, 0.0, self.gains.abs()))
        arrays = (self.first, self.others, self.weights, self.gains, self.starts)
        return graph_cut_sparse(*arrays, self.budgets, floor, self.penalty, self.most)


def cut(
    view: SparseSimilarity,
    partition: Partition,
    lam: float,
    preselected: Outside | None,
    progress: Counter | None,
) -> Picks:
    """The picks of all ground sets by one call of the native op; see `graph_cut`."""
    rows = SparseCut(view, partition, lam)
    fixed, outside = earlier(preselected, view.n, view.device)
    if outside is not None:
        raise ValueError(OUTSIDE)
    if fixed is not None:
        rows.add(fixed[rows.rows])
    return rows.collect(*rows.greedy(), progress, passes=1)
