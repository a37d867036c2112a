"""Engines over rows that are read in tiles: few reads of all of them, in float64 where it decides.

Picks are those of the engines over resident rows: every comparison is between float64 values under the same rule.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fastcore.greedy.batches import Batch, FeatureSets, pick, top_block
from fastcore.greedy.coverage import Coverage, FeatureCoverage
from fastcore.greedy.cuts import FLOOR, AxisCut
from fastcore.greedy.directions import with_rest
from fastcore.memory import TILE_BYTES, block_rows, tiles
from fastcore.numerics import UNIT
from fastcore.ops.choice import TIE, choose, tolerance, wins
from fastcore.ops.facility_location_block import similarity_of_products
from fastcore.ops.linear_cut import linear_cut
from fastcore.rows import project
from fastcore.similarity import METRICS, FeatureSimilarity

POOL = 4096
LOCAL_POOL = 512
"""The least of what is fetched for a pass, from the host and from the device itself, where a read costs less."""

SHARE = 16
"""One in so many rows is fetched as a candidate of a pass: a small part of the cost of reading all of them."""

PICKS_A_PASS = 400
CANDIDATES = 1 << 15
"""Rows that a sweep compares with all rows for each read of them."""

GROUP = 16
MARGIN = 1e-9  # of lengths: more than their rounding


class StreamedCut(AxisCut):
    """Graph cut under an inner product: one read of all rows a pass, for which the likely picks are fetched.

    Picks go on among these for as long as no other row can have risen above them: a gain changes by no more
    than the drift of the sum of the picks, along the axis and apart from it, allows (see `linear_cut`).
    """

    def pick(self, fixed: Tensor, left: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
        """The next picks (1, P) and their gains: see Cut."""
        n, width = self.x.shape[1:]
        values = self.factor * self.scale * project(self.x, self.direction) - self.own
        values.masked_fill_(fixed, -torch.inf)
        floor = FLOOR * values.masked_fill(fixed, 0).abs().amax(1)
        wanted = max(LOCAL_POOL if self.x.local else POOL, n // SHARE)
        pool = min(n, block_rows(values.device, 4 * width + 32, min(n, wanted)))
        at = top_block(values, pool, floor)[0].sort(1).values  # so that ties go to the lowest row
        rows, scale = pick(self.x, at), pick(self.scale, at)
        most = min(pool, int(left.max()), block or PICKS_A_PASS)
        along = pick(self.along, at)
        coordinates, error = with_rest(
            along.unsqueeze(1), along.square() + pick(self.apart, at).square(), 2 * UNIT
        )
        penalty = 2 * self.lam * self.factor
        state = (rows, None, scale, coordinates, pick(values, at), left.clamp(max=most), floor)
        new, gains, _ = linear_cut(*state, penalty, error, most)
        picked = pick(rows, new).double() * (pick(scale, new) * (new >= 0)).unsqueeze(2)
        best = gains - TIE * gains.abs() - floor
        beaten = self._outside(values.scatter(1, at, -torch.inf), picked, penalty, best) >= best
        beaten[:, 0] = False  # the pool holds the best row of all
        new = new.masked_fill(beaten.cummax(1).values, -1)
        return torch.where(new < 0, -1, at.gather(1, new.clamp(min=0))), self._shifted(gains)

    def _outside(self, values: Tensor, picked: Tensor, penalty: float, best: Tensor) -> Tensor:
        """(1, P) bounds on the gains of rows outside the pool before each of the picks (1, P, d) in it.

        Only rows that could reach the least of `best` (1, P) at any time are looked at pick by pick.
        """
        sums = torch.nn.functional.pad(picked[:, :-1], (0, 0, 1, 0)).cumsum(1)
        along = (sums @ self.axis.unsqueeze(2)).squeeze(2)
        length = picked.norm(dim=2).cumsum(1)  # at least that of a sum, and of its rounding
        apart = (sums - along.unsqueeze(2) * self.axis.unsqueeze(1)).norm(dim=2) + MARGIN * length
        least, most = along.amin(1, keepdim=True), along.amax(1, keepdim=True)
        drift = self.apart * apart.amax(1) - torch.minimum(self.along * least, self.along * most)
        near = (values + penalty * drift >= best.amin()).nonzero()[:, 1]
        bounds = torch.full_like(along, -torch.inf)
        for part in tiles(len(near), 8 * 4 * along.shape[1], TILE_BYTES, values.device):
            at = near[part]
            rise = penalty * (self.apart[:, at, None] * apart - self.along[:, at, None] * along)
            bounds = torch.maximum(bounds, rise.add_(values[:, at, None]).amax(1))
        return bounds


class StreamedCoverage(FeatureCoverage):
    """Facility location: similarities in float64, those of a block of candidates in one read of all rows."""

    def __init__(self, view: FeatureSimilarity, batch: Batch) -> None:
        Coverage.__init__(self, view, batch)
        self.sets, self.metric = FeatureSets(view, batch), view.metric

    def keep_lists(self, limit: int) -> None:
        """Keeps none: similarities are float64 here, and what costs is the read of all rows for a block."""

    def candidates(self, wanted: int) -> int:
        """Candidates of a pass, at most `wanted`."""
        row_bytes = 8 * self.n + 12 * self.sets.x.shape[2]
        return block_rows(self.coverage.device, row_bytes, min(wanted, self.n))

    def block(self, at: Tensor) -> Tensor:
        """(1, B, n) float64 similarity of the candidates at positions (1, B) with all rows."""
        self.computed += at.numel()
        out = self.coverage.new_empty(*at.shape, self.n)
        for part, similarity in self._compared(at):
            out[:, :, part] = similarity
        return out

    def sweep(self) -> None:
        """Brings the bounds of all candidates up to date: n^2 similarities, with one read for many candidates."""
        bounds = torch.empty_like(self.bounds)
        for some in self._some():
            gains = self.coverage.new_zeros(some.shape)
            for part, similarity in self._compared(some):
                gains += similarity.sub_(self.coverage[:, None, part]).clamp_(min=0).sum(2)
            bounds[:, some[0]] = gains
        self.bounds = bounds.masked_fill_(self.bounds == -torch.inf, -torch.inf)

    def full(self) -> Tensor:
        """(1,) the coverage when all rows are picked."""
        if self.metric != "dot":
            return super().full()
        best = torch.zeros_like(self.coverage)
        for some in self._some():
            for part, similarity in self._compared(some):
                best[:, part] = torch.maximum(best[:, part], similarity.amax(1))
        return best.sum(1)

    def _some(self) -> Iterator[Tensor]:
        width = self.sets.x.shape[2]
        step = block_rows(self.coverage.device, 16 * width, min(self.n, CANDIDATES))
        every = torch.arange(self.n, device=self.coverage.device)
        return (some[None] for some in every.split(step))

    def _compared(self, at: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Similarity (1, B, t) of the candidates at positions (1, B) with t rows at a time."""
        sets, count = self.sets, at.shape[1]
        others, side = pick(sets.x, at).double(), (pick(sets.scale, at), pick(sets.norms, at))
        for part, rows in sets.x.tiles(8 * (others.shape[2] + 3 * count)):  # type: ignore[attr-defined]
            own = sets.scale[:, part], sets.norms[:, part]
            products = others @ rows.double().mT
            yield part, similarity_of_products(products, side, own, METRICS[self.metric], sets.parameter)

    def greedy(
        self, similarity: Tensor, at: Tensor, budgets: Tensor, outside: Tensor, outside_row: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Picks among the candidates at positions (1, B), lazily: see Coverage."""
        coverage, s, floor = self.coverage[0].clone(), similarity[0], float(self.floor[0])
        rows, values = at[0].cpu(), pick(self.bounds, at)[0].cpu()
        limits = float(outside[0]), int(outside_row[0]), floor
        picks, gains = rows.new_full((1, most), -1), values.new_zeros(1, most)
        evaluated = 0
        for t in range(int(budgets[0])):
            fresh = torch.full_like(values, -torch.inf)
            known = values == -torch.inf
            while True:
                best = float(fresh.max())
                rivals = (~known & (values >= best - tolerance(best, floor))).nonzero()[:, 0]
                if len(rivals) == 0:
                    break
                some = rivals[values[rivals].sort(descending=True, stable=True).indices[:GROUP]]
                excess = s[some.to(s.device)].sub_(coverage).clamp_(min=0)
                fresh[some] = values[some] = excess.sum(1).cpu()
                known[some] = True
                evaluated += len(some)
            p = choose(fresh, rows, floor)
            if p is None or not wins(fresh, p, int(rows[p]), *limits):
                break
            picks[0, t], gains[0, t] = p, fresh[p]
            coverage = torch.maximum(coverage, s[p])
            values[p] = -torch.inf
        device = self.coverage.device
        bounds = self.bounds.scatter(1, at, values[None].to(device))
        counts = torch.tensor([[0, evaluated]], device=device)
        return picks.to(device), gains.to(device), counts, (coverage[None], bounds)
