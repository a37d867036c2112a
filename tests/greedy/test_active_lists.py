"""Lists of what candidates still add to: the same picks with them and without, and fewer columns made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcore import LastLayerGradients
from fastcore.budget import Partition
from fastcore.greedy.active_lists import ActiveLists
from fastcore.greedy.facility_location import facility_location
from fastcore.greedy.reduced_coverage import ReducedCoverage
from fastcore.similarity import view
from tests.greedy.support import random_rows

ROWS, PICKS = 400, 40
ROOM = 16 * ROWS * 25  # bytes, half of which hold the longest lists that are kept


def data_of(kind: str) -> torch.Tensor | LastLayerGradients:
    rng = np.random.default_rng(3)
    x = random_rows(kind, ROWS, rng)
    if kind != "gradients":
        return torch.from_numpy(x)
    return LastLayerGradients(
        torch.from_numpy(x[:, :4] - x[:, :4].mean(1, keepdims=True)), torch.from_numpy(x)
    )


@pytest.fixture(autouse=True)
def without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of gradients by columns, too."""
    monkeypatch.setattr(ReducedCoverage, "serves", lambda _: False)


def run(data, metric: str, memory: int, **options):
    return facility_location(
        view(data, metric), Partition.whole(ROWS, PICKS), memory=memory, block=16, **options
    )


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "rbf"])
@pytest.mark.parametrize("kind", ["random", "integer", "duplicates", "gradients"])
def test_picks_are_the_same(metric: str, kind: str) -> None:
    data = data_of(kind)
    without, with_lists = run(data, metric, 0), run(data, metric, ROOM)
    assert torch.equal(with_lists.rows, without.rows)
    assert torch.equal(with_lists.gains, without.gains)
    assert with_lists.info["columns"] <= without.info["columns"]


def test_fewer_columns_are_made() -> None:
    data = data_of("random")
    without, with_lists = run(data, "cosine", 0), run(data, "cosine", ROOM)
    assert without.info["columns"] > 3 * ROWS
    assert with_lists.info["columns"] < 0.8 * without.info["columns"]


@pytest.mark.parametrize("more", [{"stop_at": 0.9}, {"preselected": torch.tensor([3, 77, 200])}])
def test_with_other_options(more) -> None:
    data = data_of("random")
    assert torch.equal(run(data, "cosine", ROOM, **more).rows, run(data, "cosine", 0, **more).rows)


def lists_after(similarity: torch.Tensor, coverage: torch.Tensor, error: float, room: int) -> ActiveLists:
    lists = ActiveLists(similarity.shape[1], room, torch.device("cpu"))
    lists._rows.fill_(-1)
    lists._values.fill_(torch.nan)  # as memory may be that nothing was written to
    lists.keep(torch.arange(len(similarity)), similarity, coverage, error)
    return lists


def test_what_a_list_holds() -> None:
    rng = torch.Generator().manual_seed(0)
    similarity, coverage = torch.rand(30, 30, generator=rng), torch.rand(30, generator=rng).double()
    error = 0.01
    active = similarity.double() > coverage - error
    lists = lists_after(similarity, coverage, error, room=15)
    fits = active.sum(1) <= 15
    assert 5 < int(fits.sum()) < 30
    assert torch.equal(lists.listed(torch.arange(30)), fits)
    out = torch.empty(30, 30)
    lists.similarity(torch.arange(30), fits, out)
    assert torch.equal(out[fits], similarity.masked_fill(~active, -torch.inf)[fits])


def test_bounds_follow_the_coverage() -> None:
    rng = torch.Generator().manual_seed(1)
    similarity, coverage = torch.rand(30, 30, generator=rng), torch.rand(30, generator=rng).double()
    error = 1e-3
    lists = lists_after(similarity, coverage, error, room=30)
    for grown in (coverage, coverage + 0.2, coverage + 0.4):
        bounds = torch.full((30,), 100.0, dtype=torch.float64)
        lists.outdate()
        lists.tighten(bounds, grown, error, block=4)
        gains = (similarity.double() - grown).clamp(min=0).sum(1)
        least = (similarity.double() - grown + error).clamp(min=0).sum(1)
        assert bool((bounds >= gains).all())
        assert torch.allclose(
            bounds, least, rtol=1e-9, atol=0
        )  # all were taken: their old bounds were the largest


def test_only_bounds_that_matter_are_taken() -> None:
    rng = torch.Generator().manual_seed(2)
    similarity, coverage = torch.rand(200, 200, generator=rng), torch.rand(200, generator=rng).double()
    lists = lists_after(similarity, coverage, 0.0, room=200)
    bounds = torch.full((200,), 1e-3, dtype=torch.float64)
    bounds[:10] = 1e3
    lists.tighten(bounds, coverage, 0.0, block=2)
    assert 10 <= lists.refreshed < 30
    assert bool((bounds[10 + 8 :] == 1e-3).any())


def test_room_follows_the_memory() -> None:
    cpu = torch.device("cpu")
    assert ActiveLists.within(8 * 1000 * 20, 1000, cpu).room == 20
    assert ActiveLists.within(1 << 40, 1600, cpu).room == 100
    assert ActiveLists.within(8 * 1000 - 1, 1000, cpu) is None
    assert ActiveLists.within(1 << 40, 15, cpu) is None
