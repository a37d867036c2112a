"""Ranks that are threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastcore.distributed.communication import Ranks
from fastcore.distributed.shards import Shards


class Threads(Ranks):
    """One of several ranks that are threads of one process."""

    def __init__(self, rank: int, size: int, board: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size, self.board, self.barrier = rank, size, board, barrier

    def _all(self, value: Any) -> list[Any]:
        self.board[self.rank] = value
        self.barrier.wait(30)
        every = list(self.board)
        self.barrier.wait(30)
        return every

    def exchange(self, value: Any) -> list[Any]:
        return self._all(value)

    def gather(self, values: Tensor) -> Tensor:
        return torch.stack(self._all(values))

    def from_rank(self, source: int, values: Tensor) -> Tensor:
        return self.gather(values)[source]

    def unite(self, values: Tensor) -> Tensor:
        return self.sum(values)

    def move(self, values: Tensor, sent: list[int], received: list[int]) -> Tensor:
        parts = [theirs.split(counts)[self.rank] for theirs, counts in self._all((values, sent))]
        assert [len(part) for part in parts] == received
        return torch.cat(parts)


def on_ranks(counts: list[int], work: Callable[[Shards], Any]) -> list[Any]:
    """What `work` returns on every rank; raises what it raises."""
    size = len(counts)
    board: list[Any] = [None] * size
    found: list[Any] = [None] * size
    barrier = threading.Barrier(size)

    def run(rank: int) -> None:
        try:
            found[rank] = work(Shards(Threads(rank, size, board, barrier), counts[rank]))
        except Exception as error:
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found
