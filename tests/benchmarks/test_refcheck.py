"""The check of the picks: it must flag a wrong pick, accept a tie, and agree with the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.compare import explain
from benchmarks.refcheck import (
    FacilityLocation,
    GraphCut,
    Herding,
    KCenter,
    Objective,
    Verdict,
    check_list,
    compare,
    judge,
)
from tests import oracle

FEATURES = torch.rand(40, 6, generator=torch.Generator().manual_seed(3))
SIMILARITY = torch.from_numpy(oracle.similarity(FEATURES.numpy(), "cosine"))


def objectives() -> dict[str, Objective]:
    return {
        "k_center": KCenter(FEATURES),
        "facility_location": FacilityLocation(features=FEATURES),
        "facility_location_precomputed": FacilityLocation(similarity=SIMILARITY.float()),
        "graph_cut": GraphCut(FEATURES, lam=0.7),
        "herding": Herding(FEATURES),
    }


def defined(name: str, picks: list[int]) -> float:
    """The value of a set, from its definition; for herding and k-center what the last pick was worth."""
    numbers, s = FEATURES.numpy().astype(np.float64), SIMILARITY.numpy()
    if name == "k_center":
        return float(np.linalg.norm(numbers[picks[:-1]] - numbers[picks[-1]], axis=1).min())
    if name == "herding":
        error = numbers.mean(0) - numbers[picks].mean(0)
        return -float((error**2).sum()) * len(picks) ** 2
    if name == "graph_cut":
        return oracle.graph_cut_value(s, picks, 0.7)
    return oracle.facility_location_value(s, picks)


def greedy(objective: Objective, k: int, first: int | None = None) -> np.ndarray:
    picks = [] if first is None else [first]
    while len(picks) < k:
        gains = objective.exact(picks, range(len(objective.estimates([]))))
        gains[picks] = -np.inf
        picks.append(int(gains.argmax()))
    return np.array(picks)


@pytest.mark.parametrize("name", objectives())
def test_gains_are_those_of_the_definition(name: str) -> None:
    objective = objectives()[name]
    prefix, rows = [5, 17, 2], [0, 9, 33]
    expected = [defined(name, [*prefix, row]) for row in rows]
    if name not in ("k_center", "herding"):
        expected = [value - defined(name, prefix) for value in expected]
    np.testing.assert_allclose(objective.exact(prefix, rows), expected, rtol=2e-6)
    np.testing.assert_allclose(objective.estimates(prefix)[rows], expected, rtol=1e-5)


@pytest.mark.parametrize("name", objectives())
def test_greedy_picks_are_right(name: str) -> None:
    objective = objectives()[name]
    picks = greedy(objective, 12, first=4 if name == "k_center" else None)
    assert judge(objective, picks, steps=12).word == "right"
    assert compare(objective, picks, picks.copy()).word == "same"


@pytest.mark.parametrize("name", objectives())
@pytest.mark.parametrize("step", [1, 6, 11])
def test_a_wrong_pick_is_flagged(name: str, step: int) -> None:
    objective = objectives()[name]
    right = greedy(objective, 12, first=4 if name == "k_center" else None)
    gains = objective.exact(right[:step], range(len(FEATURES)))
    gains[right] = -np.inf
    wrong = right.copy()
    wrong[step] = gains.argmax()  # the best of the rows that greedy never picks
    verdict = compare(objective, right, wrong)
    assert verdict.word == f"differs at {step}"
    assert verdict.ours_short == 0 and verdict.theirs_short > 1e-6
    assert explain("peer", compare(objective, wrong, right))  # the wrong one is ours now
    assert judge(objective, wrong, steps=12).word.startswith("wrong at ")
    assert explain("fastcore", judge(objective, wrong, steps=12))


@pytest.mark.parametrize("name", objectives())
def test_equal_rows_are_a_tie(name: str) -> None:
    twice = torch.cat([FEATURES, FEATURES])
    if name == "facility_location_precomputed":
        objective: Objective = FacilityLocation(similarity=SIMILARITY.float().repeat(2, 2))
    else:
        kind = {"k_center": KCenter, "graph_cut": GraphCut, "herding": Herding}.get(name, FacilityLocation)
        objective = kind(twice)
    ours = greedy(objective, 8, first=0 if name == "k_center" else None)
    twins = (ours + 40) % 80
    step = next(t for t in range(1, 8) if twins[t] not in ours[:t])
    theirs = ours.copy()
    theirs[step] = twins[step]
    assert compare(objective, ours, theirs).word == f"tie at {step}"
    assert explain("peer", compare(objective, ours, theirs)) is None


@pytest.mark.parametrize(("gap", "word"), [(5e-7, "tie at 1"), (2e-6, "differs at 1")])
def test_the_tolerance_is_relative_to_the_best(gap: float, word: str) -> None:
    scale = 1e4
    line = torch.tensor([[0.0], [1.0], [1.0 - gap], [0.3]], dtype=torch.float64) * scale
    assert compare(KCenter(line), np.array([0, 1]), np.array([0, 2])).word == word


def test_two_picks_that_are_equally_bad_are_no_tie() -> None:
    line = torch.tensor([[0.0], [5.0], [1.0], [-1.0]])
    verdict = compare(KCenter(line), np.array([0, 2]), np.array([0, 3]))
    assert verdict.word == "differs at 1"
    assert verdict.ours_short == pytest.approx(0.8)


def test_another_start_is_another_problem() -> None:
    verdict = compare(KCenter(FEATURES), np.array([0, 1]), np.array([3, 1]))
    assert verdict.word == "differs at 0"
    assert explain("peer", verdict)


def test_rounding_of_a_peer_does_not_fail_a_run_but_another_definition_does() -> None:
    assert explain("peer", Verdict("differs at 7", 7, 0.0, 2e-5)) is None
    assert explain("peer", Verdict("differs at 7", 7, 0.0, 0.02))
    assert explain("peer", Verdict("differs at 7", 7, 2e-6, 0.0))
    assert explain("peer", Verdict("same")) is None


@pytest.mark.parametrize("picks", [[0, 1], [0, 1, 1], [0, 1, 10], [0, 1, -1], [0, 1, 2, 3]])
def test_a_list_of_picks_has_k_different_rows(picks: list[int]) -> None:
    with pytest.raises(ValueError, match="not 3 different rows of 10"):
        check_list(np.array(picks), rows=10, k=3)
