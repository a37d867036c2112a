"""Log-determinant: a diverse set, by a pivoted Cholesky factorisation in blocks.

The gain of a row is the log of its pivot. A pass factorises a block of the rows with the largest pivots as
long as no row outside could be larger, then brings all pivots up to date with two matrix products: the result
of picking one by one, at the speed of products. Everything is float64.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import (
    Batch,
    earlier,
    in_batches,
    mark,
    marked,
    pick,
    sets_of,
    top_block,
    trim,
)
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.memory import readable, retried, spare_bytes
from fastcore.numerics import full_precision
from fastcore.ops.log_det_block import log_det_block
from fastcore.rows import resident_only
from fastcore.similarity import DenseSimilarity, Outside, RowSimilarity

BLOCK = 256
EPSILON = 2.0**-52
FLOOR = 1e-14  # of the largest pivot: rounding
INDEFINITE = -1e-9  # of the largest pivot: no rounding, the similarity has negative eigenvalues


@full_precision()
def log_det(
    view: RowSimilarity | DenseSimilarity | ShardedView,
    partition: Partition,
    *,
    ridge: float | None = None,
    preselected: Outside | None = None,
    memory: int | None = None,
    progress: Counter | None = None,
    block: int = BLOCK,
) -> Picks:
    """Picks the row that raises log det(S_A + ridge I) most, again and again.

    Gains are log(s_jj + ridge - s_jA (S_A + ridge I)^-1 s_Aj). `ridge` is 1e-3 of the mean s_jj unless given.
    The similarity must be symmetric and positive semidefinite; a pivot below 0 raises ValueError. Cost:
    n * k * (d + k / 2) multiplications; memory: 8 n k bytes, MemoryError when that passes `memory`.
    Chen, Zhang and Zhou, "Fast greedy MAP inference for determinantal point process", 2018.
    """
    if isinstance(view, ShardedView):
        rest = {"preselected": preselected, "memory": memory, "progress": progress}
        return view.log_det(partition, ridge=ridge, **rest)
    diagonal = view.diagonal()
    ridge = 1e-3 * float(diagonal.mean()) or 1e-3 if ridge is None else ridge  # 1e-3 where all rows are zero
    out = Collector(partition)
    most_picks = int(partition.budgets.max()) + (0 if preselected is None else len(preselected))
    check_memory(int(partition.sizes.max()), most_picks, memory, view.device)
    row_bytes = 8 * most_picks + 4 * (view.width if isinstance(view, RowSimilarity) else view.n)
    fixed, outside = earlier(preselected, view.n, view.device)

    def factorise(batch: Batch, progress: Counter) -> None:
        state = Factor(view, batch, diagonal, ridge, most_picks)
        if outside is not None:
            state.add_external(outside)
        elif fixed is not None:
            state.add_mask(batch.take(fixed))
        made = PickList(batch)
        while made.more():
            positions, triangle, count = retried(partial(state.step, made, block))
            out.count(passes=1)
            progress.update(count)
            if made.more():
                retried(partial(state.add, positions, triangle))
        out.add(batch, made)

    in_batches(factorise, partition, view.device, row_bytes, progress)
    return out.picks()


def check_memory(rows: int, picks: int, memory: int | None, device: torch.device) -> None:
    """Raises MemoryError where a factor of so many rows and picks takes more than `memory` bytes."""
    needed = 8 * rows * picks
    limit = spare_bytes(device) if memory is None else memory
    if needed > limit:
        raise MemoryError(
            f"log_det keeps {rows} x {picks} float64 numbers, {readable(needed)}, and "
            f"{readable(limit)} are allowed: lower k, or raise memory"
        )


def _triangle(factor: Tensor, picks: Tensor) -> Tensor:
    """(G, P, P) lower Cholesky factor of the picks, the identity where there is none."""
    columns = factor.gather(2, picks.clamp(min=0).unsqueeze(1).expand(-1, factor.shape[1], -1))
    both = (picks >= 0).unsqueeze(1) & (picks >= 0).unsqueeze(2)
    eye = torch.eye(picks.shape[1], dtype=factor.dtype, device=factor.device)
    return torch.where(both, columns.mT, eye).tril()


class Factor:
    """The Cholesky rows of all picks against all rows of a batch, and the pivots they leave."""

    def __init__(
        self,
        view: RowSimilarity | DenseSimilarity,
        batch: Batch,
        diagonal: Tensor,
        ridge: float,
        most: int,
    ) -> None:
        self.view, self.ridge = view, ridge
        self.sets = sets_of(view, batch)
        resident_only(getattr(self.sets, "x", None), "log_det")
        self.closed = batch.rows < 0
        self.pivots = batch.take(diagonal) + ridge
        self.largest = self.pivots.masked_fill(self.closed, 0).abs().amax(1)
        sets, n = batch.rows.shape
        self.rows = torch.zeros(sets, most, n, dtype=torch.float64, device=batch.rows.device)
        self.used = torch.zeros(sets, dtype=torch.int64, device=batch.rows.device)

    def step(self, made: PickList, block: int) -> tuple[Tensor, Tensor, int]:
        """The picks (G, P) of a pass from a block of the largest pivots, their Cholesky factor and number."""
        smallest = self.smallest()
        if bool((smallest < INDEFINITE * self.largest).any()):
            raise ValueError(
                f"log_det needs a positive semidefinite similarity, got a pivot of {float(smallest.min()):.3g}"
            )
        pivots = self.pivots.masked_fill(self.closed, -torch.inf)
        # What the rounding of so many subtractions leaves of a pivot that is 0.
        floor = self.largest * (4 * EPSILON * self.used.double()).clamp(min=FLOOR)
        at, outside, outside_row = self.candidates(pivots, block, floor)
        most = min(at.shape[1], int(made.left.max()))
        budgets, limits = made.left.clamp(max=most), (outside, outside_row, floor)
        values = self.take(pivots, at)
        nothing = values.amax(1) <= floor
        new, gains, factor = log_det_block(self.schur(at), values, at, budgets, *limits, most)
        without = (new[:, 0] < 0) & (budgets > 0)
        if bool(without.any()):
            if bool((without & nothing).any()):
                raise ValueError(
                    f"log_det: after {int(self.used.max())} rows every other row depends on them "
                    f"(ridge={self.ridge:g}): take fewer picks or a larger ridge"
                )
            if at.shape[1] < block:
                raise made.stuck("log_det", bounds=False)
            return self.step(made, 2 * block)  # more rows are all but tied than a block holds
        positions = torch.where(new < 0, -1, at.gather(1, new.clamp(min=0)))
        positions = trim(positions)
        width = positions.shape[1]
        triangle = _triangle(factor[:, :width], new[:, :width])
        return positions, triangle, made.append(positions, gains[:, :width].log())

    def smallest(self) -> Tensor:
        """(G,) the smallest pivot of each set, or 0."""
        return self.pivots.masked_fill(self.closed, 0).amin(1)

    def candidates(self, pivots: Tensor, block: int, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The block of the next pass, and the bound on the rest: see `top_block`."""
        return top_block(pivots, block, floor)

    def take(self, values: Tensor, at: Tensor) -> Tensor:
        """values (G, n) at positions (G, B)."""
        return pick(values, at)

    @property
    def factor(self) -> Tensor:
        """(G, T, n) the Cholesky rows so far; a set with fewer picks than others has rows of 0 at its end."""
        return self.rows[:, : int(self.used.max())]

    def schur(self, at: Tensor) -> Tensor:
        """(G, B, B) similarity of the rows at positions (G, B), given the picks."""
        columns = self.factor.gather(2, at.unsqueeze(1).expand(-1, self.factor.shape[1], -1))
        return self.sets.among(at).double() - columns.mT @ columns

    def add(self, positions: Tensor, triangle: Tensor) -> None:
        """Takes picks at positions (G, P), with their Cholesky factor (G, P, P), into account; -1 is none."""
        closed = self.closed.clone()
        mark(closed, positions)
        self._append(
            self.sets.columns(positions).mT, pick(self.factor.mT, positions), triangle, positions >= 0
        )
        self.closed = closed

    def _append(self, similarity: Tensor, columns: Tensor, triangle: Tensor, valid: Tensor) -> None:
        open_rows = (similarity - columns @ self.factor) * valid.unsqueeze(2)
        rows = torch.linalg.solve_triangular(triangle, open_rows, upper=False)
        g, t = valid.nonzero(as_tuple=True)
        used, pivots = self.used + valid.sum(1), self.pivots - rows.square().sum(1)
        self.rows[g, self.used[g] + t] = rows[g, t]
        self.used, self.pivots = used, pivots  # last: until here the same rows may be added again

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (G, n) is true into account."""
        for positions in marked(rows).split(BLOCK, dim=1):
            schur = self.schur(positions.clamp(min=0))
            self.add(positions, self._cholesky(schur, positions >= 0))

    def add_external(self, rows: Outside) -> None:
        """Takes m outside rows into account, for the one set of the batch."""
        if not isinstance(self.view, RowSimilarity):
            raise ValueError('preselected: outside features need features, not metric="precomputed"')
        others = self.view.of(rows)
        among = others.columns(torch.arange(others.n, device=others.device))
        valid = torch.ones(1, others.n, dtype=torch.bool, device=others.device)
        similarity = self.view.external(rows).mT.unsqueeze(0)
        columns = torch.zeros(1, others.n, 0, dtype=torch.float64, device=others.device)
        self._append(similarity, columns, self._cholesky(among.unsqueeze(0), valid), valid)

    def _cholesky(self, matrix: Tensor, valid: Tensor) -> Tensor:
        eye = torch.eye(matrix.shape[1], dtype=torch.float64, device=matrix.device)
        both = valid.unsqueeze(1) & valid.unsqueeze(2)
        triangle: Tensor
        triangle, failed = torch.linalg.cholesky_ex(torch.where(both, matrix + self.ridge * eye, eye))
        if bool(failed.any()):
            raise ValueError("preselected: these rows depend on each other: take a larger ridge")
        return triangle
