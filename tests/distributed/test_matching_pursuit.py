"""Matching pursuit over ranks that are threads: how often they talk, and machines that round differently."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from fastcore.budget import Partition
from fastcore.distributed.view import ShardedGradients
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import pursuits
from fastcore.greedy.matching_pursuit import matching_pursuit
from fastcore.greedy.picks import Picks
from tests.distributed.data import gradients
from tests.distributed.threads import Threads, on_ranks

COUNTS = [70, 1, 49]


def chosen(k: int, **options: Any) -> list[Picks]:
    """What every rank returns."""
    rows = gradients(sum(COUNTS))

    def work(shards) -> Picks:
        threading.current_thread().name = str(shards.ranks.rank)
        local: LastLayerGradients = rows[shards.start : shards.start + shards.count]
        return matching_pursuit(ShardedGradients(shards, local), Partition.whole(len(rows), k), **options)

    return on_ranks(COUNTS, work)


@pytest.mark.parametrize("memory", [1 << 20, 16 * 40 * 40], ids=["table", "streamed"])
def test_one_collective_a_pick(monkeypatch, memory):
    """And with room for a table nothing goes through sums of gradients."""
    calls, sums, send, against = [], [], Threads._all, pursuits.Couplings.against
    monkeypatch.setattr(Threads, "_all", lambda ranks, value: calls.append(0) or send(ranks, value))
    monkeypatch.setattr(pursuits.Couplings, "against", lambda *given: sums.append(0) or against(*given))
    made = []
    for k in (10, 40):
        calls.clear()
        chosen(k, memory=memory)
        made.append(len(calls) / len(COUNTS))
    assert made[1] - made[0] == 30
    assert bool(sums) == (memory < 1 << 20)


def test_machines_that_round_differently_agree(monkeypatch):
    """The end lies between what one and another have explained; and the weights are those of the first."""
    stop_at = chosen(7)[0].info["residual"] ** 2
    monkeypatch.setattr(pursuits.op, "matching_pursuit", _rounding(pursuits.op.matching_pursuit))
    for factor in (1 - 1e-13, 1 + 1e-13):
        first, *others = chosen(30, stop_at=stop_at * factor)
        assert 7 <= int((first.rows >= 0).sum()) <= 8
        for other in others:
            assert torch.equal(first.rows, other.rows) and torch.equal(first.gains, other.gains)
            assert torch.equal(first.weights, other.weights) and first.info == other.info


def _rounding(pursue: Any) -> Any:
    def rounded(*given: Any) -> Any:
        made = pursue(*given)
        given[-2].mul_(1 + 1e-12 * (int(threading.current_thread().name) - 1))
        return made

    return rounded
