"""Herding: rows chosen so that the mean of the picks follows the mean of the data."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import Batch, in_batches, pick, row_mask
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.memory import TILE_BYTES, retried, tile_rows
from fastcore.numerics import full_precision
from fastcore.ops import herding as op
from fastcore.ops.codes import MOST_COLUMNS, encode
from fastcore.rows import Streamed, project, weighted_sum
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
    memory: d + 60 bytes a row. Rows on the host are read whole for every pick, over the bus, with 40 bytes a row.
    Welling, "Herding dynamical weights to learn", 2009; Chen, Welling and Smola, "Super-samples from kernel
    herding", 2010.
    """
    if isinstance(view, ShardedView):
        return view.herding(partition, preselected=preselected, progress=progress)
    out = Collector(partition)

    def pick_all(batch: Batch, progress: Counter) -> None:
        x, scale = batch.take_rows(view.features), batch.take(view.scale)
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
        coded = int(batch.budgets.max()) >= CODED_PICKS and not isinstance(x, Streamed)
        codes, code_step, slack = _encoded(x, scale) if coded else (None, None, None)
        made = PickList(batch)
        state = [residual, taken]

        def choose_some() -> int:
            most = min(PICKS_A_CALL, int(made.left.max()))
            budgets = made.left.clamp(max=most)
            earlier, start = (before + made.count).unsqueeze(1), state[0].unsqueeze(1)
            residual, taken = (each.clone() for each in state)  # the op writes to them
            limits = (budgets, floor, most)
            if isinstance(x, Streamed):
                new, _ = _streamed(x, scale, norms, mean, residual, taken, *limits)
            else:
                new, _ = op.herding(x, codes, code_step, slack, scale, norms, mean, residual, taken, *limits)
            step = torch.arange(most, device=new.device)
            added = (pick(x, new).double() * pick(scale, new).unsqueeze(2)).cumsum(1)
            apart = start + step.unsqueeze(1) * mean.unsqueeze(1) - added
            count = made.append(new, apart.norm(dim=2) / (earlier + step + 1))
            state[:] = residual, taken
            out.count(passes=most)
            return count

        while made.more():
            progress.update(retried(choose_some))
            if not made.grew:
                raise made.stuck("herding", bounds=False)
        out.add(batch, made)

    in_batches(pick_all, partition, view.device, 5 * view.features.shape[1], progress)
    return out.picks()


def _encoded(x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor] | tuple[None, None, None]:
    sets, _, width = x.shape
    if width > MOST_COLUMNS:
        return None, None, None
    # Some four copies of a tile.
    return encode(x, scale, tile_rows(x.device, 16 * sets * width, TILE_BYTES))


def _streamed(
    x: Streamed,
    scale: Tensor,
    norms: Tensor,
    mean: Tensor,
    residual: Tensor,
    taken: Tensor,
    budgets: Tensor,
    floor: Tensor,
    most: int,
) -> tuple[Tensor, Tensor]:
    """The op, for rows on the host. Every pick turns the residual, so that bounds of before tell little."""
    picks, scores = budgets.new_full((1, most), -1), norms.new_zeros(1, most)

    def row(p: int) -> Tensor:
        return pick(x, budgets.new_tensor([[p]]))[0, 0].double() * scale[0, p]

    state = norms[0], mean[0], residual[0], taken[0], int(budgets[0]), float(floor[0])
    op.follow(lambda towards: (scale * project(x, towards[None]))[0], row, *state, picks[0], scores[0])
    return picks, scores
