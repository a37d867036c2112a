"""Facility location over rows that are on the device, but not in float32: converted a tile at a time.

Float32 products of the tiles bound the gains, as with rows in float32; where the bounds cannot tell, and for every
pick, columns are made in float64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastcore.greedy.batches import Batch, pick
from fastcore.greedy.coverage import MATRIX_BYTES, FeatureCoverage
from fastcore.greedy.lazy_block import LazyBlock
from fastcore.memory import TILE_BYTES, block_rows, table_fits, tile_rows
from fastcore.ops.coverage_gains import coverage_gains
from fastcore.similarity import FeatureSimilarity

MEASURED = 16
"""Candidates whose gains are measured together."""

COLUMNS = 8
"""Columns made in one read of all rows: those that are asked for, and the next that are likely to be."""

KEPT = 64
"""Columns in float64 that are kept: 8 bytes for each row."""


class StoredCoverage(FeatureCoverage):
    """Coverage of one set from `Streamed` rows that are on the device."""

    def __init__(self, view: FeatureSimilarity, batch: Batch, limit: int) -> None:
        super().__init__(view, batch, 0)
        self._columns: dict[int, Tensor] = {}
        if table_fits(view.device, int(MATRIX_BYTES * self.n**2), limit):
            self.matrix = self._whole_matrix()

    def step(self) -> int:
        """Candidates whose similarities are made together in a sweep."""
        row_bytes = 4 * (self.n + self.sets.x.shape[2])
        return tile_rows(self.coverage.device, row_bytes, 4 * TILE_BYTES, self.n)

    def candidates(self, wanted: int) -> int:
        """Candidates of a pass, at most `wanted`: all rows where the matrix is kept."""
        if self.matrix is not None:
            return self.n
        return block_rows(self.coverage.device, 4 * (self.n + self.sets.x.shape[2]), wanted)

    def _cosine_operand(self) -> Any:
        return self.sets.x  # no copy

    def _side(self, rows: Tensor, scale: Tensor) -> Tensor:
        """Rows (1, t, d) as their products are taken, to be changed in place."""
        return rows.mul_((math.sqrt(0.5) * scale).float().unsqueeze(2)) if self.metric == "cosine" else rows

    def _products(self, some: Tensor, out: Tensor, start: int = 0) -> None:
        """Float32 similarities of `some` rows (1, B, d), as `_side` gives them, with all from `start` on."""
        x: Any = self.sets.x
        for part, rows in x.tiles(4 * (x.shape[2] + some.shape[1]), start):
            side = self._side(rows, self.sets.scale[:, part])
            similarity = out[:, :, part]
            if similarity.is_contiguous():
                torch.matmul(some, side.mT, out=similarity)
            else:
                similarity.copy_(some @ side.mT)
            if self.metric == "cosine":
                similarity += 0.5

    def _whole_matrix(self) -> Tensor:
        if self.metric not in ("cosine", "dot"):
            return super()._whole_matrix()
        out = self.coverage.new_empty(1, self.n, self.n, dtype=torch.float32)
        x: Any = self.sets.x
        step = self.step()
        for start in range(0, self.n, step):
            part = slice(start, min(start + step, self.n))
            self._products(self._side(x.part(part), self.sets.scale[:, part]), out[:, part], start)
            # The other triangle is the mirror image.
            out[:, part.stop :, part] = out[:, part, part.stop :].mT
        return out

    def block(self, at: Tensor) -> Tensor:
        """(1, B, n) float32 similarity of the candidates at positions (1, B) with all rows."""
        if self.metric not in ("cosine", "dot"):
            return super().block(at)
        self.computed += at.numel()
        out = self.coverage.new_empty(*at.shape, self.n, dtype=torch.float32)
        self._products(self._side(pick(self.sets.x, at), pick(self.sets.scale, at)), out)
        return out

    def greedy(
        self, similarity: Tensor, at: Tensor, budgets: Tensor, outside: Tensor, outside_row: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Picks among the candidates at positions (1, B), lazily: see Coverage."""
        device, rows = self.coverage.device, at[0].cpu()
        found = _StoredBlock(self, similarity, rows, pick(self.bounds, at)[0].cpu())
        picks, gains = found.greedy(int(budgets[0]), most, outside, outside_row)
        bounds = self.bounds.scatter(1, at, found.upper[None].to(device))
        counts = torch.tensor([[found.evaluated, found.refined]], device=device)
        return picks.to(device), gains.to(device), counts, (found.coverage, bounds)

    def exact_columns(self, rows: Tensor, likely: Tensor) -> Tensor:
        """(m, n) float64 similarity of m rows with all; made together with those `likely` to follow."""
        wanted = rows.tolist()
        if any(row not in self._columns for row in wanted):
            new = [row for row in dict.fromkeys(wanted + likely.tolist()) if row not in self._columns]
            new = new[: max(COLUMNS, len(wanted))]
            made = self.columns(torch.tensor([new], device=self.coverage.device))[0].mT.contiguous()
            for row in list(self._columns)[: max(0, len(self._columns) + len(new) - KEPT)]:
                if row not in wanted:
                    del self._columns[row]
            self._columns |= dict(zip(new, made, strict=True))
        return torch.stack([self._columns[row] for row in wanted])


class _StoredBlock(LazyBlock):
    """The lazy greedy in one block of a StoredCoverage, whose columns are made several at a time.

    Attributes:
        coverage: (1, n), with the picks that were made.
    """

    bounded_at_once = MEASURED, MEASURED
    measured_at_once = COLUMNS, COLUMNS

    def __init__(self, state: StoredCoverage, similarity: Tensor, rows: Tensor, upper: Tensor) -> None:
        super().__init__(rows, upper, float(state.floor[0]))
        self.state, self.similarity, self.coverage = state, similarity, state.coverage.clone()

    def gains_at_most(self, some: Tensor) -> Tensor:
        """(b,) float64 bounds on the gains of candidates at places (b,), on the CPU."""
        similarity = self.similarity[:, some.to(self.similarity.device)]
        return coverage_gains(similarity, self.coverage - self.state.error)[0].cpu()

    def gains(self, some: Tensor) -> Tensor:
        """(b,) float64 gains of candidates at places (b,), on the CPU."""
        likely = self.upper.topk(min(COLUMNS, len(self.upper))).indices
        columns = self.state.exact_columns(self.rows[some], self.rows[likely])
        return (columns - self.coverage).clamp_(min=0).sum(1).cpu()

    def cover(self, place: int) -> None:
        """Takes the pick at a place, whose gain was measured, into account."""
        column = self.state.exact_columns(self.rows[[place]], self.rows[:0])
        self.coverage = torch.maximum(self.coverage, column)
