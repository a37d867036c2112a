"""A sparse matrix of which every rank has some rows: all ranks get its entries, and select as one process does."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.distributed.communication import Ranks
from fastcore.distributed.shards import Shards
from fastcore.greedy.picks import Picks

AT_ONCE = 1 << 22
"""Entries that are sent at once."""


def whole_matrix(shards: Shards, rows: Tensor) -> Tensor:
    """The sparse (n, n) matrix, of which `rows` (m, n) are those of this rank, in order of row and column.

    `rows` are coalesced; those of a rank without rows are not looked at. Memory: 20 bytes an entry of all ranks.
    """
    device, places, values = rows.device, torch.empty(2, 0, dtype=torch.int64), torch.empty(0)
    if shards.count:
        places, values = rows.indices(), rows.values()
    entries = Shards(shards.ranks, len(values))

    def gather(given: Tensor, out: Tensor) -> None:
        for rank, part, some in entries.every(given.to(device)[None, :, None], AT_ONCE):
            first = sum(entries.counts[:rank])
            out[first + part.start : first + part.stop] = some[:, 0]

    all_places = torch.empty(2, entries.n, dtype=torch.int64, device=device)
    all_values = torch.empty(entries.n, device=device)
    gather(places[0] + shards.start, all_places[0])
    gather(places[1], all_places[1])
    gather(values, all_values)
    size = (shards.n, shards.n)
    # A rank has its rows in order, and ranks do.
    return torch.sparse_coo_tensor(all_places, all_values, size, is_coalesced=True, check_invariants=False)


def of_first_rank(ranks: Ranks, picks: Picks) -> Picks:
    """The picks of the first rank, on all: they pick from the same, but machines may round differently."""

    def sent(values: Tensor | None) -> Tensor | None:
        return None if values is None else ranks.from_rank(0, values)

    rows, gains = ranks.from_rank(0, picks.rows), ranks.from_rank(0, picks.gains)
    return Picks(rows, gains, ranks.exchange(picks.info)[0], sent(picks.weights), sent(picks.scores))
