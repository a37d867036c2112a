"""Facility location on gradients by bounds from few coordinates: the picks of float64 products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastcore import assignment
from fastcore.assignment import assign
from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import reduced_coverage
from fastcore.greedy.batches import batches
from fastcore.greedy.facility_location import facility_location
from fastcore.greedy.picks import Picks
from fastcore.greedy.reduced_coverage import ReducedCoverage
from fastcore.reduced_gradients import ReducedGradients
from fastcore.similarity import GradientSimilarity

N, CLASSES, WIDTH, K = 640, 5, 50, 70


def make(kind: str) -> LastLayerGradients:
    """Rows around a few centres, as in a trained network; the same with other signs, or duplicates; or none."""
    rng = np.random.default_rng(len(kind))
    labels = rng.integers(0, CLASSES, N)
    h = np.maximum(0, rng.standard_normal((CLASSES, WIDTH)) * 6)[labels] + rng.random((N, WIDTH))
    logits = rng.standard_normal((N, CLASSES)) + 6 * rng.random((N, 1)) * np.eye(CLASSES)[labels]
    delta = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(CLASSES)[labels]
    if kind == "mirrored":  # delta and h of another sign are nearly the same gradient
        sign = rng.choice([-1, 1], (N, 1))
        delta, h = delta * sign, h * sign
    elif kind == "duplicates":
        source = rng.integers(0, N // 3, N)
        delta, h = delta[source], h[source]
    elif kind == "nothing in common":
        delta, h = rng.standard_normal(delta.shape), rng.standard_normal(h.shape)
    elif kind == "no h":
        h = h * 0
    return LastLayerGradients(torch.from_numpy(delta).float(), torch.from_numpy(h).float())


KINDS = ("trained", "mirrored", "duplicates", "nothing in common", "no h")


def partition_of(balanced: bool) -> Partition:
    return Partition.by_label(torch.arange(N) % 9 % 4, K) if balanced else Partition.whole(N, K)


def without(monkeypatch: pytest.MonkeyPatch, *given: Any, **options: Any) -> Picks:
    with monkeypatch.context() as other:
        other.setattr(ReducedCoverage, "serves", lambda _: False)
        return facility_location(*given, **options)


def assert_same(mine: Picks, wanted: Picks) -> None:
    assert torch.equal(mine.rows, wanted.rows)
    torch.testing.assert_close(mine.gains, wanted.gains, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("balanced", [False, True])
def test_the_picks_of_a_matrix(kind: str, balanced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    view, partition = GradientSimilarity(make(kind), "euclidean"), partition_of(balanced)
    mine = facility_location(view, partition)
    assert_same(mine, without(monkeypatch, view, partition))
    if kind in ("trained", "mirrored") and not balanced:
        assert 0 < mine.info["refined_pairs"] < N**2 / 8
        assert mine.info["columns"] == 0  # no bounds were too loose


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("options", [{"stop_at": 0.9}, {"preselected": torch.tensor([3, 77, 500])}])
def test_from_the_middle(balanced: bool, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view, partition = GradientSimilarity(make("trained"), "euclidean"), partition_of(balanced)
    mine = facility_location(view, partition, **options)
    assert_same(mine, without(monkeypatch, view, partition, **options))
    assert mine.info["columns"] == 0


@pytest.mark.parametrize("kind", ["trained", "duplicates"])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("first", [0, 20, 70])
def test_bounds_too_loose_in_the_middle(
    kind: str, balanced: bool, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, partition = GradientSimilarity(make(kind), "euclidean"), partition_of(balanced)
    wanted = without(monkeypatch, view, partition)
    monkeypatch.setattr(reduced_coverage, "MEASURED", 0.0)
    monkeypatch.setattr(reduced_coverage, "FIRST", first)
    assert_same(facility_location(view, partition), wanted)


def test_an_early_end_leaves_the_first_picks() -> None:
    view, seen = GradientSimilarity(make("trained"), "euclidean"), set()
    batch = next(batches(Partition.whole(N, K), view.device, 1))
    rows = ReducedCoverage(view, batch, 1 << 30)
    first, _, _, (rows.coverage, rows.bounds) = rows.greedy(*arguments(rows, 1))
    wanted, gains, _, _ = rows.greedy(*arguments(rows, K))
    most = rows.pairs
    for pairs in range(0, most, most // 60):
        rows = ReducedCoverage(view, batch, 1 << 20)
        rows.coverage = torch.maximum(rows.coverage, rows.columns(first)[:, :, 0])
        rows.bounds[0, first] = -torch.inf
        with pytest.MonkeyPatch.context() as limits:
            limits.setattr(reduced_coverage, "MEASURED", pairs / N**2)
            limits.setattr(reduced_coverage, "FIRST", 0)
            picks, found, _, (coverage, _) = rows.greedy(*arguments(rows, K))
        count = int((picks >= 0).sum())
        assert (rows.candidates(7) == 7) == (count < K)  # the base goes on
        assert torch.equal(picks[:, :count], wanted[:, :count])
        torch.testing.assert_close(found[:, :count], gains[:, :count])
        at = torch.cat([first, picks[:, :count]], 1)
        torch.testing.assert_close(coverage, rows.columns(at).amax(2).clamp(min=0), rtol=1e-9, atol=1e-9)
        seen.add(count)
    assert len(seen) > 5 and min(seen) == 0


def arguments(rows: ReducedCoverage, most: int) -> tuple[Any, ...]:
    at = torch.arange(rows.n)[None]
    none = torch.full((1,), -torch.inf, dtype=torch.float64), torch.tensor([rows.n])
    return rows.similarities(at), at, torch.tensor([most]), *none, most


@pytest.mark.parametrize("entries", [0, 1000, 3000])
def test_no_room_for_lists(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    view, partition = GradientSimilarity(make("trained"), "euclidean"), partition_of(False)
    wanted = without(monkeypatch, view, partition)
    found = facility_location(view, partition, memory=8 * entries, block=100)
    assert_same(found, wanted)
    assert found.info["columns"] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["euclidean", "rbf"])
def test_the_nearest_picks(kind: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view, partition = GradientSimilarity(make(kind), metric), partition_of(True)
    rng = np.random.default_rng(1)
    # One ground set has no pick: its rows look at all.
    indices = torch.from_numpy(rng.permutation(np.nonzero(np.arange(N) % 9 % 4 != 2)[0])[:200])
    mine = assign(view, partition, indices)
    monkeypatch.setattr(assignment, "WORTH_BOUNDS", N + 1)
    assert torch.equal(mine, assign(view, partition, indices))


@pytest.mark.parametrize("kind", KINDS)
def test_what_coordinates_leave_out(kind: str) -> None:
    gradients = make(kind)
    reduced, h = ReducedGradients(gradients), gradients.h.double()
    apart = (h @ h.T - reduced.coordinates.double() @ reduced.coordinates.double().T).abs()
    left, length = reduced.left_out.double(), 1 + h.norm(dim=1)
    assert torch.all(apart <= left[:, None] * left + reduced.relative * length[:, None] * length)
    if kind == "trained":  # the centres are most of it
        assert float((left / h.norm(dim=1)).median()) < 0.2


def test_few_numbers_leave_nothing_out() -> None:
    whole = make("trained")
    reduced = ReducedGradients(LastLayerGradients(whole.delta, whole.h[:, :7].contiguous()))
    assert float((reduced.left_out / whole.h[:, :7].norm(dim=1)).max()) < 1e-4


def test_only_squares_that_float32_holds() -> None:
    view = GradientSimilarity(make("trained"), "euclidean")
    large = LastLayerGradients(view.gradients.delta * 1e12, view.gradients.h * 1e12)
    assert ReducedCoverage.serves(view)
    assert not ReducedCoverage.serves(GradientSimilarity(large, "euclidean"))
    assert not ReducedCoverage.serves(GradientSimilarity(view.gradients, "cosine"))


def test_gradients_alike_of_factors_with_other_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of rows whose deltas point away from each other, and whose h do: they are near."""
    rng = np.random.default_rng(0)
    sign = np.repeat([1.0, -1.02], 48)[:, None]  # lengths tell them apart
    delta = sign * (np.array([[-0.9, 0.5, 0.4]]) + 1e-3 * rng.standard_normal((96, 3)))
    h = np.sign(sign) * (9 + rng.random((96, 20)))
    gradients = LastLayerGradients(torch.from_numpy(delta).float(), torch.from_numpy(h).float())
    view, partition = GradientSimilarity(gradients, "euclidean"), Partition.whole(96, 20)
    mine = facility_location(view, partition)
    assert mine.info["passes"] == 1  # bounds tell enough
    assert_same(mine, without(monkeypatch, view, partition))
