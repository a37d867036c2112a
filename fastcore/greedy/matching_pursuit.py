"""Matching pursuit: picks and weights whose gradients add up to the mean gradient of a ground set.

Rows correlate with what the weighted picks leave of that mean; the row that correlates most is picked, and all
weights are found anew. With the products of all rows with every pick at hand, a pick is one pass over them; where
they do not fit, correlations are taken through the sum of the weighted picks, and only the picks have a table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.batches import BATCH_BYTES, Batch, batches, mark, marked, pick, row_mask
from fastcore.greedy.couplings import Couplings, ValidationRows, taken_rows
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.memory import readable, spare_bytes
from fastcore.numerics import full_precision
from fastcore.ops import matching_pursuit as op
from fastcore.ops.choice import choose
from fastcore.ops.squared_norms import squared_norms

STEPS_A_CALL = 64
NOTHING = 1e-6  # a correlation, as a share of |b| max |g|
SETTLED = 1e-9  # that of a picked row without a weight, likewise
ROUNDING = 1e-12  # likewise


@full_precision()
def matching_pursuit(
    gradients: LastLayerGradients,
    partition: Partition,
    *,
    validation: tuple[LastLayerGradients, Tensor] | None = None,
    lam: float = 1e-3,
    stop_at: float | None = None,
    preselected: Tensor | None = None,
    memory: int | None = None,
    progress: Counter | None = None,
) -> Picks:
    """Orthogonal matching pursuit with weights w >= 0 for the mean gradient b of every ground set.

    b is the mean over the ground set, or over its validation rows (gradients, and the
    ground set (m,) of each). The weights minimise
    |b - sum w g|^2 + lam * mean |g|^2 * |w|^2; a gain is the correlation <g, b - sum w g> of the pick. Picks end
    with the budget, or where |b - sum w g|^2 <= stop_at |b|^2. Once no correlation is above 1e-6 |b| max |g|, the
    rest of the budget is ranked by <g, b> and weighs nothing. Preselected rows are weighed first, and with all
    others after each pick.

    Picks.weights add up to 1: the share of a ground set is in proportion to its rows, and times info["scale"] (one
    for each ground set) they are w. info also has "active", the number of positive ones, "residual",
    |b - sum w g| / |b| of each ground set, and "preselected_weights", as w. Cost of a pick: n (C + D + picks)
    and 8 n k bytes, or where these pass `memory`, (n + picks) C D and 16 k^2 bytes; MemoryError if need be.
    """
    out, device = Collector(partition), gradients.device
    limit = spare_bytes(device) if memory is None else memory
    mask = None if preselected is None else row_mask(preselected, gradients.n, device)
    most = int(partition.budgets.max()) + (0 if preselected is None else len(preselected))
    weights = torch.zeros(out.rows.shape, dtype=torch.float64, device="cpu")
    earlier = torch.zeros(gradients.n, dtype=torch.float64, device="cpu")
    residual = torch.zeros(partition.sets, dtype=torch.float64, device="cpu")
    held = None if validation is None else (validation[0], ValidationRows(validation[1], partition.sets))
    row_bytes = 4 * (gradients.classes + gradients.width) + 16 * most
    for batch in batches(partition, device, row_bytes, min(BATCH_BYTES, limit)):
        problem = _Problem(gradients, batch, held, lam, stop_at)
        chosen = torch.zeros_like(problem.closed) if mask is None else batch.take(mask)
        run = _fitting(problem, int((batch.budgets + chosen.sum(1)).max()), limit)
        run.take(chosen)
        run.pick(batch.budgets, progress)
        made = PickList(batch)
        weights[batch.sets, : made.positions.shape[1]] = run.results(made).cpu()
        out.add(batch, made)
        numbers, w = (t.cpu() for t in run.preselected(batch))
        earlier[numbers] = w
        residual[batch.sets] = (1 - run.explained() / problem.energy).clamp(min=0).nan_to_num(0).sqrt().cpu()
        out.count(steps=run.state.steps)
    picks = out.picks()
    picks.weights, scale = _shares(weights, out.rows >= 0, partition.sizes)
    one = partition.sets == 1
    picks.info["active"] = int((weights > 0).sum())
    picks.info["scale"] = float(scale) if one else scale.tolist()
    picks.info["residual"] = float(residual) if one else residual.tolist()
    if preselected is not None:
        picks.info["preselected_weights"] = earlier[preselected.cpu()].tolist()
    return picks


def _shares(weights: Tensor, picked: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (sets, most) whose sum is 1, and the factors (sets,) that make them the old ones.

    The sum of a ground set is in proportion to its rows, among those with picks. Where all weights are 0, picks
    share alike, and the factor is 0.
    """
    total = weights.sum(1)
    relative = torch.where((total > 0)[:, None], weights, picked.double())
    share = sizes.double() * picked.any(1)
    share /= share.sum()
    relative *= (share / relative.sum(1).clamp(min=torch.finfo(torch.float64).tiny))[:, None]
    return relative, torch.where(share > 0, total / share, 0.0)


class _Problem:
    """What is asked of the ground sets of one batch.

    Attributes:
        delta, h: (G, n, C) and (G, n, D) float32, zeros for padding, which `closed` (G, n) marks.
        target: (G, n) products of all rows with b; energy: (G,) |b|^2.
        limits: (G, 5), see the op.
    """

    def __init__(
        self,
        gradients: LastLayerGradients,
        batch: Batch,
        validation: tuple[LastLayerGradients, ValidationRows] | None,
        lam: float,
        stop_at: float | None,
    ) -> None:
        self.delta, self.h = batch.take(gradients.delta), batch.take(gradients.h)
        self.closed = batch.rows < 0
        sizes = batch.sizes.unsqueeze(1)
        norms = squared_norms(self.delta) * (1 + squared_norms(self.h))
        if validation is None:
            self.target = Couplings(self.h, self.h).against(self.delta, self.delta) / sizes
            self.energy = (self.target / sizes).sum(1)
        else:
            given, rows = validation[0].to(gradients.device), validation[1].of(batch.sets)
            h, delta = taken_rows(given.h, rows), taken_rows(given.delta, rows)
            counts = (rows >= 0).sum(1, keepdim=True).to(gradients.device)
            self.target = Couplings(self.h, h).against(delta, self.delta) / counts
            self.energy = (Couplings(h, h).against(delta, delta) / counts.square()).sum(1)
        self.energy.clamp_(min=0)
        scale = (self.energy * norms.amax(1)).sqrt()
        enough = self.energy * (1 - stop_at) if stop_at is not None else torch.full_like(scale, torch.inf)
        factors = (NOTHING * scale, SETTLED * scale, ROUNDING * scale, enough)
        self.limits = torch.stack([lam * norms.sum(1) / batch.sizes, *factors], 1)

    def unlimited(self) -> Tensor:
        """The limits without a threshold and without an end."""
        limits = self.limits.clone()
        limits[:, 1], limits[:, 4] = -torch.inf, torch.inf
        return limits


class _State:
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


class _Tabled:
    """Pursuit with the products of all rows with each pick at hand."""

    def __init__(self, problem: _Problem, capacity: int) -> None:
        self.problem, self.closed = problem, problem.closed.clone()
        self.before = torch.zeros_like(problem.closed[:, 0], dtype=torch.int64)
        self.state = _State(problem.delta, problem.h, problem.target, capacity)

    @property
    def positions(self) -> Tensor:
        """(G, capacity) where in the sets the picks are."""
        return self.state.picks

    @property
    def correlations(self) -> Tensor:
        """(G, n) of all rows."""
        return self.state.correlations

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
            closed = self.closed.clone()
            mark(closed, self.positions)
            step = self.problem.limits[:, 3:4].clamp(min=torch.finfo(torch.float64).tiny)
            worth = (self.problem.target / step).round().masked_fill(closed, -torch.inf)
            rest = worth.argsort(dim=1, descending=True, stable=True)[:, : int(missing.max())]
            within = torch.arange(rest.shape[1], device=rest.device) < missing.unsqueeze(1)
            made.append(torch.where(within, rest, -1), pick(self.correlations, rest))
        return self.state.weights.gather(1, at) * valid

    def preselected(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Row numbers and weights of the rows that were there before."""
        first = torch.arange(self.positions.shape[1], device=self.before.device) < self.before.unsqueeze(1)
        first &= self.positions >= 0
        return batch.numbers(self.positions)[first], self.state.weights[first]


class _Streamed(_Tabled):
    """Pursuit in one ground set with a table for the picks alone."""

    def __init__(self, problem: _Problem, capacity: int) -> None:
        super().__init__(problem, 0)
        delta, h = (source.new_zeros(1, capacity, source.shape[2]) for source in (problem.delta, problem.h))
        self.state = _State(delta, h, problem.target.new_zeros(1, capacity), capacity)
        self._positions = torch.full_like(self.state.picks, -1)
        self._correlations = problem.target.clone()

    @property
    def positions(self) -> Tensor:
        return self._positions.gather(1, self.state.picks.clamp(min=0)).masked_fill(self.state.picks < 0, -1)

    @property
    def correlations(self) -> Tensor:
        return self._correlations

    def take(self, chosen: Tensor) -> None:
        self.before, self.closed = chosen.sum(1), self.closed | chosen
        if bool(chosen.any()):
            self._add(marked(chosen)[0])

    def pick(self, budgets: Tensor, progress: Counter | None) -> None:
        closed, floor = self.closed[0].clone(), float(self.problem.limits[0, 3])
        rows = torch.arange(len(closed), device=closed.device)
        for _ in range(int(budgets[0])):
            values = self._correlations[0].masked_fill(closed, -torch.inf)
            p = choose(values, rows, floor)
            ends = bool(self.explained() >= self.problem.limits[0, 4])
            if p is None or ends or values.max() <= self.problem.limits[0, 1]:
                break
            closed[p] = True
            self._add(rows[p : p + 1])
            if progress is not None:
                progress.update(1)

    def _add(self, at: Tensor) -> None:
        """Takes the rows at positions (P,) into the table of the picks, and weighs all anew."""
        state, problem = self.state, self.problem
        first = int((state.picks >= 0).sum())
        new = slice(first, first + len(at))
        self._positions[0, new] = at
        state.delta[0, new], state.h[0, new] = problem.delta[0, at], problem.h[0, at]
        state.target[0, new] = problem.target[0, at]
        state.correlations[0, new] = self._correlations[0, at]
        state.taken[0, new] = 0
        delta, h = (factor[0, state.picks[0, :first]].double() for factor in (state.delta, state.h))
        along, across = delta @ problem.delta[0, at].double().T, h @ problem.h[0, at].double().T
        state.columns[0, :first, new] = along * (1 + across)  # what the columns of the earlier picks lack
        state.run(problem.unlimited(), self.before.new_tensor([new.stop]))
        active = state.weights[0] > 0
        w, which = state.weights[:, active], state.picks[0, active]
        weighted = state.delta[:, which] * w.unsqueeze(2)
        sums = Couplings(problem.h, state.h[:, which]).against(weighted, problem.delta)
        self._correlations = problem.target - sums


def _fitting(problem: _Problem, capacity: int, limit: int) -> _Tabled:
    sets, n = problem.target.shape
    if sets > 1 or 8 * capacity * (n + capacity) <= limit:
        return _Tabled(problem, capacity)
    needed = 16 * capacity * capacity
    if needed > limit:
        raise MemoryError(
            f"gradmatch keeps two tables of {capacity} x {capacity} float64 numbers, {readable(needed)}, and "
            f"{readable(limit)} are allowed: lower k, or raise memory"
        )
    return _Streamed(problem, capacity)
