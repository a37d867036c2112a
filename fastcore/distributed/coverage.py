"""How well the rows of all ranks are covered, as the engine of facility location asks for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from typing import Any

import torch
from torch import Tensor

from fastcore.distributed.lazy_block import LazyBlockOverRanks, ListsOverRanks
from fastcore.distributed.matrix import MatrixRows
from fastcore.distributed.room import spare_bytes_of
from fastcore.distributed.shards import Shards
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.active_lists import SHARE
from fastcore.greedy.batches import Batch, marked, pick
from fastcore.greedy.coverage import FLOOR, Coverage, FeatureCoverage, reached
from fastcore.greedy.gradients import TRIANGLE, GradientCoverage
from fastcore.memory import TILE_BYTES, block_rows, current, table_fits
from fastcore.ops import backend_of
from fastcore.ops.coverage_gains import coverage_gains
from fastcore.ops.facility_location_block import similarity_of_products
from fastcore.ops.project import project
from fastcore.ops.weighted_sum import weighted_sum
from fastcore.similarity import METRICS

FEW = 32
"""Rows that lists have room for also where they are a large share of those of a rank."""


class CoverageOverRanks(Coverage):
    """Before a class that knows the rows of one rank, whose coverage and similarities it keeps.

    Candidates are the rows of all ranks: positions (1, B) are global row numbers, on the CPU.

    Attributes:
        coverage: (1, m) of the rows of this rank.
        bounds: (1, n) upper bounds on what each candidate would add over all ranks, on the CPU.
        matrix: (1, n, m) float32 similarities, a candidate a row, or None.
        target: (1,) coverage at which to end, or None.
    """

    local: Any
    sets: Any
    metric: str
    lists: ListsOverRanks | None
    target: Tensor | None = None

    def __init__(self, shards: Shards, view: Any) -> None:
        self.shards, self.ranks, self.local = shards, shards.ranks, view
        batch = shards.batch(view.device)
        self.inside = batch.rows >= 0
        super().__init__(view, batch, 0)  # type: ignore[call-arg]
        self.error = float(self.ranks.largest(self.floor.new_tensor(self.error)))
        self.floor = FLOOR * self.ranks.largest(self.diagonal.abs().amax(1)).cpu()
        self.bounds = torch.full((1, shards.n), torch.inf, dtype=torch.float64)

    def make_room(self, memory: int | None) -> None:
        """Keeps the similarities of all candidates, or finds how many a pass may take and room for lists."""
        device, own = self.coverage.device, self.coverage.shape[1]
        limit = min(
            spare_bytes_of(self.ranks, device) if memory is None else memory, current().of(device).block
        )
        fits = table_fits(device, 4 * self.shards.n * own, limit)
        rows = block_rows(device, 4 * own, self.shards.n)
        # Half is for lists, the rest for blocks and copies.
        room = min(max(own // SHARE, min(own, FEW)), limit // (16 * self.shards.n))
        every = self.ranks.exchange([fits, rows, room])
        self._most: int = min(each[1] for each in every)
        if all(each[0] for each in every):
            self.matrix = self._table()[None]
        elif all(each[2] for each in every):
            self.lists = ListsOverRanks(self.ranks, self.shards.n, room, device)

    def _table(self) -> Tensor:
        table = self.coverage.new_empty(self.shards.n, self.coverage.shape[1], dtype=torch.float32)
        for _ in self._compared(table):
            pass
        return table

    def _room(self, part: slice, table: Tensor | None) -> Tensor:
        """(T, m) where the similarities of some candidates go: into a table, where there is one."""
        if table is not None:
            return table[part]
        own = self.coverage.shape[1]
        return self.coverage.new_empty(part.stop - part.start, own, dtype=torch.float32)

    def candidates(self, wanted: int) -> int:
        """Candidates of a pass, at most `wanted`, and as many on every rank: all where a table is kept."""
        return self.shards.n if self.matrix is not None else min(wanted, self._most)

    def covered(self) -> Tensor:
        """(1,) the coverage reached, of all rows."""
        covered: Tensor = self.ranks.sum(super().covered())
        return covered.cpu()

    def full(self) -> Tensor:
        """(1,) the coverage when all rows are picked."""
        if self.metric not in ("dot", "precomputed"):
            best = self.diagonal  # nothing is more similar than itself
        else:
            best = torch.zeros_like(self.coverage)
            for _, similarity in self._every():
                best = torch.maximum(best, similarity.amax(0).double())
        return self.ranks.sum((best * self.coverage.isfinite()).sum(1)).cpu()

    def start(self) -> None:
        """Bounds on the gains of all candidates."""
        if self.metric != "cosine" or float(self.covered()) > 0:
            return self.sweep()
        # No similarity is negative and nothing is covered: a gain is the sum of a column.
        own = self.sets.scale * self._to_all(self.sets.scale * self.inside)
        total = self.ranks.gather_rows(own[0, : self.shards.count].cpu(), self.shards.counts)
        self._bound((0.5 * self.shards.n + 0.5 * total) * (1 + 1e-12) + FLOOR * self.shards.n)

    def _to_all(self, weights: Tensor) -> Tensor:
        """(1, m) inner product of every row with the sum of the rows of all ranks, times weights (1, m)."""
        raise NotImplementedError

    def sweep(self) -> None:
        """Brings the bounds of all candidates up to date: n^2 similarities, shared by the ranks."""
        gains = self.coverage.new_empty(self.shards.n)
        for part, similarity in self._every():
            gains[part] = coverage_gains(similarity[None], self.coverage - self.error)[0]
        self._bound(self.ranks.sum(gains.cpu()))

    def _bound(self, gains: Tensor) -> None:
        self.bounds = gains[None].masked_fill_(self.bounds == -torch.inf, -torch.inf)

    def _every(self) -> Iterator[tuple[slice, Tensor]]:
        """Similarities (T, m) float32 of all candidates with the rows of this rank, kept or made."""
        if self.matrix is None:
            yield from self._compared()
            return
        step = self._step(1)
        for start in range(0, self.shards.n, step):
            part = slice(start, start + step)
            yield part, self.matrix[0, part]

    def _compared(self, table: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """The same, made from the rows of every rank in turn, in a table (n, m) or in new memory."""
        for rank, part, rows in self.shards.every_row(self.local, self._step(self.local.width)):
            part = self._global(rank, part)
            yield part, self._against(rows, self._room(part, table))

    def _against(self, rows: Any, out: Tensor) -> Tensor:
        """Writes float32 similarities of rows of any rank with those of this one into out (T, m)."""
        return out.copy_(self.local.external(rows).T)

    def _global(self, rank: int, part: slice) -> slice:
        first = sum(self.shards.counts[:rank])
        return slice(first + part.start, first + part.stop)

    def _step(self, width: int) -> int:
        return max(1, 4 * TILE_BYTES // (4 * max(1, *self.shards.counts, width)))

    def block(self, at: Tensor) -> Tensor:
        """(1, B, m) float32 similarity of the candidates at positions (1, B) with the rows of this rank."""
        self.computed += at.numel()
        out = self._room(slice(0, at.shape[1]), None)
        return self._against(self.shards.rows(self.local, at), out)[None]

    def _columns(self, at: Tensor) -> Tensor:
        return self.shards.columns(self.local, at)

    def similarities(self, at: Tensor) -> Tensor:
        """(1, B, m) similarity of the candidates at positions (1, B), -inf where it matters no more."""
        return super().similarities(at.to(self.coverage.device))

    def keep(self, at: Tensor, similarity: Tensor) -> None:
        """Keeps what still matters of the similarities (1, B, m) of candidates, once the coverage has grown."""
        super().keep(at.to(self.coverage.device), similarity)

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (1, n) is true as picked."""
        for positions in marked(rows).split(64, dim=1):
            columns = self._columns(positions)
            self.coverage = torch.maximum(self.coverage, columns.amax(1))
        self.bounds.masked_fill_(rows.cpu(), -torch.inf)

    def greedy(
        self, similarity: Tensor, at: Tensor, budgets: Tensor, outside: Tensor, outside_row: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Picks among the candidates at positions (1, B), lazily: see Coverage."""
        found = LazyBlockOverRanks(self, similarity[0], at[0], pick(self.bounds, at)[0])
        covered = 0.0 if self.target is None else self.covered()

        def enough(gains: Tensor) -> bool:
            return self.target is not None and bool(reached(covered + gains.sum(1), self.target))

        picks, gains = found.greedy(int(budgets[0]), most, outside, outside_row, enough)
        bounds: Tensor = self.bounds.scatter(1, at, found.upper[None])
        return picks, gains, torch.tensor([[found.evaluated, found.refined]]), (found.coverage, bounds)

    def exact(self, at: Tensor, similarity: Tensor, among: Tensor) -> Tensor:
        """(a, b) float64 similarity of some rows of this rank with candidates at (b,): see LazyBlockOverRanks."""
        others = self.local.of(self.shards.rows(self.local, at[None]))
        ours, sides = list(self.local.factors), [self.local.scale, self.local.norms]
        if len(among) < self.n:
            ours, sides = [factor[among] for factor in ours], [side[among] for side in sides]
        # One after the other: a row is summed in one order then, so that copies of a pick add nothing.
        columns = []
        for j in range(others.n):
            first, *second = (
                project(factor[None], other[j][None].double())[0]
                for factor, other in zip(ours, others.factors, strict=True)
            )
            columns.append(first * (1 + second[0]) if second else first)
        pairs = torch.stack(columns, 1), (sides[0], sides[1]), (others.scale, others.norms)
        return similarity_of_products(*pairs, METRICS[self.metric], self.local.parameter)

    def selective(self) -> bool:
        """Whether sums over a row do not depend on how many rows there are: then some rows are enough."""
        return backend_of("project", self.coverage.device) != "reference"


class ShardedCoverage(CoverageOverRanks, FeatureCoverage):
    """Coverage of features of all ranks."""

    def _to_all(self, weights: Tensor) -> Tensor:
        return project(self.sets.x, self.ranks.sum(weighted_sum(self.sets.x, weights)))

    def _compared(self, table: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        if self.metric not in ("cosine", "dot"):
            yield from super()._compared(table)
            return
        for rank, part, rows in self.shards.every(self.operand, self._step(self.operand.shape[2])):
            part = self._global(rank, part)
            yield part, torch.mm(rows, self.operand[0].T, out=self._room(part, table))

    def block(self, at: Tensor) -> Tensor:
        """(1, B, m) float32 similarity of the candidates at positions (1, B) with the rows of this rank."""
        if self.metric not in ("cosine", "dot"):
            return super().block(at)
        self.computed += at.numel()
        return torch.mm(self.shards.take(self.operand, at)[0], self.operand[0].T)[None]


class ShardedGradientCoverage(CoverageOverRanks, GradientCoverage):
    """Coverage of gradients of all ranks."""

    def __init__(self, shards: Shards, view: Any) -> None:
        super().__init__(shards, view)
        wide = shards.count > 0 and self.dtype == torch.float64
        every = self.ranks.exchange([self._largest, wide])
        self._largest = max(largest for largest, _ in every)
        self.dtype = torch.float64 if any(each for _, each in every) else torch.float32

    def _to_all(self, weights: Tensor) -> Tensor:
        gradients = self.local.gradients
        products: Tensor = gradients.project(self.ranks.sum(gradients.weighted_sum(weights[0])))
        return products[None]

    def _against(self, rows: LastLayerGradients, out: Tensor) -> Tensor:
        """Writes float32 similarities of other gradients with those of this rank into out (T, m)."""
        own, here = self.sets, copy(self)
        for start in range(0, len(rows), TRIANGLE):
            some = self.local.of(rows[start : start + TRIANGLE])
            # As if they were more rows of this rank: what is made of a set serves both.
            here.sets = sets = copy(own)
            sets.factors = [_joined(*pair) for pair in zip(own.factors, some.factors, strict=True)]
            sets.x, sets.scale = sets.factors[0], _joined(own.scale, some.scale)
            sets.norms = _joined(own.norms, some.norms)
            if own.linear:
                scale = math.sqrt(0.5) * some.scale[:, None] if self.metric == "cosine" else 1.0
                here.delta = _joined(self.delta, (some.factors[0] * scale).float())
            at = torch.arange(self.n, self.n + some.n, device=out.device)[None]
            made = out.new_empty(1, some.n, self.n + some.n)
            if not here._fill_apart(made, at, None):
                here._fill(made, at, 0)
            out[start : start + some.n] = made[0, :, : self.n]
        self.apart = here.apart
        return out


def _joined(ours: Tensor, others: Tensor) -> Tensor:
    return torch.cat([ours, others[None]], 1)


class GivenCoverage(Coverage):
    """Coverage whose similarities are read from a matrix, as they are."""

    def __init__(self, view: MatrixRows, batch: Batch, limit: int) -> None:
        super().__init__(view, batch)
        self.metric = view.metric


class ShardedMatrixCoverage(CoverageOverRanks, GivenCoverage):
    """Coverage in a given matrix, of which every rank has the rows that it covers."""

    local: MatrixRows

    def _compared(self, table: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        step = self._step(1)
        for start in range(0, self.shards.n, step):
            part = slice(start, min(start + step, self.shards.n))
            yield part, self._room(part, table).copy_(self.local.matrix[:, part].T)

    def block(self, at: Tensor) -> Tensor:
        """(1, B, m) float32 similarity of the candidates at positions (1, B) with the rows of this rank."""
        self.computed += at.numel()
        return self.local.matrix[:, at[0]].T.contiguous()[None]

    def exact(self, at: Tensor, similarity: Tensor, among: Tensor) -> Tensor:
        """(a, b) float64 similarity of some rows of this rank with candidates at (b,): see LazyBlockOverRanks."""
        return similarity[:, among].T.double()
