"""Graph cut over ranks: where a pass finds nothing, blocks grow up to all rows, and then there is an error."""

from __future__ import annotations

import pytest
import torch

import fastcore.distributed.graph_cut as sharded
from fastcore.budget import Partition
from fastcore.distributed.view import ShardedRows
from fastcore.greedy.graph_cut import graph_cut
from fastcore.greedy.picks import Picks
from fastcore.similarity import view
from tests.distributed.threads import on_ranks

COUNTS = [40, 1, 29]


def chosen(metric: str) -> Picks:
    rows = torch.randn(sum(COUNTS), 4, generator=torch.Generator().manual_seed(0))

    def work(shards) -> Picks:
        local = view(rows[shards.start : shards.start + shards.count], metric)
        local.parameter = 1.0
        return graph_cut(ShardedRows(shards, local), Partition.whole(len(rows), 5), block=2)

    return on_ranks(COUNTS, work)[0]


@pytest.mark.parametrize("metric", ["cosine", "rbf"])
def test_no_pick_is_an_error_and_no_endless_loop(monkeypatch, metric):
    blocks, known = [], sharded._larger
    monkeypatch.setattr(sharded, "_larger", lambda block, n: blocks.append(block) or known(block, n))
    monkeypatch.setattr(sharded, "BLOCK", 4)
    monkeypatch.setattr(sharded, "_standing", lambda *given: 0)
    block_op = sharded.graph_cut_block

    def none(*given):
        picks, gains = block_op(*given)
        return (picks, gains) if metric == "cosine" else (torch.full_like(picks, -1), gains)

    monkeypatch.setattr(sharded, "graph_cut_block", none)
    with pytest.raises(
        RuntimeError, match="internal error in graph_cut: a pass over all 70 rows made no pick"
    ):
        chosen(metric)
    assert set(blocks) == {4, 8, 16, 32, 64, 128}  # all that are below twice the rows were tried
