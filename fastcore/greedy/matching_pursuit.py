"""Matching pursuit: picks and weights whose gradients add up to the mean gradient of a ground set.

Rows correlate with what the weighted picks leave of that mean; the row that correlates most is picked, and all
weights are found anew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.batches import BATCH_BYTES, Batch, batches, row_mask
from fastcore.greedy.couplings import ValidationRows
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.pursuits import Tabled, fitting, problem_of
from fastcore.greedy.sharded import ShardedView
from fastcore.memory import spare_bytes
from fastcore.numerics import full_precision


@full_precision()
def matching_pursuit(
    gradients: LastLayerGradients | ShardedView,
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
    if isinstance(gradients, ShardedView):
        rest = {"preselected": preselected, "memory": memory, "progress": progress}
        return gradients.matching_pursuit(partition, validation, lam=lam, stop_at=stop_at, **rest)
    out, device = WeightedPicks(partition, preselected), gradients.device
    limit = spare_bytes(device) if memory is None else memory
    mask = None if preselected is None else row_mask(preselected, gradients.n, device)
    most = int(partition.budgets.max()) + (0 if preselected is None else len(preselected))
    held = None if validation is None else (validation[0], ValidationRows(validation[1], partition.sets))
    row_bytes = 4 * (gradients.classes + gradients.width) + 16 * most
    for batch in batches(partition, device, row_bytes, min(BATCH_BYTES, limit)):
        problem = problem_of(gradients, batch, held, lam, stop_at)
        chosen = torch.zeros_like(problem.closed) if mask is None else batch.take(mask)
        run = fitting(problem, int((batch.budgets + chosen.sum(1)).max()), limit)
        out.pursue(batch, run, chosen, progress)
    return out.picks()


class WeightedPicks(Collector):
    """Gathers the picks of all batches, and how much each weighs."""

    def __init__(self, partition: Partition, preselected: Tensor | None) -> None:
        super().__init__(partition)
        self._sizes, self._preselected = partition.sizes, preselected
        self._weights = torch.zeros(self.rows.shape, dtype=torch.float64, device="cpu")
        self._earlier: dict[int, float] = {}
        self._residual = torch.zeros(partition.sets, dtype=torch.float64, device="cpu")

    def pursue(self, batch: Batch, run: Tabled, chosen: Tensor, progress: Counter | None) -> None:
        """Takes the rows where `chosen` (G, n) is true, then makes the picks of a batch."""
        run.take(chosen)
        run.pick(batch.budgets, progress)
        made = PickList(batch)
        self._weights[batch.sets, : made.positions.shape[1]] = run.results(made).cpu()
        self.add(batch, made)
        numbers, w = run.preselected(batch)
        self._earlier.update(zip(numbers.tolist(), w.tolist(), strict=True))
        left = 1 - run.explained() / run.problem.energy
        self._residual[batch.sets] = left.clamp(min=0).nan_to_num(0).sqrt().cpu()
        self.count(steps=run.steps)

    def picks(self) -> Picks:
        """All picks, with their weights."""
        picks = super().picks()
        picks.weights, scale = _shares(self._weights, self.rows >= 0, self._sizes)
        one = len(self._sizes) == 1
        picks.info["active"] = int((self._weights > 0).sum())
        picks.info["scale"] = float(scale) if one else scale.tolist()
        picks.info["residual"] = float(self._residual) if one else self._residual.tolist()
        if self._preselected is not None:
            rows = self._preselected.tolist()
            picks.info["preselected_weights"] = [self._earlier.get(row, 0.0) for row in rows]
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
