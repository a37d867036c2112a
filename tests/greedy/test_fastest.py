"""The choice between ways to a sweep: by measurement, once, and without a trace in the picks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy import fastest, tensor_core_coverage
from fastcore.greedy.facility_location import facility_location
from fastcore.greedy.picks import Picks
from fastcore.greedy.rounded_products import RoundedProducts
from fastcore.numerics import assume_tensor_cores
from fastcore.ops import use_backend
from fastcore.similarity import view
from tests.ops.backends import CUDA, require

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "_known", {})
    monkeypatch.setattr(fastest, "_measured", [])


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the next measurements say; one that is not expected is an error."""
    ahead: list[float] = []
    monkeypatch.setattr(fastest, "timed", lambda device, work: (ahead.pop(0), work()))
    return ahead


def ways_of(race: fastest.Race, pieces: int, size: int = 1) -> list[str]:
    return [race.run(way := race.way(), size, lambda: way) for _ in range(pieces)]


def test_each_way_is_tried_and_the_fastest_is_kept(seconds: list[float]) -> None:
    seconds += [1.0, 5.0, 9.0, 3.0]  # the first piece of each does not count
    race = fastest.Race("work", ["a", "b"], CPU)
    assert fastest.news() == ""
    assert ways_of(race, 7) == ["a", "a", "b", "b", "b", "b", "b"] and not seconds
    assert (fastest.news(), fastest.news()) == ("a 5e+06 us, b 3e+06 us", "")
    assert ways_of(fastest.Race("work", ["a", "b"], CPU), 2) == ["b", "b"]
    for other in (("other", ["a", "b"]), ("work", ["b", "a"]), ("work", ["a", "b", "c"])):
        assert fastest.Race(*other, CPU).decided() is None


def test_pieces_of_other_sizes_are_compared_by_item(seconds: list[float]) -> None:
    race = fastest.Race("work", ["a", "b"], CPU)
    for way, size, time in (("a", 1, 1.0), ("a", 1, 1.0), ("b", 10, 5.0), ("b", 10, 5.0)):
        seconds.append(time)
        assert race.way() == way
        race.run(way, size, lambda: None)
    assert race.way() == "b"


def test_what_needs_no_measurement(seconds: list[float]) -> None:
    assert ways_of(fastest.Race("work", ["a"], CPU), 3) == ["a", "a", "a"]
    with fastest.use_way("b"):
        assert ways_of(fastest.Race("work", ["a", "b"], CPU), 3) == ["b", "b", "b"]
        seconds += [1.0] * 4
        assert ways_of(fastest.Race("work", ["a", "c"], CPU), 4) == ["a", "a", "c", "c"]


def test_a_time_is_that_of_the_work() -> None:
    taken, result = fastest.timed(CPU, lambda: sum(range(10**5)))
    assert taken > 0 and result == sum(range(10**5))


def rows(n: int = 300) -> Tensor:
    return torch.from_numpy(np.random.default_rng(7).standard_normal((n, 12)).astype(np.float32))


def select(there: bool, metric: str = "dot", data: Tensor | None = None) -> Picks:
    data = rows() if data is None else data
    with assume_tensor_cores(there):
        return facility_location(view(data, metric), Partition.whole(len(data), 6), memory=300_000, block=16)


@pytest.mark.parametrize("fast", tensor_core_coverage.WAYS)
def test_a_sweep_takes_the_fastest_way(
    fast: str, seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of 10 candidates: two for each way, and the rest by the one that is said to be the fastest."""
    monkeypatch.setattr(tensor_core_coverage, "backend_of", lambda *_: "cuda")
    monkeypatch.setattr(tensor_core_coverage, "TOGETHER", 10)
    monkeypatch.setattr(tensor_core_coverage.TensorCoreCoverage, "step", lambda self: 10)
    ways = tensor_core_coverage.WAYS
    seconds += itertools.chain(*((1.0, 0.5 if way == fast else 1.0) for way in ways))
    found = select(True)
    swept = 2 * 300  # before the first pick and behind it
    assert found.info["fused_columns"] == (40 if fast == "written" else swept - 20)
    assert list(fastest._known.values()) == [fast] and not seconds
    assert torch.equal(found.rows, select(False).rows)
    assert select(True).info["fused_columns"] == (0 if fast == "written" else swept)


@pytest.mark.parametrize("backend", ["simt", CUDA])
@pytest.mark.parametrize(("way", "metric"), [("fused", "cosine"), ("half", "dot"), ("half", "cosine")])
def test_picks_by_the_kernel(way: str, metric: str, backend: str) -> None:
    data = rows(280)
    with fastest.use_way(way), use_backend(require(backend)):
        found = select(True, metric, data.to("cuda") if backend == "cuda" else data)
    assert found.info["fused_columns"] >= 280
    assert torch.equal(found.rows, select(False, metric, data).rows)


@pytest.mark.parametrize("way", ["fused", "half"])
def test_sums_that_do_not_hold_are_not_used(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gains = RoundedProducts._gains
    monkeypatch.setattr(RoundedProducts, "_gains", lambda *arguments: gains(*arguments) * 0.9)
    with fastest.use_way(way):
        found = select(True)
    assert found.info["fused_columns"] == 0 and found.info["tensor_core_columns"] > 0
    assert torch.equal(found.rows, select(False).rows)
