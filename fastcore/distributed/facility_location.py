"""Facility location over rows on several ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed.matrix import MatrixRows
from fastcore.distributed.shards import Shards
from fastcore.greedy.batches import TILE_BYTES, Batch, earlier, marked
from fastcore.greedy.coverage import FLOOR, Coverage, FeatureCoverage
from fastcore.greedy.gradients import GradientCoverage
from fastcore.greedy.picks import Counter, Picks
from fastcore.numerics import full_precision
from fastcore.ops.choice import choose, tolerance, wins
from fastcore.ops.coverage_gains import coverage_gains
from fastcore.ops.project import project
from fastcore.ops.weighted_sum import weighted_sum
from fastcore.similarity import FeatureSimilarity, GradientSimilarity, Outside

BLOCK, BLOCK_BYTES = 512, 1 << 30
"""Candidates of a pass; fewer where their float64 similarities with the rows of a rank would take more bytes."""

FEWEST = 16
"""Candidates that are evaluated at once at least: one collective serves all of them."""


@full_precision()
def facility_location(
    shards: Shards,
    view: FeatureSimilarity | GradientSimilarity | MatrixRows,
    partition: Partition,
    *,
    preselected: Outside | None = None,
    stop_at: float | None = None,
    progress: Counter | None = None,
    block: int | None = None,
) -> Picks:
    """Picks the row that raises sum_i max_{j in S} s_ij most, again and again; negative s_ij count as 0.

    A rank covers its own rows. A pass gathers the rows of a block of candidates and measures them against the
    rows of the rank once, in float64; a gain is the sum of what the ranks find. One to three collectives a pick.
    """
    state = _coverage(shards, view)
    fixed, outside = earlier(preselected, shards.n, view.device)
    if outside is not None:
        state.add_external(outside)
    elif fixed is not None:
        state.add_mask(fixed[None])
    if block is None:
        block = max(64, min(BLOCK, BLOCK_BYTES // (8 * max(shards.counts))))
    state.start()
    covered = float(state.covered())
    # As everywhere: reached, but for rounding.
    target = math.inf if stop_at is None else stop_at * float(state.full()) * (1 - 1e-12)
    budget, rows, gains = int(partition.budgets[0]), list[int](), list[float]()
    # The first pick changes every gain: all of them are taken again behind it, and not one by one.
    fresh, passes = covered > 0, 0
    while len(rows) < budget and covered < target:
        found = state.pick(block, budget - len(rows) if fresh else 1)
        passes += 1
        if not found:
            block *= 2 if state.stuck else 1
        for row, gain in found:
            rows.append(row)
            gains.append(gain)
            covered += gain
            if covered >= target:
                break
        if progress is not None:
            progress.update(len(found))
        if not fresh and rows and len(rows) < budget and covered < target:
            state.sweep()
            fresh = True
    made = torch.full((1, budget), -1, dtype=torch.int64, device="cpu")
    worth = torch.zeros(1, budget, dtype=torch.float64, device="cpu")
    made[0, : len(rows)], worth[0, : len(rows)] = torch.tensor(rows), torch.tensor(gains, dtype=torch.float64)
    return Picks(made, worth, info={"passes": passes, "evaluations": state.evaluations})


class CoverageOverRanks(Coverage):
    """Before a class that knows the rows of one rank.

    How well the rows of this rank are covered, and bounds on what each of them would add over all ranks.

    Attributes:
        evaluations: gains measured so far, over all ranks together.
        stuck: whether the last pass learned nothing, so that it takes a larger block.
    """

    local: Any
    sets: Any
    metric: str

    def __init__(self, shards: Shards, view: Any) -> None:
        self.shards, self.ranks, self.local = shards, shards.ranks, view
        batch = shards.batch(view.device)
        self.inside = batch.rows >= 0
        super().__init__(view, batch, 0)  # type: ignore[call-arg]
        self.error = float(self.ranks.largest(self.floor.new_tensor(self.error)))
        self.floor = FLOOR * self.ranks.largest(self.diagonal.abs().amax(1))
        self.evaluations, self.stuck = 0, False

    def covered(self) -> Tensor:
        """(1,) the coverage reached, of all rows."""
        return self.ranks.sum(super().covered())

    def start(self) -> None:
        """Bounds on the gains of all candidates."""
        if self.metric != "cosine" or float(self.covered()) > 0:
            return self.sweep()
        # No similarity is negative and nothing is covered: a gain is the sum of a column.
        total = 0.5 * self.shards.n + 0.5 * self.sets.scale * self._to_all(self.sets.scale * self.inside)
        slack = FLOOR * self.shards.n
        self.bounds = torch.where(self.bounds == -torch.inf, -torch.inf, total * (1 + 1e-12) + slack)

    def _to_all(self, weights: Tensor) -> Tensor:
        """(1, m) inner product of every row with the sum of the rows of all ranks, times weights (1, m)."""
        raise NotImplementedError

    def full(self) -> Tensor:
        """(1,) the coverage when all rows are picked."""
        if self.metric not in ("dot", "precomputed"):
            best = self.diagonal  # nothing is more similar than itself
        else:
            best = torch.zeros_like(self.coverage)
            for _, _, similarity in self._compared():
                best = torch.maximum(best, similarity.amax(1).double())
        return self.ranks.sum((best * self.coverage.isfinite()).sum(1))

    def sweep(self) -> None:
        """Brings the bounds of all candidates up to date: n^2 similarities, shared by the ranks."""
        for rank, part, similarity in self._compared():
            fresh = self.ranks.sum(coverage_gains(similarity, self.coverage - self.error))
            if rank == self.ranks.rank:
                self.bounds[:, part] = torch.where(self.bounds[:, part] == -torch.inf, -torch.inf, fresh)

    def _compared(self) -> Iterator[tuple[int, slice, Tensor]]:
        """Similarities (1, T, m) float32 of the rows of every rank in turn with those of this one."""
        for rank, part, rows in self.shards.every_row(self.local, self._step(self.local.width)):
            yield rank, part, self.local.external(rows).T.float().contiguous()[None]

    def _step(self, width: int) -> int:
        return max(1, 4 * TILE_BYTES // (4 * max(1, *self.shards.counts, width)))

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (1, n) is true as picked."""
        for positions in marked(rows).split(64, dim=1):
            columns = self.shards.columns(self.local, positions)
            self.coverage = torch.maximum(self.coverage, columns.amax(1))
        self.bounds.masked_fill_(self.shards.part(rows), -torch.inf)

    def pick(self, block: int, most: int) -> list[tuple[int, float]]:
        """One pass: at most so many picks from a block of the candidates with the largest bounds, with gains."""
        at, outside, outside_row = self.shards.top(self.bounds, block, self.floor)
        bounds = self.shards.take(self.bounds, at)[0].cpu()
        columns = self.shards.columns(self.local, at).T.contiguous()
        columns.masked_fill_(~self.inside, 0)
        rows, floor = at[0].cpu(), float(self.floor)
        limits = float(outside), int(outside_row), floor
        picks: list[tuple[int, float]] = []
        before, largest = bounds.clone(), float(bounds.max())
        while len(picks) < most:
            best = self._evaluate(columns, bounds, limits)
            p = choose(bounds, rows, floor) if best else None
            if p is None or not wins(bounds, p, int(rows[p]), *limits):
                break
            picks.append((int(rows[p]), float(bounds[p])))
            self.coverage = torch.maximum(self.coverage, columns[p])
            bounds[p] = -torch.inf
        self.stuck = not picks and bool(((before - bounds).abs() <= tolerance(largest, floor)).all())
        own = self.shards.own(at)[0]
        mine = own >= 0
        self.bounds[0, own[mine]] = bounds.to(own.device)[mine]
        return picks

    def _evaluate(self, columns: Tensor, bounds: Tensor, limits: tuple[float, int, float]) -> bool:
        """Measures candidates, those with the largest bounds first, until none could pass the best.

        Takes the gains into `bounds` (B,), on the CPU. False where no candidate of the block can be the next pick.
        """
        outside, _, floor = limits
        fresh = torch.zeros(len(bounds), dtype=torch.bool)
        wanted = FEWEST
        while True:
            largest = float(bounds.max())
            if largest == -torch.inf or largest + tolerance(largest, floor) < outside:
                return False
            best = float(bounds[fresh].max()) if bool(fresh.any()) else -torch.inf
            bar = best - tolerance(best, floor) if best > -torch.inf else best
            rivals = (~fresh & (bounds >= bar) & (bounds > -torch.inf)).nonzero()[:, 0]
            if len(rivals) == 0:
                return True
            some = rivals[bounds[rivals].sort(descending=True, stable=True).indices[:wanted]]
            part = columns[some.to(columns.device)] - self.coverage
            bounds[some] = self.ranks.sum(part.clamp_(min=0).sum(1)).cpu()
            fresh[some] = True
            self.evaluations += len(some)
            wanted *= 2


class ShardedCoverage(CoverageOverRanks, FeatureCoverage):
    """Coverage of features of all ranks."""

    def _to_all(self, weights: Tensor) -> Tensor:
        return project(self.sets.x, self.ranks.sum(weighted_sum(self.sets.x, weights)))

    def _compared(self) -> Iterator[tuple[int, slice, Tensor]]:
        """Similarities (1, T, m) float32 of the rows of every rank in turn with those of this one."""
        if self.metric not in ("cosine", "dot"):
            yield from super()._compared()
            return
        for rank, part, rows in self.shards.every(self.operand, self._step(self.operand.shape[2])):
            yield rank, part, torch.mm(rows, self.operand[0].T)[None]


class ShardedGradientCoverage(CoverageOverRanks, GradientCoverage):
    """Coverage of gradients of all ranks."""

    def _to_all(self, weights: Tensor) -> Tensor:
        gradients = self.local.gradients
        products: Tensor = gradients.project(self.ranks.sum(gradients.weighted_sum(weights[0])))
        return products[None]


class GivenCoverage(Coverage):
    """Coverage whose similarities are read from a matrix, as they are."""

    def __init__(self, view: MatrixRows, batch: Batch, limit: int) -> None:
        super().__init__(view, batch)
        self.metric = view.metric


class ShardedMatrixCoverage(CoverageOverRanks, GivenCoverage):
    """Coverage in a given matrix, of which every rank has the rows that it covers."""

    local: MatrixRows

    def _compared(self) -> Iterator[tuple[int, slice, Tensor]]:
        """Similarities (1, T, m) float32 of the rows of every rank in turn with those of this one."""
        first, step = 0, self._step(1)
        for rank, count in enumerate(self.shards.counts):
            for start in range(0, count, step):
                part = slice(start, min(start + step, count))
                columns = self.local.matrix[:, first + part.start : first + part.stop]
                yield rank, part, columns.T.contiguous()[None]
            first += count


def _coverage(shards: Shards, view: FeatureSimilarity | GradientSimilarity | MatrixRows) -> CoverageOverRanks:
    if isinstance(view, MatrixRows):
        return ShardedMatrixCoverage(shards, view)
    return (ShardedGradientCoverage if isinstance(view, GradientSimilarity) else ShardedCoverage)(
        shards, view
    )
