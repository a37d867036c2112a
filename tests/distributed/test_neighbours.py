"""Neighbours among the rows of all ranks, with threads for ranks, against all pairs in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed import neighbours as sharded
from fastcore.distributed.neighbours import SearchOverRanks, divergence_from_neighbours
from fastcore.distributed.shards import Shards
from fastcore.divergence import mean_divergence
from fastcore.greedy import neighbours as module
from fastcore.greedy.neighbours import nearest_neighbours
from tests.distributed.threads import on_ranks
from tests.greedy.test_neighbours import FAMILIES
from tests.score_oracle import neighbours


def part(shards: Shards, values: Tensor) -> Tensor:
    """What a rank holds of values (n, d), or one row of padding, far from all others."""
    own = values[shards.start : shards.start + shards.count]
    return own if shards.count else torch.full_like(values[:1], 7e7)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "KEYS", 16)
    monkeypatch.setattr(module, "QUERIES", 7)
    monkeypatch.setattr(sharded, "FETCHED", 300)


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_over_ranks(small, family):
    """Some ranks have no rows, or fewer than the neighbours."""
    features = np.ascontiguousarray(FAMILIES[family](np.random.default_rng(len(family))), np.float32)
    n = len(features)
    for counts, count in ([0, n - 4, 4], 10), ([60, n - 60], 1), ([n // 2, 1, 0, n - n // 2 - 1], 200):
        expected = neighbours(features, [np.arange(n)], count)
        table = torch.from_numpy(features)
        found = on_ranks(counts, lambda shards: SearchOverRanks(shards, part(shards, table), count).run())  # noqa: B023
        got = torch.cat([each[0, :own] for each, own in zip(found, counts, strict=True)])
        np.testing.assert_array_equal(got, expected, f"{counts} {count}")


def test_rows_far_from_the_origin_come_by_twice(monkeypatch):
    """All ranks see them from one middle: float32 tells them apart."""
    passes, every = [], Shards.every
    monkeypatch.setattr(Shards, "every", lambda *given: passes.append(given[0].ranks.rank) or every(*given))
    rows = 1e3 + torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    on_ranks([50, 0, 70], lambda shards: SearchOverRanks(shards, part(shards, rows), 5).run())
    assert sorted(passes) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("counts", [[0, 90, 1], [40, 3, 48], [1, 0], [1, 1]], ids=str)
def test_divergence_from_neighbours_over_ranks(small, counts):
    """The same bits as in one process, on every rank, also where predictions are alike."""
    random, n = torch.Generator().manual_seed(sum(counts)), sum(counts)
    features = torch.randn(n, 3, generator=random)
    probabilities = torch.softmax(4 * torch.randn(n, 5, generator=random), 1)
    probabilities[::3] = probabilities[0] + 1e-6 * torch.rand(len(probabilities[::3]), 5, generator=random)
    nearest = nearest_neighbours(features, Partition.whole(n, 1), 4)
    expected = mean_divergence(probabilities, nearest)

    def work(shards: Shards) -> Tensor:
        return divergence_from_neighbours(shards, part(shards, features), part(shards, probabilities), 4)

    for found in on_ranks(counts, work):
        assert torch.equal(found, expected)
