"""Facility location over ranks: a table or lists of their own rows, and no more passes than one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastcore.budget import Partition
from fastcore.distributed.coverage import CoverageOverRanks
from fastcore.distributed.facility_location import facility_location
from fastcore.distributed.shards import Shards
from fastcore.greedy.facility_location import facility_location as alone
from fastcore.greedy.picks import Picks
from fastcore.similarity import view
from tests.distributed.data import data_of
from tests.distributed.threads import on_ranks

COUNTS = [300, 1, 299]
TABLE, LISTS, NOTHING = 1 << 24, 300_000, 1
"""Bytes for a table, for lists and blocks, and for blocks only."""


def chosen(kind: str, metric: str, k: int, memory: int, **settings: Any) -> tuple[Picks, Picks]:
    """The picks of one process, and of the first of several ranks."""
    data = data_of(kind)[: sum(COUNTS)]
    data = torch.from_numpy(data) if not hasattr(data, "delta") else data
    whole = view(data, metric)
    partition = Partition.whole(len(data), k)

    def work(shards: Shards) -> Picks:
        local = view(data[shards.start : shards.start + shards.count], metric)
        local.parameter = whole.parameter
        return facility_location(shards, local, partition, memory=memory, **settings)

    first, *others = on_ranks(COUNTS, work)
    for other in others:
        assert torch.equal(first.rows, other.rows) and torch.equal(first.gains, other.gains)
        assert first.info == other.info
    return alone(whole, partition, memory=memory, **settings), first


@pytest.mark.parametrize(("kind", "metric"), [("random", "cosine"), ("random", "rbf"), ("ties", "dot")])
@pytest.mark.parametrize("memory", [TABLE, LISTS, NOTHING])
def test_picks_and_passes_are_those_of_one_process(kind, metric, memory):
    expected, given = chosen(kind, metric, 25, memory)
    assert torch.equal(given.rows, expected.rows)
    torch.testing.assert_close(given.gains, expected.gains, rtol=1e-9, atol=1e-9)
    assert given.info["passes"] <= expected.info["passes"] + 1
    assert (given.info["columns"] == 0) == (memory == TABLE)


def test_lists_save_columns():
    without, with_lists = (chosen("random", "cosine", 150, memory)[1] for memory in (NOTHING, LISTS))
    assert torch.equal(with_lists.rows, without.rows)
    assert with_lists.info["columns"] < 0.8 * without.info["columns"]


def test_no_pick_is_made_behind_the_target():
    some = chosen("random", "cosine", 400, TABLE, stop_at=0.9)[1]
    count = int((some.rows >= 0).sum())
    assert count < 200
    assert some.info["evaluations"] == chosen("random", "cosine", count, TABLE)[1].info["evaluations"]


@pytest.mark.parametrize("memory", [TABLE, NOTHING])
def test_gains_that_are_no_numbers_are_an_error_and_no_endless_loop(monkeypatch, memory):
    exact = CoverageOverRanks.exact
    monkeypatch.setattr(CoverageOverRanks, "exact", lambda *given: exact(*given) * torch.nan)
    with pytest.raises(
        RuntimeError, match="internal error in facility_location: after 0 picks a pass made no"
    ):
        chosen("random", "cosine", 5, memory)


@pytest.mark.parametrize("memory", [TABLE, LISTS])
def test_bounds_are_never_below_the_gains(monkeypatch, memory):
    greedy = CoverageOverRanks.greedy

    def checked(state, *given):
        found = greedy(state, *given)
        coverage, bounds = found[3]
        every = torch.arange(state.shards.n)[None]
        columns = state.shards.columns(state.local, every)
        gains = state.ranks.sum((columns - coverage[0, :, None]).clamp_(min=0).sum(0))
        assert bool((bounds[0] >= gains * (1 - 1e-12) - 1e-12)[bounds[0] > -torch.inf].all())
        return found

    monkeypatch.setattr(CoverageOverRanks, "greedy", checked)
    expected, given = chosen("random", "cosine", 30, memory)
    assert torch.equal(given.rows, expected.rows)
