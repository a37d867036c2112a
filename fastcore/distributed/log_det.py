"""Log-determinant over rows on several ranks."""

from __future__ import annotations

from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed.parameters import ridge_of
from fastcore.distributed.shards import Shards
from fastcore.greedy.batches import Batch, earlier, mark
from fastcore.greedy.log_det import BLOCK, Factor, check_memory
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.numerics import full_precision
from fastcore.similarity import DenseSimilarity, Outside, RowSimilarity


@full_precision()
def log_det(
    shards: Shards,
    view: RowSimilarity | DenseSimilarity,
    partition: Partition,
    batch: Batch,
    *,
    ridge: float | None = None,
    preselected: Outside | None = None,
    memory: int | None = None,
    progress: Counter | None = None,
) -> Picks:
    """Picks the row that raises log det(S_A + ridge I) most, again and again.

    A rank keeps the columns of the Cholesky factor that belong to its rows, 8 bytes a row and pick. A pass gathers
    the rows of a block and its columns.
    """
    ridge = ridge_of(shards, view) if ridge is None else ridge
    fixed, outside = earlier(preselected, shards.n, view.device)
    most = int(partition.budgets[0]) + (0 if preselected is None else len(preselected))
    check_memory(max(shards.counts), most, memory, view.device)
    out, made = Collector(partition), PickList(batch)
    state = ShardedFactor(shards, view, ridge, most)
    if outside is not None:
        state.add_external(outside)
    elif fixed is not None:
        state.add_mask(fixed[None])
    while made.more():
        positions, triangle, count = state.step(made, BLOCK)
        out.count(passes=1)
        if progress is not None:
            progress.update(count)
        if made.more():
            state.add(positions, triangle)
    out.add(batch, made)
    return out.picks()


class ShardedFactor(Factor):
    """The Cholesky rows of all picks against the rows of this rank, and the pivots they leave."""

    def __init__(
        self, shards: Shards, view: RowSimilarity | DenseSimilarity, ridge: float, most: int
    ) -> None:
        self.shards, self.local = shards, view
        super().__init__(view, shards.batch(view.device), view.diagonal(), ridge, most)
        self.largest = shards.ranks.largest(self.largest)

    def smallest(self) -> Tensor:
        """(1,) the smallest pivot of all rows."""
        return -self.shards.ranks.largest(-super().smallest())

    def candidates(self, pivots: Tensor, block: int, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The block of the next pass over the rows of all ranks."""
        return self.shards.top(pivots, block, floor)

    def take(self, values: Tensor, at: Tensor) -> Tensor:
        """values (1, m) or (1, m, T) at positions (1, B)."""
        return self.shards.take(values, at)

    def schur(self, at: Tensor) -> Tensor:
        """(1, B, B) similarity of the rows at positions (1, B), given the picks."""
        among, columns = self.shards.among(self.local, at), self.take(self.factor.mT, at)
        # Machines may round differently: one of them decides.
        return self.shards.ranks.from_rank(0, among - columns @ columns.mT)

    def add(self, positions: Tensor, triangle: Tensor) -> None:
        """Takes picks at positions (1, P), with their Cholesky factor (1, P, P), into account."""
        similarity = self.shards.columns(self.local, positions)
        self._append(similarity.mT[None], self.take(self.factor.mT, positions), triangle, positions >= 0)
        mark(self.closed, self.shards.own(positions))
