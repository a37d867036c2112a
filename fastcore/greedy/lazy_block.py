"""The lazy greedy of facility location among some candidates, where the host decides from step to step."""

from __future__ import annotations

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
