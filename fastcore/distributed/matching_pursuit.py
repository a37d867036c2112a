"""Matching pursuit over rows on several ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed.room import spare_bytes_of
from fastcore.distributed.shards import Shards
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.batches import Batch, mark, row_mask
from fastcore.greedy.matching_pursuit import WeightedPicks
from fastcore.greedy.picks import Counter, Picks
from fastcore.greedy.pursuits import FewRows, Problem, Streamed, check_memory, limits_of
from fastcore.numerics import full_precision
from fastcore.ops.choice import choose
from fastcore.ops.project import project


@full_precision()
def matching_pursuit(
    shards: Shards,
    gradients: LastLayerGradients,
    partition: Partition,
    batch: Batch,
    validation: tuple[LastLayerGradients, Tensor] | None,
    *,
    lam: float,
    stop_at: float | None,
    preselected: Tensor | None = None,
    memory: int | None = None,
    progress: Counter | None = None,
) -> Picks:
    """Picks and non-negative weights whose gradients add up to the mean gradient; `batch` is that of all rows.

    A rank knows the correlations of its own rows, and all know the factors and weights of the picks. A pick is one
    gather, of the best row of every rank; then each folds it into its rows: m (C + D + picks) multiplications with
    8 m k bytes for m rows. A rank without these goes through C (D + 1) numbers. Every rank has 16 k^2 bytes.
    """
    device = gradients.device
    limit = spare_bytes_of(shards.ranks, device) if memory is None else memory
    chosen = torch.zeros(1, shards.n, dtype=torch.bool, device=device)
    if preselected is not None:
        chosen = row_mask(preselected, shards.n, device)[None]
    capacity = int(partition.budgets[0]) + int(chosen.sum())
    check_memory(capacity, limit)
    out = WeightedPicks(partition, preselected)
    problem = _problem(shards, gradients, validation, lam, stop_at)
    out.pursue(batch, ShardedPursuit(shards, problem, capacity, limit), chosen, progress)
    return out.picks()


def _problem(
    shards: Shards,
    gradients: LastLayerGradients,
    validation: tuple[LastLayerGradients, Tensor] | None,
    lam: float,
    stop_at: float | None,
) -> Problem:
    """The problem, with target and factors of the rows of this rank and the limits of all."""
    ranks, own = shards.ranks, shards.batch(gradients.device)
    inside = (own.rows[0] >= 0).double()
    if validation is None:
        mean = ranks.sum(gradients.weighted_sum(inside / shards.n))
    else:
        held = validation[0].to(gradients.device)
        mean = ranks.from_rank(0, held.weighted_sum(inside.new_full((held.n,), 1 / held.n)))
    target = (gradients.project(mean) * inside)[None]
    norms = (gradients.squared_norms() * inside)[None]
    energy = ranks.from_rank(0, mean.square().sum()[None])
    largest, total = ranks.largest(norms.amax(1)), ranks.sum(norms.sum(1))
    limits = limits_of(energy, largest, total / shards.n, lam, stop_at)
    return Problem(gradients.delta[None], gradients.h[None], own.rows < 0, target, energy, limits)


class ShardedPursuit(Streamed):
    """Pursuit with the correlations of the rows of this rank; the table of the picks is on all ranks.

    Positions are rows of all ranks. Machines may round differently: the first rank says when to end, and how much
    the picks weigh in the end.
    """

    def __init__(self, shards: Shards, problem: Problem, capacity: int, limit: int) -> None:
        super().__init__(problem, capacity)
        self.shards, count = shards, problem.target.shape[1]
        fits = 8 * capacity * (count + 2 * capacity) <= limit
        self._columns = problem.target.new_empty(capacity, count) if fits else None
        self._explained: Tensor | None = None
        self._steps = 0

    @property
    def steps(self) -> int:
        return self._steps

    def pick(self, budgets: Tensor, progress: Counter | None) -> None:
        super().pick(budgets, progress)
        weights = self.state.weights[0]
        facts = torch.cat([self.explained(), weights.new_tensor([self.state.steps])])
        facts = self.shards.ranks.from_rank(0, torch.cat([weights, facts]))
        self.state.weights[0] = facts[:-2]
        self._explained, self._steps = facts[-2:-1], int(facts[-1])

    def explained(self) -> Tensor:
        return super().explained() if self._explained is None else self._explained

    def ranked(self, most: int) -> tuple[Tensor, Tensor, Tensor]:
        at, worth, gains = super().ranked(most)
        offer = worth.new_full((most, 3), -torch.inf)
        offer[: at.shape[1]] = torch.stack([worth[0], (self.shards.start + at[0]).double(), gains[0]], 1)
        offers = self.shards.ranks.gather(offer).flatten(0, 1)
        # The offers of a rank come before those of the next: a stable order puts the lowest of equal rows first.
        best = offers[offers[:, 0].argsort(descending=True, stable=True)[:most]]
        return best[None, :, 1].long(), best[None, :, 0], best[None, :, 2]

    def _rows(self, at: Tensor) -> FewRows:
        held = self.problem.delta, self.problem.h, self.problem.target, self._correlations
        return FewRows(*(self.shards.take(values, at[None])[0] for values in held))

    def _best(self) -> tuple[Tensor, FewRows] | None:
        p, value = self._largest()
        mine = super()._rows(self.before.new_tensor([p or 0]))
        head = mine.target.new_tensor([value, self.shards.start + (p or 0)])
        head = torch.cat([head, mine.target, mine.correlations, self.explained()])
        # All as float32, bit by bit: half as many bytes, and one collective instead of two for most widths.
        offer = torch.cat([head.view(torch.float32), mine.delta[0], mine.h[0]])
        offers = self.shards.ranks.gather(offer)
        heads, classes = offers[:, : 2 * len(head)].flatten().view(torch.float64), mine.delta.shape[1]
        heads, limits = heads.view(-1, len(head)), self.problem.limits[0]
        winner = choose(heads[:, 0], heads[:, 1].long(), float(limits[3]))
        ends = bool((heads[0, 4] >= limits[4]) | (heads[:, 0].amax() <= limits[1]))
        if winner is None or ends:
            return None
        delta, h = offers[winner : winner + 1, 2 * len(head) :].tensor_split([classes], 1)
        return heads[winner, 1:2].long(), FewRows(delta, h, heads[winner, 2:3], heads[winner, 3:4])

    def _close(self, positions: Tensor) -> None:
        mark(self.closed, self.shards.own(positions))

    def _sums(self, new: slice) -> Tensor:
        if self._columns is None:
            return super()._sums(new)
        state, problem = self.state, self.problem
        for t in range(new.start, new.stop):
            along, across = project(problem.delta, state.delta[:, t].double()), state.h[:, t].double()
            self._columns[t] = (along * (1 + project(problem.h, across)))[0]
        weights = torch.zeros_like(state.weights[0])
        weights[state.picks[0, : new.stop]] = state.weights[0, : new.stop]
        return (weights[: new.stop] @ self._columns[: new.stop])[None]
