"""A sparse matrix over ranks, with threads for ranks: its entries come together, and the first rank decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed import ShardedSource
from fastcore.distributed import sparse as sharded
from fastcore.distributed.shards import Shards
from fastcore.greedy.picks import Picks
from fastcore.needs import Source
from fastcore.registry import get_method
from tests.distributed.data import data_of, sparse
from tests.distributed.threads import on_ranks

DENSE = data_of("sparse lopsided matrix")


@pytest.mark.parametrize("counts", [[100, 0, 150, 10], [0, 260], [259, 1], [260]], ids=str)
@pytest.mark.parametrize("at_once", [1000, 1 << 22])
def test_the_entries_of_all_ranks_in_order(counts, at_once, monkeypatch):
    monkeypatch.setattr(sharded, "AT_ONCE", at_once)

    def work(shards: Shards) -> Tensor:
        own = torch.from_numpy(DENSE[shards.start :][: shards.count]).to_sparse()
        # Nothing is read of what stands for the rows of a rank without any.
        return sharded.whole_matrix(shards, own if shards.count else torch.ones(1, len(DENSE)))

    expected = torch.from_numpy(DENSE).to_sparse().coalesce()
    for found in on_ranks(counts, work):
        assert found.is_coalesced() and found.shape == expected.shape
        assert torch.equal(found.indices(), expected.indices()) and found.values().is_contiguous()
        assert torch.equal(found.values(), expected.values()) and found.values().dtype == torch.float32


def test_all_ranks_have_what_the_first_one_found(monkeypatch):
    """Also where other machines come to other numbers."""

    def pick(self: Any, partition: Partition, *rest: Any) -> Picks:
        rank = self.ranks.rank
        return Picks(torch.full((1, 3), rank), torch.full((1, 3), 0.5 + rank).double(), {"passes": 7 + rank})

    monkeypatch.setattr(Source, "pick", pick)
    monkeypatch.setattr(Source, "owners", lambda self, *rest: np.full(self.n, 2 - self.ranks.rank))

    def work(shards: Shards) -> Any:
        rows = sparse(DENSE[shards.start :][: shards.count], shards.ranks.rank % 2)
        source = ShardedSource(shards.ranks, get_method("graph_cut"), rows, "precomputed", None, None)
        partition: Any = None
        picks = source.pick(partition, partition, None, {}, {})
        return picks, source.owners(partition, picks.rows[0], None)

    for picks, owners in on_ranks([0, 200, 60], work):
        assert picks.rows.tolist() == [[0, 0, 0]] and picks.gains.tolist() == [[0.5, 0.5, 0.5]]
        assert picks.info == {"passes": 7} and picks.weights is picks.scores is None
        assert owners.tolist() == [2] * 260
