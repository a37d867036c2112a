"""Herding over rows on several ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed.shards import Shards
from fastcore.greedy.batches import row_mask
from fastcore.greedy.herding import FLOOR
from fastcore.greedy.picks import Counter, Picks
from fastcore.numerics import full_precision
from fastcore.ops.choice import TIE
from fastcore.ops.project import project
from fastcore.ops.weighted_sum import weighted_sum
from fastcore.similarity import FeatureSimilarity


@full_precision()
def herding(
    shards: Shards,
    view: FeatureSimilarity,
    partition: Partition,
    *,
    preselected: Tensor | None = None,
    progress: Counter | None = None,
) -> Picks:
    """Picks the row that brings the mean of the picks nearest to the mean of all rows, again and again.

    Every rank offers its best row and the features of it, one collective a pick, and all ranks keep the sum. A
    rank reads its own features once a pick.
    """
    ranks, batch = shards.ranks, shards.batch(view.device)
    x, scale = batch.take(view.features), batch.take(view.scale)
    norms = batch.take(view.norms) * scale.square()
    taken = batch.rows < 0
    mean = ranks.sum(weighted_sum(x, scale * ~taken / shards.n))
    before, total = 0, torch.zeros_like(mean)
    if preselected is not None and preselected.is_floating_point():
        outside = preselected.to(view.device, torch.float64)
        if view.metric == "cosine":
            outside = torch.nn.functional.normalize(outside, dim=1, eps=1e-300)
        total, before = outside.sum(0, keepdim=True), len(outside)
    elif preselected is not None:
        chosen = shards.part(row_mask(preselected, shards.n, view.device)[None]) & ~taken
        total, before = ranks.sum(weighted_sum(x, scale * chosen)), len(preselected)
        taken |= chosen
    residual = (before + 1) * mean - total
    floor = FLOOR * ranks.largest(norms.amax(1))
    budget = int(partition.budgets[0])
    rows = torch.empty(1, budget, dtype=torch.int64, device=view.device)
    gains = torch.empty(1, budget, dtype=torch.float64, device=view.device)
    for step in range(budget):
        score = (2 * scale * project(x, residual) - norms).masked_fill_(taken, -torch.inf)
        best = score.amax()
        mine = (score[0] >= best - (TIE * best.abs() + floor).nan_to_num(posinf=0.0)).byte().argmax()
        own = x[0, mine].double() * scale[0, mine]
        offer = torch.cat([torch.stack([best, (shards.start + mine).double()]), own])
        offers = ranks.gather(offer)
        best = offers[:, 0].amax()
        tied = offers[:, 0] >= best - (TIE * best.abs() + floor)
        winner = torch.where(tied, offers[:, 1], shards.n).argmin()
        rows[0, step] = offers[winner, 1].long()
        away = residual - offers[winner, 2:]
        gains[0, step] = away.norm() / (before + step + 1)
        residual = away + mean
        taken |= batch.rows == rows[0, step] - shards.start
        if progress is not None:
            progress.update(1)
    return Picks(rows.cpu(), gains.cpu(), info={"passes": budget})
