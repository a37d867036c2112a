"""What ranks do together for facility location: pick among some candidates, and keep lists of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastcore.distributed.communication import Ranks
from fastcore.greedy.active_lists import ActiveLists
from fastcore.greedy.lazy_block import LazyBlock
from fastcore.ops.coverage_gains import coverage_gains

if TYPE_CHECKING:
    from fastcore.distributed.coverage import CoverageOverRanks


class LazyBlockOverRanks(LazyBlock):
    """The lazy greedy over the rows of all ranks, which all do the same, for they see the same sums.

    One collective serves all gains that are bounded or measured at once, and a letter holds 480.

    Attributes:
        coverage: (1, m) of the rows of this rank.
    """

    def __init__(self, state: CoverageOverRanks, similarity: Tensor, rows: Tensor, upper: Tensor) -> None:
        super().__init__(rows, upper, float(state.floor[0]))
        self.state, self.similarity, self.coverage = state, similarity, state.coverage.clone()
        self._columns: dict[int, tuple[Tensor, Tensor]] = {}

    def gains_at_most(self, some: Tensor) -> Tensor:
        """(b,) float64 bounds on the gains of candidates at places (b,), on the CPU."""
        state = self.state
        above = coverage_gains(self._of(some)[None], self.coverage - state.error)[0]
        total: Tensor = state.ranks.sum(above.cpu())
        return total

    def gains(self, some: Tensor) -> Tensor:
        """(b,) float64 gains of candidates at places (b,), whose columns are kept where they matter."""
        state, similarity = self.state, self._of(some)
        matters = (similarity.double() > self.coverage - state.error).any(0)
        among = (matters if state.selective() else torch.ones_like(matters)).nonzero()[:, 0]
        exact = state.exact(self.rows[some].to(among.device), similarity, among)
        gains = (exact - self.coverage[0, among, None]).clamp_(min=0).sum(0)
        self._columns |= {p: (among, column) for p, column in zip(some.tolist(), exact.T, strict=True)}
        total: Tensor = state.ranks.sum(gains.cpu())
        return total

    def cover(self, place: int) -> None:
        """Takes the pick at a place, whose gain was measured, into account."""
        among, column = self._columns[place]
        self.coverage[0, among] = torch.maximum(self.coverage[0, among], column)
        self._columns.clear()

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
