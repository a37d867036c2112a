"""The lazy greedy of facility location among some candidates, where the host decides from step to step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastcore.ops.choice import choose, tolerance, wins


class LazyBlock:
    """Bounds on gains from float32 similarities, and float64 where they cannot tell.

    Attributes:
        rows: (B,) row numbers of the candidates, on the CPU as all that is known of them.
        upper: (B,) bounds on the gains, -inf for what cannot be picked.
        evaluated, refined: gains that were bounded and measured.
    """

    bounded_at_once = (64, 480)
    """Gains that are bounded together: at first, and at most."""

    measured_at_once = (8, 480)
    """Gains that are measured together, once the most promising is."""

    def __init__(self, rows: Tensor, upper: Tensor, floor: float) -> None:
        self.rows, self.upper, self.floor = rows, upper, floor
        self.evaluated = self.refined = 0

    def gains_at_most(self, some: Tensor) -> Tensor:
        """(b,) float64 bounds on the gains of candidates at places (b,), on the CPU."""
        raise NotImplementedError

    def gains(self, some: Tensor) -> Tensor:
        """(b,) float64 gains of candidates at places (b,), on the CPU."""
        raise NotImplementedError

    def cover(self, place: int) -> None:
        """Takes the pick at a place, whose gain was measured, into account."""
        raise NotImplementedError

    def greedy(
        self,
        budget: int,
        most: int,
        outside: Tensor,
        outside_row: Tensor,
        enough: Callable[[Tensor], bool] = lambda gains: False,
    ) -> tuple[Tensor, Tensor]:
        """The next picks (1, most), as places in the block, -1 after the last, and their gains (1, most).

        They end with the budget, where a row outside could be better, and where the gains so far are `enough`.
        """
        limits = float(outside[0]), int(outside_row[0])
        picks, gains = self.rows.new_full((1, most), -1), self.upper.new_zeros(1, most)
        for t in range(budget):
            best = None if enough(gains) else self.best(*limits)
            if best is None:
                break
            picks[0, t], gains[0, t] = best
        return picks, gains

    def best(self, outside: float, outside_row: int) -> tuple[int, float] | None:
        """The next pick, as a place in the block, and its gain; None where a row outside could be better."""
        exact = torch.full_like(self.upper, -torch.inf)
        fresh = torch.zeros_like(self.upper, dtype=torch.bool)
        (bounded, most), (measured, most_measured) = self.bounded_at_once, self.measured_at_once
        while True:
            largest = float(self.upper.max())
            if largest == -torch.inf or largest + tolerance(largest, self.floor) < outside:
                return None
            best = float(exact.max())
            bar = best - tolerance(best, self.floor)
            rivals = (exact == -torch.inf) & (self.upper > -torch.inf) & (self.upper >= bar)
            top = self.upper.where(rivals, -torch.inf).topk(min(bounded, len(rivals))).indices
            top = top[rivals[top]]
            if not len(top):
                break
            if not fresh[top[0]]:
                some = top[~fresh[top]]
                self.upper[some] = torch.minimum(self.upper[some], self.gains_at_most(some))
                self.evaluated += len(some)
                fresh[top] = True
                bounded = min(2 * bounded, most)
            else:
                # Those after the first of its bound may be below what it turns out to add.
                some = top[fresh[top]][:measured]
                some = some if best > -torch.inf else some[self.upper[some] == self.upper[some[0]]]
                exact[some] = self.upper[some] = self.gains(some)
                self.refined += len(some)
                measured = min(2 * measured, most_measured)
        p = choose(exact, self.rows, self.floor)
        if p is None or not wins(exact, p, int(self.rows[p]), outside, outside_row, self.floor):
            return None
        gain = float(exact[p])
        self.cover(p)
        self.upper[p] = -torch.inf
        return p, gain
