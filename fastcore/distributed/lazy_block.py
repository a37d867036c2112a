"""What ranks do together for facility location: pick among some candidates, and keep lists of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastcore.distributed.communication import Ranks
from fastcore.greedy.active_lists import ActiveLists
from fastcore.ops.choice import choose, tolerance, wins
from fastcore.ops.coverage_gains import coverage_gains

if TYPE_CHECKING:
    from fastcore.distributed.coverage import CoverageOverRanks

FEWEST, LARGEST = 64, 480
"""Gains that are bounded at once: one collective serves all of them, and a letter holds so many."""

EXACT = 8
"""Gains that are measured in float64 at once, at first."""


class LazyBlock:
    """The lazy greedy among some candidates: bounds from float32 similarities, and float64 where they cannot tell.

    All ranks do the same, for they see the same sums.

    Attributes:
        coverage: (1, m) of the rows of this rank.
        upper: (B,) bounds on the gains, on the CPU, -inf for what cannot be picked.
        evaluated, refined: gains that were bounded and measured.
    """

    def __init__(self, state: CoverageOverRanks, similarity: Tensor, rows: Tensor, upper: Tensor) -> None:
        self.state, self.similarity, self.rows, self.upper = state, similarity, rows, upper
        self.coverage, self.floor = state.coverage.clone(), float(state.floor[0])
        self.evaluated = self.refined = 0

    def best(self, outside: float, outside_row: int) -> tuple[int, float] | None:
        """The next pick, as a place in the block, and its gain; None where a row outside could be better."""
        exact = torch.full_like(self.upper, -torch.inf)
        fresh = torch.zeros_like(self.upper, dtype=torch.bool)
        evaluate, refine = FEWEST, EXACT
        columns: dict[int, tuple[Tensor, Tensor]] = {}
        while True:
            largest = float(self.upper.max())
            if largest == -torch.inf or largest + tolerance(largest, self.floor) < outside:
                return None
            best = float(exact.max())
            bar = best - tolerance(best, self.floor)
            rivals = (exact == -torch.inf) & (self.upper > -torch.inf) & (self.upper >= bar)
            top = self.upper.where(rivals, -torch.inf).topk(min(evaluate, len(rivals))).indices
            top = top[rivals[top]]
            if not len(top):
                break
            if not fresh[top[0]]:
                self._evaluate(top[~fresh[top]])
                fresh[top] = True
                evaluate = min(2 * evaluate, LARGEST)
            else:
                # Those after the first of its bound may be below what it turns out to add.
                some = top[fresh[top]][:refine]
                some = some if columns else some[self.upper[some] == self.upper[some[0]]]
                exact[some] = self.upper[some] = self._refine(some, columns)
                refine = min(2 * refine, LARGEST)
        p = choose(exact, self.rows, self.floor)
        if p is None or not wins(exact, p, int(self.rows[p]), outside, outside_row, self.floor):
            return None
        gain = float(exact[p])
        among, column = columns[p]
        self.coverage[0, among] = torch.maximum(self.coverage[0, among], column)
        self.upper[p] = -torch.inf
        return p, gain

    def _evaluate(self, some: Tensor) -> None:
        """Takes new bounds on the gains of candidates at places (b,)."""
        state = self.state
        above = coverage_gains(self._of(some)[None], self.coverage - state.error)[0]
        self.upper[some] = torch.minimum(self.upper[some], state.ranks.sum(above.cpu()))
        self.evaluated += len(some)

    def _refine(self, some: Tensor, columns: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
        """(b,) float64 gains of the candidates at places (b,), whose columns are kept where they matter."""
        state, similarity = self.state, self._of(some)
        matters = (similarity.double() > self.coverage - state.error).any(0)
        among = (matters if state.selective() else torch.ones_like(matters)).nonzero()[:, 0]
        exact = state.exact(self.rows[some].to(among.device), similarity, among)
        gains = (exact - self.coverage[0, among, None]).clamp_(min=0).sum(0)
        columns |= {p: (among, column) for p, column in zip(some.tolist(), exact.T, strict=True)}
        self.refined += len(some)
        measured: Tensor = state.ranks.sum(gains.cpu())
        return measured

    def _of(self, some: Tensor) -> Tensor:
        return self.similarity.index_select(0, some.to(self.similarity.device))


class ListsOverRanks(ActiveLists):
    """Lists of the rows of this rank: a candidate has one where every rank has room for its part.

    What is known of candidates is on the CPU, as their bounds are.
    """

    def __init__(self, ranks: Ranks, n: int, room: int, device: torch.device) -> None:
        super().__init__(n, room, device)
        self.ranks = ranks
        self._known, self._fresh = torch.zeros(2, n, dtype=torch.bool)

    def listed(self, at: Tensor) -> Tensor:
        """(B,) whether the candidates at positions (B,) have a list on every rank."""
        known: Tensor = self._known[at.cpu()]
        return known.to(at.device)

    def _agreed(self, at: Tensor, fits: Tensor) -> Tensor:
        fits = self.ranks.gather(fits.byte()).amin(0).bool()
        self._known[at[fits].cpu()] = True
        return fits

    def _bounds(self, at: Tensor, coverage: Tensor, error: float) -> Tensor:
        own = super()._bounds(at.to(coverage.device), coverage, error)
        total: Tensor = self.ranks.sum(own.cpu())
        return total
