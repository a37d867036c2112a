"""Which pick stands for which row, over ranks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastcore import similarity
from fastcore.assignment import assign, closest, side_by_side
from fastcore.budget import Partition
from fastcore.distributed.matrix import MatrixRows
from fastcore.distributed.shards import Shards
from fastcore.gradients import LastLayerGradients
from fastcore.memory import tiles

_TILE_BYTES = 64 << 20


def owners_of(
    shards: Shards, table: Tensor | LastLayerGradients, metric: str, partition: Partition, indices: Tensor
) -> np.ndarray:
    """For every row of all ranks the position in `indices` of the pick that represents it, (n,) int64.

    See `assign`. The picks are sent to all ranks, each of which assigns its own rows.
    """
    groups = torch.empty(shards.n, dtype=torch.int64, device="cpu")
    groups[partition.rows] = partition.membership
    factors = [table.delta, table.h] if isinstance(table, LastLayerGradients) else [table]
    where = factors[0].device
    picks = [shards.take(factor[None], indices[None].to(where))[0] for factor in factors]
    rows = torch.zeros(shards.count, dtype=torch.int64, device="cpu")
    width = sum(factor.shape[1] for factor in factors)
    for part in tiles(shards.count, 4 * width, _TILE_BYTES):
        joint = [torch.cat([factor[part], pick]) for factor, pick in zip(factors, picks, strict=True)]
        count = len(joint[0]) - len(indices)
        data = LastLayerGradients(*joint) if len(joint) > 1 else joint[0]
        start = shards.start + part.start
        of_row = torch.cat([groups[start : start + count], groups[indices]])
        sizes = torch.bincount(of_row, minlength=partition.sets)
        offsets = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
        joined = Partition(torch.argsort(of_row, stable=True), offsets, sizes)
        view = similarity.view(data, metric, 1.0 if metric == "rbf" else None)
        positions = torch.arange(count, count + len(indices), device="cpu")
        rows[part] = assign(view, joined, positions)[:count]
    return shards.ranks.gather_rows(rows, shards.counts).numpy()


def owners_in_matrix(
    shards: Shards, view: MatrixRows, partition: Partition, indices: Tensor, pairs: str
) -> np.ndarray:
    """The same from a matrix of similarities or distances (`pairs`): every rank reads it for its own rows."""
    groups = torch.empty(shards.n, dtype=torch.int64, device="cpu")
    groups[partition.rows] = partition.membership
    found = torch.zeros(shards.count, dtype=torch.int64, device="cpu")
    for rows, positions in side_by_side(view, partition, groups, indices):
        own = shards.own(rows).sort(descending=True).values
        own = own[:, : int((own >= 0).sum(1).max())]
        if own.shape[1]:
            picks = torch.where(positions < 0, -1, indices[positions.clamp(min=0)]).to(view.device)
            best = closest(view, own, picks, pairs).cpu()
            own = own.cpu()
            found[own[own >= 0]] = positions.gather(1, best)[own >= 0]
    return shards.ranks.gather_rows(found, shards.counts).numpy()
