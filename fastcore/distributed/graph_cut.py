"""Graph cut over rows on several ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore.distributed.matrix import MatrixRows
from fastcore.distributed.shards import Shards
from fastcore.greedy.batches import mark, marked, pick
from fastcore.greedy.cuts import BLOCK, FLOOR, AxisCut, BlockCut
from fastcore.greedy.picks import internal
from fastcore.memory import TILE_BYTES
from fastcore.ops.choice import TIE, tolerance
from fastcore.ops.graph_cut_block import graph_cut_block
from fastcore.similarity import FeatureSimilarity, GradientSimilarity, Outside, RowSimilarity

PICKS_A_PASS = 100

APART = 1e-12
"""Of squared lengths, relative: more than the rounding of sums over the factors of a gradient."""

FEWEST = 8
"""Picks that a pass tries at least, or candidates of one pick: their cost is that of the collectives."""


class ShardedCut(AxisCut):
    """Graph-cut gains of the rows of all ranks, each rank's of its own rows.

    A pass gathers a block of the rows with the largest gains and picks inside it, as far as it may go. Then every
    rank bounds, from what it keeps of its rows, how large a gain outside the block could have been before each of
    these picks; those picks stand that none could have passed. Three collectives a pass, none a pick.
    """

    def __init__(self, shards: Shards, view: FeatureSimilarity, lam: float) -> None:
        self.shards = shards
        self.block, self.tries = BLOCK, PICKS_A_PASS
        super().__init__(view, shards.batch(view.device), lam)

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
            rows, gains, drift = self._inside(at, values, floor, most)
            bound = self._outside(at, values, floor, *drift)
            made = _standing(rows[0], gains[0], bound, float(floor))
            if made:
                break
            self.block = _larger(self.block, self.shards.n)
        self.tries = min(PICKS_A_PASS, max(FEWEST, 2 * made))
        return rows[:, :made], self._shifted(gains[:, :made])

    def _inside(
        self, at: Tensor, values: Tensor, floor: Tensor, most: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Picks (1, T) of the rows at (1, B) alone, their gains, and the drift before each: see `_drift`."""
        x = self._rows(at)
        gains = self.shards.take(values, at)
        budget = torch.tensor([most], device=at.device)
        nothing = torch.tensor([-torch.inf], dtype=torch.float64, device=at.device)
        limits = (budget, nothing, torch.full_like(budget, self.shards.n), floor)
        penalty = 2 * self.lam * self.factor
        chosen, found = graph_cut_block(self._gram(x)[None], gains, at, *limits, penalty, most)
        # Machines may round differently: one of them decides.
        both = self.shards.ranks.from_rank(0, torch.stack([chosen[0].double(), found[0]]))
        picked = both[0].long()
        return at[:, picked], both[1:], self._drift(x, picked)

    def _rows(self, at: Tensor) -> Tensor:
        """What is needed of the rows at (1, B): the scaled rows."""
        x = self.shards.take(self.x, at)[0].double()
        return x * self.shards.take(self.scale, at)[0].unsqueeze(1)

    def _gram(self, x: Tensor) -> Tensor:
        """(B, B) inner products of these scaled rows."""
        return x @ x.T

    def _drift(self, x: Tensor, picked: Tensor) -> tuple[Tensor, Tensor]:
        """What the sum of the picks before each of them has along the axis and apart from it, (T,) each."""
        sums = x[picked].cumsum(0) - x[picked]
        along = sums @ self.axis[0]
        return along, (sums - along.unsqueeze(1) * self.axis).norm(dim=1) + 1e-13 * sums.norm(dim=1)

    def _outside(self, at: Tensor, values: Tensor, floor: Tensor, along: Tensor, apart: Tensor) -> Tensor:
        """(2, T) a bound on the gains outside the rows at (1, B) before each pick, and the lowest row near it."""
        outside = values == -torch.inf
        mark(outside, self.shards.own(at))
        rest = values.masked_fill(outside, -torch.inf)[0]
        penalty = 2 * self.lam * self.factor
        found = torch.empty(2, len(along), dtype=torch.float64, device=at.device)
        step = max(1, 4 * TILE_BYTES // (8 * len(rest)))
        for start in range(0, len(along), step):
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


class ShardedGradientCut(ShardedCut):
    """The same for gradients, whose sums are C x (D + 1) matrices: a pick is folded in by its inner products.

    Attributes:
        gains: (1, m) float64, less the shift of the cosine.
    """

    def __init__(self, shards: Shards, view: GradientSimilarity, lam: float) -> None:
        self.shards, self.view, self.lam = shards, view, lam
        self.block, self.tries = BLOCK, PICKS_A_PASS
        batch = shards.batch(view.device)
        self.cosine = view.metric == "cosine"
        self.factor, self.shift = (0.5, 0.5) if self.cosine else (1.0, 0.0)
        self.scale = view.scale[None]
        inside = (batch.rows[0] >= 0).double()
        total = shards.ranks.sum(view.gradients.weighted_sum(view.scale * inside))
        sums = self.scale * view.gradients.project(total)
        self.gains = self.factor * sums - lam * view.diagonal()
        self.offset = self.shift * batch.sizes.double()
        length, squares = total.norm(), view.norms * self.scale.square()
        self.along = torch.where(length > 0, sums / length, 0.0)
        self.apart = ((squares - self.along.square()).clamp_(min=0) + APART * squares).sqrt()

    def _values(self) -> Tensor:
        return self.gains.clone()

    def _rows(self, at: Tensor) -> Tensor:
        """(B + 1, B) inner products of the scaled rows at (1, B), and below them what each has along the axis."""
        rows = self.view.of(self.shards.rows(self.view, at))  # type: ignore[arg-type]
        scale = self.shards.take(self.scale, at)
        products = rows.products(torch.arange(rows.n, device=at.device)) * scale.mT * scale
        return torch.cat([products, self.shards.take(self.along, at)])

    def _gram(self, x: Tensor) -> Tensor:
        return x[:-1]

    def _drift(self, x: Tensor, picked: Tensor) -> tuple[Tensor, Tensor]:
        """As for features, from inner products: |s|^2 is the sum of those of all picks before."""
        gram, own = x[:-1][picked][:, picked], x[-1][picked]
        along = own.cumsum(0) - own
        new = gram.diagonal() + 2 * gram.tril(-1).sum(1)  # what each pick adds to the squared length
        squared = new.cumsum(0) - new
        lengths = gram.diagonal().sqrt()
        longest = lengths.cumsum(0) - lengths  # at least the length of the sum, and of its rounding
        return along, ((squared - along.square()).clamp(min=0) + APART * longest.square()).sqrt()

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (1, P) into account; -1 is none."""
        for part in positions[:, positions[0] >= 0].split(64, dim=1):
            self.add_external(self.shards.rows(self.view, part))

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (1, n) is true into account."""
        self.add(marked(rows))

    def add_external(self, rows: Outside) -> None:
        """Takes m outside gradients into account."""
        similarity = self.view.external(rows).sum(1) - self.shift * len(rows)  # type: ignore[arg-type]
        self.gains = self.gains - 2 * self.lam * similarity
        self.offset = self.offset - 2 * self.lam * self.shift * len(rows)


class ShardedPairwiseCut(BlockCut):
    """Graph-cut gains under euclidean or rbf similarity, which takes all pairs of rows once."""

    view: Any

    def __init__(self, shards: Shards, view: RowSimilarity, lam: float) -> None:
        super().__init__(lam)
        self.shards, self.view, self.wanted, self.most = shards, view, BLOCK, shards.n
        batch = shards.batch(view.device)
        inside = (batch.rows[0] >= 0).double()
        self.gains = -lam * batch.take(view.diagonal())
        step = max(1, TILE_BYTES // (8 * max(shards.counts)))
        for rank, part, rows in shards.every_row(view, step):
            sums = shards.ranks.sum(inside @ view.external(rows))
            if rank == shards.ranks.rank:
                self.gains[0, part] += sums

    def pick(self, fixed: Tensor, left: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
        """The next picks (1, P) and their gains: see Cut."""
        values = self.gains.masked_fill(self.shards.part(fixed), -torch.inf)
        open_values = values.masked_fill(values == -torch.inf, 0)
        floor = FLOOR * self.shards.ranks.largest(open_values.abs().amax(1))
        while True:
            at, outside, outside_row = self.shards.top(values, max(self.wanted, block or 0), floor)
            most = min(at.shape[1], int(left[0]), self.most)
            limits = (left.clamp(max=most), outside, outside_row, floor)
            state = self.shards.take(values, at)
            picks, gains = graph_cut_block(self.among(at), state, at, *limits, 2 * self.lam, most)
            if int(picks[0, 0]) >= 0:
                return torch.where(picks < 0, -1, at.gather(1, picks.clamp(min=0))), gains
            self.wanted = _larger(self.wanted, self.shards.n)

    def among(self, positions: Tensor) -> Tensor:
        """(1, B, B) similarity of the rows at positions (1, B)."""
        # Machines may round differently: one of them decides.
        return self.shards.ranks.from_rank(0, self.shards.among(self.view, positions))

    def columns(self, positions: Tensor) -> Tensor:
        """(m, P) similarity of the rows of this rank with those at positions (1, P)."""
        return self.shards.columns(self.view, positions)

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (1, P) into account; -1 is none."""
        for part in positions[:, positions[0] >= 0].split(64, dim=1):
            self.gains -= 2 * self.lam * self.columns(part).sum(1)

    def add_external(self, rows: Outside) -> None:
        """Takes m outside rows into account."""
        self.gains -= 2 * self.lam * self.view.external(rows).sum(1)


class ShardedMatrixCut(ShardedPairwiseCut):
    """Graph-cut gains in a given matrix. Where it has negative entries, gains can grow: a pass is one pick."""

    def __init__(self, shards: Shards, view: MatrixRows, lam: float) -> None:
        BlockCut.__init__(self, lam)
        self.shards, self.view = shards, view
        sums = shards.ranks.sum(view.matrix.sum(0, dtype=torch.float64))
        self.gains = (sums[view.own] - lam * view.diagonal())[None]
        negative = float(shards.ranks.largest(-view.matrix.amin())) > 0
        self.wanted, self.most = (FEWEST, 1) if negative else (BLOCK, shards.n)

    def among(self, positions: Tensor) -> Tensor:
        """(1, B, B) similarity of the rows at positions (1, B), the mean of both directions."""
        among = super().among(positions)
        return 0.5 * (among + among.mT)

    def columns(self, positions: Tensor) -> Tensor:
        """(m, P) the same of the rows of this rank with those at positions (1, P)."""
        rows = self.shards.take(self.view.matrix[None], positions)[0]
        return 0.5 * (super().columns(positions) + rows[:, self.view.own].T)


def _larger(block: int, n: int) -> int:
    """The next block, where more rows are tied than one of this size holds."""
    if block >= n:
        raise internal("graph_cut", f"a pass over all {n} rows made no pick")
    return 2 * block


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
