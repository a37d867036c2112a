"""Graph cut over rows on several ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.distributed.shards import Shards
from fastcore.greedy.batches import TILE_BYTES, Batch, mark, pick
from fastcore.greedy.cuts import BLOCK, FLOOR, BlockCut, LinearCut
from fastcore.ops.choice import TIE, tolerance
from fastcore.ops.graph_cut_block import graph_cut_block
from fastcore.ops.project import project
from fastcore.similarity import FeatureSimilarity, Outside

PICKS_A_PASS = 100
ROUNDING = 1e-14  # of squared lengths, relative

FEWEST = 8
"""Picks that a pass tries at least: their cost is that of the collectives."""


class ShardedCut(LinearCut):
    """Graph-cut gains of the rows of all ranks, each rank's of its own rows.

    A pass gathers a block of the rows with the largest gains and picks inside it, as far as it may go. Then every
    rank bounds, from what it keeps of its rows, how large a gain outside the block could have been before each of
    these picks; those picks stand that none could have passed. Three collectives a pass, none a pick.
    """

    def __init__(self, shards: Shards, view: FeatureSimilarity, lam: float) -> None:
        self.shards = shards
        self.block, self.tries = BLOCK, PICKS_A_PASS
        super().__init__(view, shards.batch(view.device), lam)

    def _see(self, squares: Tensor, total: Tensor, batch: Batch) -> None:
        # Picks drift along the mean direction most of all; what each row has along it and apart from it bounds how
        # its gain changes. One direction that all ranks know.
        length = total.norm(dim=1, keepdim=True)
        self.axis = torch.where(length > 0, total / length, 0.0)
        self.along = self.scale * project(self.x, self.axis)
        self.apart = ((squares - self.along.square()).clamp_(min=0) + ROUNDING * squares).sqrt()

    def _sum(self, rows: Tensor, weights: Tensor) -> Tensor:
        return self.shards.ranks.sum(super()._sum(rows, weights))

    def pick(self, fixed: Tensor, left: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
        """The next picks (1, P) and their gains: see Cut."""
        values = self._values().masked_fill_(self.shards.part(fixed), -torch.inf)
        open_values = values.masked_fill(values == -torch.inf, 0)
        floor = FLOOR * self.shards.ranks.largest(open_values.abs().amax(1))
        while True:
            at, outside, outside_row = self.shards.top(values, max(self.block, block or 0), floor)
            most = min(at.shape[1], int(left[0]), block or self.tries)
            rows, gains, sums = self._inside(at, values, floor, most)
            bound = self._outside(at, values, floor, sums)
            made = _standing(rows[0], gains[0], bound, float(floor))
            if made:
                break
            self.block *= 2  # more rows are tied than a block holds
        self.tries = min(PICKS_A_PASS, max(FEWEST, 2 * made))
        steps = torch.arange(made, device=rows.device).double()
        return rows[:, :made], gains[:, :made] + (
            self.offset.unsqueeze(1) - 2 * self.lam * self.shift * steps
        )

    def _inside(self, at: Tensor, values: Tensor, floor: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Picks (1, T) of the rows at (1, B) alone, their gains, and the sums (T, d) of those before each."""
        x = self.shards.take(self.x, at)[0].double()
        x = x * self.shards.take(self.scale, at)[0].unsqueeze(1)
        gains = self.shards.take(values, at)
        budget = torch.tensor([most], device=at.device)
        nothing = torch.tensor([-torch.inf], dtype=torch.float64, device=at.device)
        limits = (budget, nothing, torch.full_like(budget, self.shards.n), floor)
        penalty = 2 * self.lam * self.factor
        chosen, found = graph_cut_block((x @ x.T)[None], gains, at, *limits, penalty, most)
        # Machines may round differently: one of them decides.
        both = self.shards.ranks.from_rank(0, torch.stack([chosen[0].double(), found[0]]))
        picked = both[0].long()
        sums = x[picked].cumsum(0) - x[picked]
        return at[:, picked], both[1:], sums

    def _outside(self, at: Tensor, values: Tensor, floor: Tensor, sums: Tensor) -> Tensor:
        """(2, T) a bound on the gains outside the rows at (1, B) before each pick, and the lowest row near it."""
        outside = values == -torch.inf
        mark(outside, self.shards.own(at))
        rest = values.masked_fill(outside, -torch.inf)[0]
        along = sums @ self.axis[0]
        apart = (sums - along.unsqueeze(1) * self.axis).norm(dim=1) + 1e-13 * sums.norm(dim=1)
        penalty = 2 * self.lam * self.factor
        found = torch.empty(2, len(sums), dtype=torch.float64, device=at.device)
        step = max(1, 4 * TILE_BYTES // (8 * len(rest)))
        for start in range(0, len(sums), step):
            part = slice(start, start + step)
            change = along[part, None] * self.along - apart[part, None] * self.apart
            bound = rest - penalty * change
            best = bound.amax(1)
            found[0, part] = best
            slack = 4 * (TIE * best.abs() + floor)
            slack = torch.where(best == -torch.inf, 0.0, slack)
            first = (bound >= (best - slack).unsqueeze(1)).byte().argmax(1)
            found[1, part] = (self.shards.start + first).double()
        every = self.shards.ranks.gather(found)
        best = every[:, 0].amax(0)
        slack = torch.where(best == -torch.inf, 0.0, 4 * (TIE * best.abs() + floor))
        rows = torch.where(every[:, 0] >= best - slack, every[:, 1], self.shards.n).amin(0)
        return torch.stack([best, rows])

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (1, P) into account; -1 is none."""
        own = self.shards.own(positions)
        rows = self._sum(pick(self.x, own), pick(self.scale, own) * (own >= 0))
        self._subtract(rows, (positions >= 0).sum(1))

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (1, n) is true into account."""
        self._subtract(self._sum(self.x, self.scale * self.shards.part(rows)), rows.sum(1))


class ShardedPairwiseCut(BlockCut):
    """Graph-cut gains under euclidean or rbf similarity, which takes all pairs of rows once."""

    def __init__(self, shards: Shards, view: FeatureSimilarity, lam: float) -> None:
        super().__init__(lam)
        self.shards, self.view, self.wanted = shards, view, BLOCK
        batch = shards.batch(view.device)
        self.x, self.inside = batch.take(view.features), (batch.rows[0] >= 0).double()
        self.gains = -lam * batch.take(view.diagonal())
        step = max(1, TILE_BYTES // (8 * max(shards.counts)))
        for rank, part, rows in shards.every(self.x, step):
            sums = shards.ranks.sum(self.inside @ view.external(rows))
            if rank == shards.ranks.rank:
                self.gains[0, part] += sums

    def pick(self, fixed: Tensor, left: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
        """The next picks (1, P) and their gains: see Cut."""
        values = self.gains.masked_fill(self.shards.part(fixed), -torch.inf)
        open_values = values.masked_fill(values == -torch.inf, 0)
        floor = FLOOR * self.shards.ranks.largest(open_values.abs().amax(1))
        while True:
            at, outside, outside_row = self.shards.top(values, max(self.wanted, block or 0), floor)
            most = min(at.shape[1], int(left[0]))
            limits = (left.clamp(max=most), outside, outside_row, floor)
            state = self.shards.take(values, at)
            picks, gains = graph_cut_block(self.among(at), state, at, *limits, 2 * self.lam, most)
            if int(picks[0, 0]) >= 0:
                return torch.where(picks < 0, -1, at.gather(1, picks.clamp(min=0))), gains
            self.wanted *= 2  # more rows are tied than a block holds

    def among(self, positions: Tensor) -> Tensor:
        """(1, B, B) similarity of the rows at positions (1, B)."""
        rows = self.view.of(self.shards.take(self.x, positions)[0])
        among = rows.columns(torch.arange(rows.n, device=positions.device))[None]
        # Machines may round differently: one of them decides.
        return self.shards.ranks.from_rank(0, among)

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (1, P) into account; -1 is none."""
        for part in positions[:, positions[0] >= 0].split(64, dim=1):
            self.add_external(self.shards.take(self.x, part)[0])

    def add_external(self, rows: Outside) -> None:
        """Takes m outside rows into account."""
        assert isinstance(rows, Tensor)
        self.gains -= 2 * self.lam * self.view.external(rows).sum(1)


def _standing(rows: Tensor, gains: Tensor, bound: Tensor, floor: float) -> int:
    """How many of the picks no row outside the block could have passed."""
    outside, outside_rows = bound.cpu().tolist()
    made = 0
    for row, gain, other, other_row in zip(rows.tolist(), gains.tolist(), outside, outside_rows, strict=True):
        slack = tolerance(gain, floor)
        if not (gain - slack > other or (gain + slack >= other and row < other_row)):
            break
        made += 1
    return made
