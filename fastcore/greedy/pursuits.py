"""The state of a matching pursuit: what is known of the rows, and of the picks.

With the products of all rows with every pick at hand, a pick is one pass over them; where they do not fit,
correlations are taken through the sum of the weighted picks, and only the picks have a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fastcore.gradients import LastLayerGradients
from fastcore.greedy.batches import Batch, mark, marked, pick
from fastcore.greedy.couplings import Couplings, ValidationRows, taken_rows
from fastcore.greedy.picks import Counter, PickList
from fastcore.memory import readable
from fastcore.ops import matching_pursuit as op
from fastcore.ops.choice import choose
from fastcore.ops.squared_norms import squared_norms

STEPS_A_CALL = 64
NOTHING = 1e-6  # a correlation, as a share of |b| max |g|
SETTLED = 1e-9  # that of a picked row without a weight, likewise
ROUNDING = 1e-12  # likewise


@dataclass
class Problem:
    """What is asked of the ground sets of one batch.

    Attributes:
        delta, h: (G, n, C) and (G, n, D) float32, zeros for padding, which `closed` (G, n) marks.
        target: (G, n) products of all rows with b; energy: (G,) |b|^2.
        limits: (G, 5), see the op.
    """

    delta: Tensor
    h: Tensor
    closed: Tensor
    target: Tensor
    energy: Tensor
    limits: Tensor

    def unlimited(self) -> Tensor:
        """The limits without a threshold and without an end."""
        limits = self.limits.clone()
        limits[:, 1], limits[:, 4] = -torch.inf, torch.inf
        return limits


def problem_of(
    gradients: LastLayerGradients,
    batch: Batch,
    validation: tuple[LastLayerGradients, ValidationRows] | None,
    lam: float,
    stop_at: float | None,
) -> Problem:
    """The problem of the ground sets of one batch."""
    delta, h = batch.take(gradients.delta), batch.take(gradients.h)
    sizes = batch.sizes.unsqueeze(1)
    norms = squared_norms(delta) * (1 + squared_norms(h))
    if validation is None:
        target = Couplings(h, h).against(delta, delta) / sizes
        energy = (target / sizes).sum(1)
    else:
        given, rows = validation[0].to(gradients.device), validation[1].of(batch.sets)
        y, e = taken_rows(given.h, rows), taken_rows(given.delta, rows)
        counts = (rows >= 0).sum(1, keepdim=True).to(gradients.device)
        target = Couplings(h, y).against(e, delta) / counts
        energy = (Couplings(y, y).against(e, e) / counts.square()).sum(1)
    energy.clamp_(min=0)
    limits = limits_of(energy, norms.amax(1), norms.sum(1) / batch.sizes, lam, stop_at)
    return Problem(delta, h, batch.rows < 0, target, energy, limits)


def limits_of(energy: Tensor, largest: Tensor, mean: Tensor, lam: float, stop_at: float | None) -> Tensor:
    """(G, 5) limits of the op, from |b|^2, the largest and the mean |g|^2, (G,) each."""
    scale = (energy * largest).sqrt()
    enough = energy * (1 - stop_at) if stop_at is not None else torch.full_like(scale, torch.inf)
    return torch.stack([lam * mean, NOTHING * scale, SETTLED * scale, ROUNDING * scale, enough], 1)


class State:
    """The op's state over some rows of one batch, and the calls until a budget is spent."""

    def __init__(self, delta: Tensor, h: Tensor, target: Tensor, capacity: int) -> None:
        sets, n = target.shape
        self.delta, self.h, self.target, self.steps = delta, h, target, 0
        self.correlations = target.clone()
        self.taken = torch.ones(sets, n, dtype=torch.uint8, device=target.device)
        self.columns = target.new_zeros(sets, capacity, n)
        self.whitener = target.new_zeros(sets, capacity, capacity)
        self.picks = torch.full((sets, capacity), -1, dtype=torch.int64, device=target.device)
        self.gains, self.weights = target.new_zeros(sets, capacity), target.new_zeros(sets, capacity)

    def run(self, limits: Tensor, budgets: Tensor, progress: Counter | None = None) -> None:
        """Takes steps until the sets have as many picks as `budgets` (G,) says, or can have no more."""
        limits, patience, count = limits.clone(), 10 * self.picks.shape[1], int((self.picks >= 0).sum())
        made = STEPS_A_CALL
        while made == STEPS_A_CALL:
            given = (self.delta, self.h, self.target, limits, budgets, self.taken, self.correlations)
            state = (self.columns, self.whitener, self.picks, self.gains, self.weights)
            made = int(op.matching_pursuit(*given, *state, STEPS_A_CALL).max())
            self.steps += made
            patience -= made
            if patience < 0:  # rows that come and go by rounding: none comes back for so little any more
                limits[:, 2], patience = limits[:, 2] * 1e3, 10 * self.picks.shape[1]
            before, count = count, int((self.picks >= 0).sum())
            if progress is not None:
                progress.update(count - before)


class Tabled:
    """Pursuit with the products of all rows with each pick at hand.

    Attributes:
        closed: (G, n) true for rows that may not be picked.
        before: (G,) rows that are there before all picks.
    """

    def __init__(self, problem: Problem, capacity: int) -> None:
        self.problem, self.closed = problem, problem.closed.clone()
        self.before = torch.zeros_like(problem.closed[:, 0], dtype=torch.int64)
        self.state = State(problem.delta, problem.h, problem.target, capacity)

    @property
    def positions(self) -> Tensor:
        """(G, capacity) where in the sets the picks are."""
        return self.state.picks

    @property
    def correlations(self) -> Tensor:
        """(G, n) of all rows."""
        return self.state.correlations

    @property
    def steps(self) -> int:
        """Steps that were made."""
        return self.state.steps

    def take(self, chosen: Tensor) -> None:
        """Puts the rows where `chosen` (G, n) is true before all picks."""
        self.before, self.closed = chosen.sum(1), self.closed | chosen
        if bool(chosen.any()):
            self.state.taken = (~chosen).byte()
            self.state.run(self.problem.unlimited(), self.before)

    def pick(self, budgets: Tensor, progress: Counter | None) -> None:
        """Makes picks until the budgets (G,) are spent, or none correlates any more."""
        self.state.taken = self.closed.byte()
        self.state.run(self.problem.limits, self.before + budgets, progress)
        mark(self.closed, self.positions)

    def explained(self) -> Tensor:
        """(G,) |b|^2 - |b - sum w g|^2."""
        w, ridge = self.state.weights, self.problem.limits[:, :1]
        return (w * (pick(self.state.target, self.state.picks) + ridge * w)).sum(1)

    def results(self, made: PickList) -> Tensor:
        """Adds the picks to a list, ranks the rest of the budget, and returns the weights of all (G, most)."""
        most, count = made.positions.shape[1], (self.positions >= 0).sum(1)
        at = self.before.unsqueeze(1) + torch.arange(most, device=count.device)
        valid, at = at < count.unsqueeze(1), at.clamp(max=self.positions.shape[1] - 1)
        made.append(torch.where(valid, self.positions.gather(1, at), -1), self.state.gains.gather(1, at))
        missing = made.left * (self.explained() < self.problem.limits[:, 4])
        if bool((missing > 0).any()):
            rest, _, gains = self.ranked(int(missing.max()))
            within = torch.arange(rest.shape[1], device=rest.device) < missing.unsqueeze(1)
            made.append(torch.where(within, rest, -1), gains)
        return self.state.weights.gather(1, at) * valid

    def ranked(self, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (G, most) by <g, b>, the rank of each, larger is better, and the correlations."""
        step = self.problem.limits[:, 3:4].clamp(min=torch.finfo(torch.float64).tiny)
        worth = (self.problem.target / step).round().masked_fill(self.closed, -torch.inf)
        rest = worth.argsort(dim=1, descending=True, stable=True)[:, :most]
        return rest, pick(worth, rest), pick(self.correlations, rest)

    def preselected(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Row numbers and weights of the rows that were there before."""
        first = torch.arange(self.positions.shape[1], device=self.before.device) < self.before.unsqueeze(1)
        first &= self.positions >= 0
        return batch.numbers(self.positions)[first], self.state.weights[first]


class FewRows(NamedTuple):
    """What the table of the picks takes: factors (P, C) and (P, D), <g, b> and correlations (P,)."""

    delta: Tensor
    h: Tensor
    target: Tensor
    correlations: Tensor


class Streamed(Tabled):
    """Pursuit in one ground set with a table for the picks alone."""

    def __init__(self, problem: Problem, capacity: int) -> None:
        super().__init__(problem, 0)
        delta, h = (source.new_zeros(1, capacity, source.shape[2]) for source in (problem.delta, problem.h))
        self.state = State(delta, h, problem.target.new_zeros(1, capacity), capacity)
        self._positions = torch.full_like(self.state.picks, -1)
        self._correlations = problem.target.clone()

    @property
    def positions(self) -> Tensor:
        return self._positions.gather(1, self.state.picks.clamp(min=0)).masked_fill(self.state.picks < 0, -1)

    @property
    def correlations(self) -> Tensor:
        return self._correlations

    def take(self, chosen: Tensor) -> None:
        self.before = chosen.sum(1)
        if bool(chosen.any()):
            at = marked(chosen)[0]
            self._add(at, self._rows(at))

    def pick(self, budgets: Tensor, progress: Counter | None) -> None:
        for _ in range(int(budgets[0])):
            best = self._best()
            if best is None:
                break
            self._add(*best)
            if progress is not None:
                progress.update(1)

    def _rows(self, at: Tensor) -> FewRows:
        """What the table must know of the rows at positions (P,)."""
        numbers = self.problem.target[0, at], self._correlations[0, at]
        return FewRows(self.problem.delta[0, at], self.problem.h[0, at], *numbers)

    def _largest(self) -> tuple[int | None, float]:
        """The open row that correlates most, and the largest correlation; they may differ by a tie."""
        values = self._correlations[0].masked_fill(self.closed[0], -torch.inf)
        rows = torch.arange(len(values), device=values.device)
        return choose(values, rows, float(self.problem.limits[0, 3])), float(values.max())

    def _best(self) -> tuple[Tensor, FewRows] | None:
        """The position (1,) of the next pick, and its row; None where there is none."""
        p, value = self._largest()
        ends = bool(self.explained() >= self.problem.limits[0, 4])
        if p is None or ends or value <= self.problem.limits[0, 1]:
            return None
        at = torch.tensor([p], device=self.closed.device)
        return at, self._rows(at)

    def _add(self, at: Tensor, rows: FewRows) -> None:
        """Takes the rows at positions (P,) into the table of the picks, and weighs all anew."""
        state = self.state
        first = int((state.picks >= 0).sum())
        new = slice(first, first + len(at))
        self._positions[0, new] = at
        state.delta[0, new], state.h[0, new], state.target[0, new], state.correlations[0, new] = rows
        state.taken[0, new] = 0
        delta, h = (factor[0, state.picks[0, :first]].double() for factor in (state.delta, state.h))
        along, across = delta @ rows.delta.double().T, h @ rows.h.double().T
        state.columns[0, :first, new] = along * (1 + across)  # what the columns of the earlier picks lack
        state.run(self.problem.unlimited(), self.before.new_tensor([new.stop]))
        self._close(at[None])
        self._correlations = self.problem.target - self._sums(new)

    def _close(self, positions: Tensor) -> None:
        mark(self.closed, positions)

    def _sums(self, new: slice) -> Tensor:
        """(1, n) products of all rows with the weighted sum of the picks; those in `new` were not there before."""
        state = self.state
        active = state.weights[0] > 0
        w, which = state.weights[:, active], state.picks[0, active]
        weighted = state.delta[:, which] * w.unsqueeze(2)
        return Couplings(self.problem.h, state.h[:, which]).against(weighted, self.problem.delta)


def fitting(problem: Problem, capacity: int, limit: int) -> Tabled:
    """The pursuit that memory suffices for, with room for so many picks; MemoryError where there is none."""
    sets, n = problem.target.shape
    if sets > 1 or 8 * capacity * (n + capacity) <= limit:
        return Tabled(problem, capacity)
    check_memory(capacity, limit)
    return Streamed(problem, capacity)


def check_memory(capacity: int, limit: int) -> None:
    """Raises MemoryError where the tables of the picks take more than `limit` bytes."""
    needed = 16 * capacity * capacity
    if needed > limit:
        raise MemoryError(
            f"gradmatch keeps two tables of {capacity} x {capacity} float64 numbers, {readable(needed)}, and "
            f"{readable(limit)} are allowed: lower k, or raise memory"
        )
