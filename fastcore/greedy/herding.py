"""Herding: rows chosen so that the mean of the picks follows the mean of the data."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import TILE_BYTES, batches, pick, row_mask
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.numerics import full_precision
from fastcore.ops import herding as op
from fastcore.ops.codes import MOST_COLUMNS, encode
from fastcore.ops.weighted_sum import weighted_sum
from fastcore.similarity import FeatureSimilarity

PICKS_A_CALL = 64
CODED_PICKS = 32  # fewer are made before an 8-bit copy has paid for itself
FLOOR = 1e-14


@full_precision()
def herding(
    view: FeatureSimilarity | ShardedView,
    partition: Partition,
    *,
    preselected: Tensor | None = None,
    progress: Counter | None = None,
) -> Picks:
    """Picks the row that brings the mean of the picks nearest to the mean of the set, again and again.

    Under "euclidean" the rows are taken as they are, under "cosine" at unit length. Gains are the distance of
    the mean of the picks (with the preselected rows) from the mean of the set after each pick. Cost: one read
    of an 8-bit copy of the features a pick, and of the few rows that may be the best, n * k * d multiplications;
    memory: d + 60 bytes a row.
    Welling, "Herding dynamical weights to learn", 2009; Chen, Welling and Smola, "Super-samples from kernel
    herding", 2010.
    """
    if isinstance(view, ShardedView):
        return view.herding(partition, preselected=preselected, progress=progress)
    out = Collector(partition)
    for batch in batches(partition, view.device, 4 * view.features.shape[1]):
        x, scale = batch.take(view.features), batch.take(view.scale)
        norms = batch.take(view.norms) * scale.square()
        inside = batch.rows >= 0
        mean = weighted_sum(x, scale * inside / batch.sizes.unsqueeze(1))
        taken = (~inside).byte()
        before = torch.zeros_like(batch.sizes)
        total = torch.zeros_like(mean)
        if preselected is not None and preselected.is_floating_point():
            outside = preselected.to(view.device, torch.float64)
            if view.metric == "cosine":
                outside = torch.nn.functional.normalize(outside, dim=1, eps=1e-300)
            total, before = total + outside.sum(0), before + len(outside)
        elif preselected is not None:
            chosen = batch.take(row_mask(preselected, view.n, view.device))
            total, before = weighted_sum(x, scale * chosen), chosen.sum(1)
            taken |= chosen.byte()
        residual = (before + 1).unsqueeze(1) * mean - total
        floor = FLOOR * norms.amax(1)
        enough = int(batch.budgets.max()) >= CODED_PICKS
        codes, code_step, slack = _encoded(x, scale) if enough else (None, None, None)
        made = PickList(batch)
        while bool((made.left > 0).any()):
            most = min(PICKS_A_CALL, int(made.left.max()))
            budgets = made.left.clamp(max=most)
            earlier, start = (before + made.count).unsqueeze(1), residual.clone().unsqueeze(1)
            new, _ = op.herding(
                x, codes, code_step, slack, scale, norms, mean, residual, taken, budgets, floor, most
            )
            step = torch.arange(most, device=new.device)
            added = (pick(x, new).double() * pick(scale, new).unsqueeze(2)).cumsum(1)
            apart = start + step.unsqueeze(1) * mean.unsqueeze(1) - added
            count = made.append(new, apart.norm(dim=2) / (earlier + step + 1))
            out.count(passes=most)
            if progress is not None:
                progress.update(count)
        out.add(batch, made)
    return out.picks()


def _encoded(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor] | tuple[None, None, None]:
    sets, _, width = x.shape
    if width > MOST_COLUMNS:
        return None, None, None
    return encode(x, scale, max(1, TILE_BYTES // (16 * sets * width)))  # some four copies of a tile
