"""Gradient ascent on a validation loss over rows on several ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed.shards import Shards
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.batches import batches, mark, row_mask
from fastcore.greedy.gradient_ascent import (
    ROUNDING,
    OpenRows,
    ValidationLoss,
    checked,
    climb,
    largest,
)
from fastcore.greedy.picks import Collector, Counter, Picks
from fastcore.numerics import full_precision

SPARE = 7
"""Rows that are looked at beside those that a refresh takes: enough for ties of a few."""

SENT = 1 << 21
"""Numbers that a rank adds to a sum at once."""


@full_precision()
def gradient_ascent(
    shards: Shards,
    gradients: LastLayerGradients,
    partition: Partition,
    validation: tuple[LastLayerGradients, Tensor],
    *,
    eta: float,
    refresh: int,
    closed: Tensor | None = None,
    preselected: Tensor | None = None,
    progress: Counter | None = None,
) -> Picks:
    """Picks the row whose gradient has the largest product with that of the mean validation loss, repeatedly.

    All ranks have the validation rows and move their logits alike, m (C + D) multiplications a pick; the gains
    that a rank computes are those of its rows. A refresh gathers the best of every rank and the C + D numbers of
    its picks; what preselected rows do to the logits is one sum of m C numbers.
    """
    source, held = checked(validation, partition.sets, gradients.device)
    batch = next(batches(partition, gradients.device, 8))
    loss = ValidationLoss(source, held.of(batch.sets))
    rows = ShardedOpenRows(shards, gradients, loss.h)
    if closed is not None:
        rows.close(shards.part(closed.to(gradients.device)[None]))
    if preselected is not None:
        chosen = shards.part(row_mask(preselected, shards.n, gradients.device)[None])
        loss.move(_sum(shards, loss.shift(*rows.close(chosen))), eta)
    out = Collector(partition)
    out.add(batch, climb(rows, loss, batch, partition.budgets, eta, refresh, out, progress))
    return out.picks()


def _sum(shards: Shards, values: Tensor) -> Tensor:
    """The sum of values (1, m, C) over all ranks, some rows at a time: every rank has those of all of them."""
    step = max(1, SENT // values.shape[2])
    return torch.cat([shards.ranks.sum(part) for part in values.split(step, 1)], 1)


class ShardedOpenRows(OpenRows):
    """The rows of all ranks, of which each knows the gains of its own. Positions (1, P) are global row numbers."""

    def __init__(self, shards: Shards, gradients: LastLayerGradients, y: Tensor) -> None:
        self.shards = shards
        super().__init__(gradients, shards.batch(gradients.device), y)

    def best(self, slope: Tensor, length: Tensor, left: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The rows (1, most) of all ranks with the largest gains, as in one process, and their gains."""
        gains = self.gains(slope)
        # Machines may round differently: one floor for all, then every rank decides by the same numbers.
        floor = self.shards.ranks.largest(ROUNDING * self.largest * length)
        found = []
        while most > 0:
            rows, values = self._some(gains, most, floor)
            mark(self.taken, self.shards.own(rows))
            gains.masked_fill_(self.taken, -torch.inf)
            found.append((rows, values))
            most -= rows.shape[1]
        rows, values = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return rows, values

    def _some(self, gains: Tensor, most: int, floor: Tensor) -> tuple[Tensor, Tensor]:
        """The first rows (1, P) of those, one at least, and their gains."""
        rows, values, outside, first = self.shards.leaders(gains, most + SPARE, floor)
        # The best of all other rows stands among them, as the lowest that it may be.
        rows, order = torch.cat([rows, first[None]], 1).sort()
        values = torch.cat([values, outside[None]], 1).gather(1, order)
        at = largest(values, torch.full_like(first, most), most, floor)[0]
        known = (at >= 0) & (order[0, at] < rows.shape[1] - 1)
        at = at[: int(known.byte().cumprod(0).sum())]
        if len(at):
            return rows[:, at], values[:, at]
        row = self.shards.best(gains, floor)[1].view(1, 1)
        row = torch.where(row < self.shards.n, row, -1)
        return row, self.shards.take(gains, row)

    def factors(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Factors h (1, P, D) and delta (1, P, C) of any rows (1, P), on all ranks; 0 for -1."""
        h, delta = self.shards.side_by_side((self.h[0], self.delta[0]), positions)
        return h[None], delta[None]
