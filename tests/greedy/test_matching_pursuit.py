"""gradmatch against a pursuit over the gradients themselves, with scipy's non-negative least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import pursuits
from fastcore.greedy.matching_pursuit import matching_pursuit
from fastcore.greedy.picks import Picks
from fastcore.ops import use_backend
from tests.greedy.support import gains_of, rows_of
from tests.ops.backends import CUDA, require


def made(seed: int, n: int, classes: int = 4, width: int = 6, kind: str = "plain") -> LastLayerGradients:
    """Gradients of n rows: as a network gives them, or hostile."""
    rng = np.random.default_rng(seed)
    h = np.abs(rng.standard_normal((n, width))) + 0.2
    logits = h @ rng.standard_normal((width, classes)) + rng.standard_normal((n, classes))
    labels = rng.integers(0, classes, n)
    if kind == "one class":
        labels[:] = 1
    if kind == "duplicates":
        again = rng.integers(0, max(1, n // 3), n)
        h, logits, labels = h[again], logits[again], labels[again]
    gradients = LastLayerGradients.from_logits(*(torch.from_numpy(x) for x in (logits, labels, h)))
    if kind == "zeros":
        gradients.delta[torch.from_numpy(rng.random(n) < 0.5)] = 0
    if kind in ("large", "small"):
        gradients.h.mul_(1e4 if kind == "large" else 1e-4)
        gradients.delta.mul_(1e2 if kind == "large" else 1e-2)
    return gradients


def matrix(gradients: LastLayerGradients) -> np.ndarray:
    """(n, C (D + 1)) float64."""
    delta, h = gradients.delta.double().cpu().numpy(), gradients.h.double().cpu().numpy()
    return (delta[:, :, None] * np.insert(h, 0, 1.0, 1)[:, None, :]).reshape(len(h), -1)


def solve(g: np.ndarray, b: np.ndarray, rows: list[int], ridge: float) -> np.ndarray:
    """w >= 0 that minimises |b - sum w g|^2 + ridge |w|^2 over some rows."""
    tall = np.concatenate([g[rows].T, np.sqrt(ridge) * np.eye(len(rows))])
    return nnls(tall, np.concatenate([b, np.zeros(len(rows))]), maxiter=100 * len(rows) + 100)[0]


def pursue(
    g: np.ndarray,
    k: int,
    b: np.ndarray | None = None,
    lam: float = 1e-3,
    stop_at: float | None = None,
    preselected: tuple[int, ...] = (),
) -> tuple[list[int], list[float], np.ndarray, int]:
    """Picks, gains, weights (of preselected rows first), and how many were picked before nothing correlated."""
    b = g.mean(0) if b is None else b
    norms = (g**2).sum(1)
    ridge, scale = lam * norms.mean(), np.sqrt(b @ b * norms.max())
    rows, gains, w = list(preselected), [], np.zeros(0)
    if rows:
        w = solve(g, b, rows, ridge)
    while len(gains) < k:
        rest = b - w @ g[rows]
        if stop_at is not None and rest @ rest <= stop_at * (b @ b):
            return rows, gains, w, len(gains)
        c = g @ rest
        open_ = np.setdiff1d(np.arange(len(g)), rows)
        best = c[open_].max()
        if best <= 1e-6 * scale:
            break
        p = open_[c[open_] >= best - (1e-12 * best + 1e-12 * scale)][0]
        rows.append(int(p))
        gains.append(c[p])
        w = solve(g, b, rows, ridge)
    found = len(gains)
    rest, correlations = np.setdiff1d(np.arange(len(g)), rows), g @ (b - w @ g[rows])
    key = np.round(g[rest] @ b / max(1e-12 * scale, 1e-300))
    for p in rest[np.argsort(-key, kind="stable")][: k - found]:
        rows.append(int(p))
        gains.append(correlations[p])
    return rows, gains, np.append(w, np.zeros(k - found)), found


def run(gradients: LastLayerGradients, k: int, **options: Any) -> Picks:
    return matching_pursuit(gradients, options.pop("partition", Partition.whole(gradients.n, k)), **options)


def unnormalised(picks: Picks, ground_set: int = 0) -> np.ndarray:
    """The weights w for which sum w g is near b."""
    scale = picks.info["scale"]
    factor = scale if isinstance(scale, float) else scale[ground_set]
    assert picks.weights is not None
    return picks.weights[ground_set, : len(rows_of(picks, ground_set))].numpy() * factor


def assert_pursuit(picks: Picks, g: np.ndarray, k: int, ground_set: int = 0, **options: Any) -> None:
    rows, gains, w, _ = pursue(g, k, **options)
    skip = len(options.get("preselected", ()))
    size = np.sqrt((g**2).sum(1).max()) * np.linalg.norm(options.get("b", g.mean(0)))
    assert rows_of(picks, ground_set) == rows[skip:]
    np.testing.assert_allclose(gains_of(picks, ground_set), gains, rtol=1e-7, atol=1e-9 * size)
    np.testing.assert_allclose(
        unnormalised(picks, ground_set), w[skip:], rtol=1e-5, atol=1e-7 * w.max(initial=0)
    )


KINDS = ("plain", "one class", "duplicates", "zeros", "large", "small")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 7), (60, 20), (150, 60), (40, 40)])
def test_picks_gains_and_weights(kind: str, n: int, k: int) -> None:
    gradients = made(n + k, n, kind=kind)
    assert_pursuit(run(gradients, k), matrix(gradients), k)


@pytest.mark.parametrize("backend", ["reference", "cpu", "simt-forward", CUDA])
@pytest.mark.parametrize("kind", ["plain", "duplicates"])
def test_every_backend_picks_alike(backend: str, kind: str) -> None:
    """And the penalty does not depend on the device."""
    gradients = made(3, 90, kind=kind)
    name = require(backend)
    device = "cuda" if name == "cuda" else "cpu"
    with use_backend(name):
        assert_pursuit(run(gradients.to(device), 40), matrix(gradients), 40)


@pytest.mark.parametrize("kind", ["plain", "one class", "duplicates", "zeros"])
def test_without_a_table_of_all_products(kind: str) -> None:
    gradients = made(5, 400, kind=kind)
    full, memory = run(gradients, 30), 16 * 30 * 30
    assert 8 * 30 * 400 > memory
    tight = run(gradients, 30, memory=memory)
    assert rows_of(tight) == rows_of(full)
    np.testing.assert_allclose(tight.gains, full.gains, atol=1e-9 * float(full.gains.max()))
    np.testing.assert_allclose(unnormalised(tight), unnormalised(full), rtol=1e-6, atol=1e-9)
    with_rows = run(gradients, 20, memory=memory, preselected=torch.tensor([3, 17, 200]))
    assert_pursuit(with_rows, matrix(gradients), 20, preselected=(3, 17, 200))
    with pytest.raises(MemoryError, match=r"30 x 30 .* lower k"):
        run(gradients, 30, memory=memory - 1)


def test_the_conditions_of_the_least_squares_hold() -> None:
    """No weight is negative, no active row has a slope, no other picked row would enter."""
    gradients = made(4, 200, classes=3, width=5)
    g, k = matrix(gradients), 120
    picks = run(gradients, k)
    rows, w = rows_of(picks), unnormalised(picks)
    b, norms = g.mean(0), (g**2).sum(1)
    slope = g[rows] @ (b - w @ g[rows]) - 1e-3 * norms.mean() * w
    scale = np.sqrt(b @ b * norms.max())
    assert np.all(w >= 0)
    assert 0 < np.count_nonzero(w) < k
    assert np.abs(slope[w > 0]).max() <= 1e-11 * scale
    assert slope[w == 0].max() <= 2e-9 * scale
    assert picks.info["active"] == np.count_nonzero(w)
    assert picks.info["residual"] == pytest.approx(np.linalg.norm(b - w @ g[rows]) / np.linalg.norm(b))


def test_a_row_that_left_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """More steps than picks are needed here; with one step a call the state goes from call to call."""
    gradients = made(4, 200, classes=3, width=5)
    monkeypatch.setattr(pursuits, "STEPS_A_CALL", 1)
    picks = run(gradients, 60)
    assert picks.info["steps"] > 60
    assert_pursuit(picks, matrix(gradients), 60)


def test_no_row_enters_for_rounding_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tolerance of an entry were 0, rows could come and go for ever."""
    monkeypatch.setattr(pursuits, "SETTLED", 1e-300)
    gradients = made(4, 200, classes=3, width=5, kind="duplicates")
    assert len(rows_of(run(gradients, 120))) == 120


# ---- traps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-4, 1e3])
def test_the_penalty_is_relative(factor: float) -> None:
    """An absolute one makes the picks of small gradients the top k by <g, b>."""
    gradients = made(7, 120)
    scaled = LastLayerGradients(gradients.delta * factor, gradients.h)
    one, other = run(gradients, 30), run(scaled, 30)
    assert rows_of(one) == rows_of(other)
    np.testing.assert_allclose(unnormalised(one), unnormalised(other), rtol=1e-4, atol=1e-6)
    g = matrix(gradients)
    top = np.argsort(-(g @ g.mean(0)), kind="stable")[:30]
    assert len(set(rows_of(other)) & set(top.tolist())) < 20


@pytest.mark.parametrize("kind", ["one class", "duplicates", "zeros"])
def test_exactly_k_rows_none_twice_the_shortfall_by_rank(kind: str) -> None:
    """Beyond the rank nothing correlates; the rest is not random, and not missing."""
    gradients = made(9, 50, classes=2, width=2, kind=kind)
    g = matrix(gradients)
    rows, _, w, found = pursue(g, 45)
    picks = run(gradients, 45)
    assert found < 45, "the case has no shortfall"
    assert len(rows_of(picks)) == len(set(rows_of(picks))) == 45
    assert rows_of(picks) == rows
    assert not unnormalised(picks)[found:].any()
    fill = g[rows[found:]] @ g.mean(0)
    assert np.all(np.diff(fill) <= 1e-9 * np.abs(fill).max())
    assert picks.info["active"] == np.count_nonzero(w)


def test_gradients_that_are_all_zero() -> None:
    picks = run(LastLayerGradients(torch.zeros(6, 3), torch.ones(6, 2)), 4)
    assert rows_of(picks) == [0, 1, 2, 3]
    assert picks.weights is not None and picks.weights.tolist() == [[0.25] * 4]
    assert picks.info["scale"] == 0.0 and picks.info["active"] == 0


# ---- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [0.5, 0.05, 1e-3])
def test_stop_at(stop_at: float) -> None:
    gradients = made(13, 100)
    g = matrix(gradients)
    picks = run(gradients, 60, stop_at=stop_at)
    assert 0 < len(rows_of(picks)) < 60
    assert_pursuit(picks, g, 60, stop_at=stop_at)
    assert picks.info["residual"] ** 2 <= stop_at
    w = unnormalised(picks)[:-1]
    shorter = rows_of(picks)[:-1]
    if shorter:
        w = solve(g, g.mean(0), shorter, 1e-3 * (g**2).sum(1).mean())
        rest = g.mean(0) - w @ g[shorter]
        assert rest @ rest > stop_at * (g.mean(0) @ g.mean(0))


@pytest.mark.parametrize("lam", [1e-6, 0.1])
def test_lam(lam: float) -> None:
    gradients = made(17, 80)
    assert_pursuit(run(gradients, 25, lam=lam), matrix(gradients), 25, lam=lam)


def test_preselected_rows_are_in_the_sum_and_not_picked() -> None:
    gradients = made(19, 80)
    g, first = matrix(gradients), (5, 70, 31, 2)
    picks = run(gradients, 20, preselected=torch.tensor(first))
    assert_pursuit(picks, g, 20, preselected=first)
    assert not set(first) & set(rows_of(picks))
    w = pursue(g, 20, preselected=first)[2]
    np.testing.assert_allclose(picks.info["preselected_weights"], w[:4], rtol=1e-6, atol=1e-8)


def test_the_mean_of_validation_rows() -> None:
    gradients, others = made(23, 80), made(24, 33)
    groups = torch.zeros(33, dtype=torch.int64)
    picks = run(gradients, 20, validation=(others, groups))
    assert_pursuit(picks, matrix(gradients), 20, b=matrix(others).mean(0))
    assert rows_of(picks) != rows_of(run(gradients, 20))


# ---- classes ----------------------------------------------------------------------------------------------


def classes_of(n: int, sets: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, sets, n) ** 2 % sets)


@pytest.mark.parametrize("memory", [None, 30_000])
@pytest.mark.parametrize("validated", [False, True])
def test_balanced_is_one_pursuit_a_class(memory: int | None, validated: bool) -> None:
    gradients, labels = made(29, 260, kind="zeros"), classes_of(260, 6)
    partition = Partition.by_label(labels, 70)
    options: dict[str, Any] = {"memory": memory, "preselected": torch.tensor([0, 1, 2, 9])}
    others, groups = made(30, 90), torch.arange(90) % partition.sets
    if validated:
        options["validation"] = others, groups
    picks = run(gradients, 70, partition=partition, **options)
    g = matrix(gradients)
    for c in range(partition.sets):
        rows = partition.rows[partition.offsets[c] : partition.offsets[c + 1]].numpy()
        before = tuple(int(np.flatnonzero(rows == row)[0]) for row in (0, 1, 2, 9) if row in rows)
        given = {"b": matrix(others)[groups == c].mean(0)} if validated else {}
        expected, gains, w, _ = pursue(g[rows], int(partition.budgets[c]), preselected=before, **given)
        assert rows_of(picks, c) == rows[expected[len(before) :]].tolist()
        np.testing.assert_allclose(gains_of(picks, c), gains, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(unnormalised(picks, c), w[len(before) :], rtol=1e-5, atol=1e-8)


def test_weights_of_a_class_add_up_to_its_share_of_the_rows() -> None:
    gradients, labels = made(31, 120), classes_of(120, 4)
    partition = Partition.by_label(labels, 30)
    picks = run(gradients, 30, partition=partition)
    assert picks.weights is not None
    np.testing.assert_allclose(picks.weights.sum(1), partition.sizes / 120)
    g = matrix(gradients)
    total = sum(
        unnormalised(picks, c) @ g[rows_of(picks, c)] * int(partition.sizes[c]) for c in range(partition.sets)
    )
    assert np.linalg.norm(total / 120 - g.mean(0)) < 0.5 * np.linalg.norm(g.mean(0))


def test_a_class_without_a_budget_leaves_its_share_to_the_others() -> None:
    gradients, labels = made(37, 50), torch.tensor([0] * 24 + [1] * 25 + [2])
    partition = Partition.by_label(labels, 2)
    picks = run(gradients, 2, partition=partition)
    assert picks.weights is not None
    np.testing.assert_allclose(picks.weights.sum(1), [24 / 49, 25 / 49, 0])
    assert picks.info["scale"][2] == 0


def test_a_class_without_validation_rows() -> None:
    gradients, labels = made(41, 60), classes_of(60, 3)
    partition = Partition.by_label(labels, 12)
    with pytest.raises(ValueError, match=r"validation must have rows of every class .* none of class 1"):
        run(gradients, 12, partition=partition, validation=(made(1, 5), torch.zeros(5, dtype=torch.int64)))
