"""Balanced selection over ranks: whole classes move to one rank each, which then selects as one process does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed.shards import Shards
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.picks import Picks

Rows = Tensor | LastLayerGradients


class Classes:
    """Which rank selects from which ground set, and the rows that it holds for that.

    Attributes:
        rows: (m,) global numbers of the rows of the ground sets of this rank, ascending.
        partition: all ground sets over these m rows; those of other ranks are empty and have no budget, so that
            random draws are those of one process.
    """

    def __init__(self, shards: Shards, partition: Partition) -> None:
        self.shards, self.whole = shards, partition
        ranks = shards.ranks
        self.owners = _owners(partition.sizes, ranks.size)
        self.owner_of_row = owner = torch.empty(shards.n, dtype=torch.int64, device="cpu")
        codes = torch.empty_like(owner)
        owner[partition.rows] = self.owners[partition.membership]
        codes[partition.rows] = partition.membership
        mine = self.owners == ranks.rank
        self.rows = (owner == ranks.rank).nonzero()[:, 0]
        sizes = torch.where(mine, partition.sizes, 0)
        self.partition = Partition(
            torch.argsort(codes[self.rows], stable=True),
            torch.nn.functional.pad(sizes.cumsum(0), (1, 0)),
            torch.where(mine, partition.budgets, 0),
        )
        # Rows of every rank lie one after the other: what moves between two ranks keeps its order.
        sent = owner[shards.start : shards.start + shards.count]
        self._order = sent.argsort(stable=True)
        self._sent = torch.bincount(sent, minlength=ranks.size).tolist()
        parts = owner.split(shards.counts)
        self._received = [int((part == ranks.rank).sum()) for part in parts]

    def move(self, rows: Rows) -> Rows:
        """The rows of the ground sets of this rank, of the rows (count, ...) of all."""
        if isinstance(rows, LastLayerGradients):
            return LastLayerGradients.of_factors(self._moved(rows.delta), self._moved(rows.h))
        return self._moved(rows)

    def _moved(self, values: Tensor) -> Tensor:
        order = self._order.to(values.device)
        return self.shards.ranks.move(values[order], self._sent, self._received)

    def preselected(self, rows: Tensor | None) -> Tensor | None:
        """Of global row numbers those of this rank, as places among its rows; None where there are none."""
        if rows is None or not bool((mine := torch.isin(rows, self.rows)).any()):
            return None
        return torch.searchsorted(self.rows, rows[mine])

    def gather(self, picks: Picks | None, weighted: bool, preselected: Tensor | None) -> Picks:
        """The picks of all ranks, under global row numbers; None where this rank has none to make."""
        ranks, sets = self.shards.ranks, self.whole.sets
        most = int(self.whole.budgets.max())
        table = torch.zeros(3, sets, most, dtype=torch.float64, device="cpu")
        table[0] = -1
        if picks is not None:
            width = picks.rows.shape[1]
            found = picks.rows >= 0
            table[0, :, :width] = torch.where(found, self.rows[picks.rows.clamp(min=0)], -1).double()
            table[1, :, :width] = picks.gains.cpu()
            if picks.weights is not None:
                table[2, :, :width] = picks.weights.cpu()
        tables = ranks.gather(table)
        every = tables[self.owners, :, torch.arange(sets, device="cpu")]  # (sets, 3, most)
        infos = ranks.exchange(None if picks is None else _plain(picks.info))
        out = Picks(every[:, 0].long(), every[:, 1].contiguous())
        share = torch.ones(ranks.size, dtype=torch.float64, device="cpu")
        if weighted:
            # The weights of a rank add up to 1: here to its part of the rows of the ground sets with picks.
            rows = self.whole.sizes * (out.rows >= 0).any(1)
            share = torch.zeros_like(share).index_add_(0, self.owners, rows.double()) / rows.sum()
            out.weights = every[:, 2] * share[self.owners].unsqueeze(1)
        out.info = _merged(infos, self.owners, share)
        if any("preselected_weights" in (info or {}) for info in infos):
            assert preselected is not None
            given = torch.zeros(len(preselected), dtype=torch.float64, device="cpu")
            for rank, info in enumerate(infos):
                own = self.owner_of_row[preselected] == rank
                if info and bool(own.any()):
                    given[own] = torch.tensor(info["preselected_weights"], dtype=torch.float64, device="cpu")
            out.info["preselected_weights"] = given.tolist()
        return out


def _owners(sizes: Tensor, ranks: int) -> Tensor:
    """(sets,) the rank of every ground set: the largest first, to the rank with the least work."""
    owners = torch.zeros(len(sizes), dtype=torch.int64, device="cpu")
    work = [0] * ranks
    for c in sizes.argsort(descending=True, stable=True).tolist():
        rank = work.index(min(work))
        owners[c] = rank
        work[rank] += int(sizes[c]) ** 2  # picks go with the rows
    return owners


def _plain(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in info.items()}


def _merged(infos: list[dict[str, Any] | None], owners: Tensor, share: Tensor) -> dict[str, Any]:
    """Facts of the runs of all ranks: counts add up, what is known of a ground set comes from its rank."""
    given = [info for info in infos if info is not None]
    merged: dict[str, Any] = {}
    for name in dict.fromkeys(name for info in given for name in info):
        values = [info[name] for info in given if name in info]
        if isinstance(values[0], bool):
            merged[name] = all(values)
        elif isinstance(values[0], int):
            merged[name] = sum(values)
        elif name != "preselected_weights" and isinstance(values[0], list):
            merged[name] = []
            for c, rank in enumerate(owners.tolist()):
                value = (infos[rank] or {}).get(name, [0.0] * len(owners))[c]
                merged[name].append(value / float(share[rank]) if name == "scale" and share[rank] else value)
    return merged
