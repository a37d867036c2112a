"""Judging the picks of an engine, step by step, given its own prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.oracle import Problem


class Judgement:
    """Picks against the float64 argmax at every step, given their own prefix.

    gaps[t]   how far the pick is below the candidates that are tied with the best, relative to the best
    same[t]   the pick is the row that the tie rule names
    gains[t]  the gain the oracle gives to the pick
    """

    def __init__(self, problem: Problem, picks: Sequence[int], skip: int = 0, every: int = 1) -> None:
        self.gaps, self.same, self.gains, self.steps = [], [], [], []
        for step, row in enumerate(int(p) for p in picks):
            if step >= skip and step % every == 0:
                wanted, _ = problem.choose()
                values = problem.values()
                best, value = float(values.max()), float(values[row])
                short = best - value - problem.tolerance(best) if np.isfinite(best) else 0.0
                self.gaps.append(max(0.0, short) / max(abs(best), 1e-300))
                self.same.append(wanted == row)
                self.gains.append(problem.gain(row, value))
                self.steps.append(step)
            problem.add(row)

    def check(self, label: str, gap: float = 1e-5, share: float = 0.999) -> None:
        """Fail, with the step, unless picks are within `gap` of the best and a `share` is the argmax."""
        if not self.gaps:
            return
        worst = int(np.argmax(self.gaps))
        assert self.gaps[worst] <= gap, (
            f"{label}: step {self.steps[worst]} is {self.gaps[worst]:.3g} below the best"
        )
        wrong = [step for step, same in zip(self.steps, self.same, strict=True) if not same]
        allowed = int((1 - share) * len(self.same))
        assert len(wrong) <= allowed, (
            f"{label}: {len(wrong)} of {len(self.same)} picks differ, first at step {wrong[0]}"
        )
