"""Methods that rank rows by a score, against their definitions and known mistakes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fastcore
from fastcore import LastLayerGradients, Signals
from fastcore.registry import get_method
from fastcore.signals.dynamics import Dynamics
from tests.api.score_material import logits, select, signals
from tests.score_oracle import (
    groups_of,
    ordered,
    softmax,
)

UNCERTAINTY = {
    "least_confidence": lambda p: 1 - p.max(),
    "entropy": lambda p: -sum(x * math.log(x) for x in p if x > 0),
    "margin": lambda p: 1 - (np.sort(p)[-1] - np.sort(p)[-2]),
}
SCORE_METHODS = [*UNCERTAINTY, "cal", "el2n", "forgetting", "grand"]


def record(correct: list[list[int]], seen: list[list[int]] | None = None) -> Dynamics:
    """A record of one run; rows of the arguments are epochs."""
    right = torch.tensor(correct, dtype=torch.bool)[None]
    there = torch.ones_like(right) if seen is None else torch.tensor(seen, dtype=torch.bool)[None]
    numbers = torch.where(there, right.float(), torch.nan)
    return Dynamics(right, numbers, numbers, numbers, numbers, there)


def data_of(method: str) -> tuple[object, int]:
    """Data that a score method takes, with ties in it, and its number of rows."""
    if method == "forgetting":
        rng = np.random.default_rng(5)
        return record(rng.integers(0, 2, (6, 120)).tolist()), 120
    return signals(), 120


# ---- definitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", UNCERTAINTY)
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_uncertainty_is_as_defined(method, scale):
    p = softmax(scale * logits(1))
    got = select(method, p, 30)
    expected = np.array([UNCERTAINTY[method](row) for row in p])
    np.testing.assert_allclose(got.scores, expected, rtol=1e-9, atol=1e-15)
    assert got.indices.tolist() == ordered(expected)[:30]
    np.testing.assert_array_equal(got.gains, got.scores[got.indices])
    np.testing.assert_allclose(
        select(method, p.astype(np.float32), 30).scores, expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("method", UNCERTAINTY)
def test_uncertainty_of_certain_and_of_undecided_rows(method):
    """One-hot rows, an even row, and one class only: 0 log 0 = 0 and no NaN."""
    p = np.array([[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]], np.float32)
    expected = {
        "least_confidence": [0, 0.75, 0.5],
        "entropy": [0, math.log(4), math.log(2)],
        "margin": [0, 1, 1],
    }
    np.testing.assert_allclose(select(method, p, 3).scores, expected[method], atol=1e-15)
    assert select(method, np.ones((3, 1), np.float32), 3).scores.tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", UNCERTAINTY)
def test_rows_that_are_nearly_certain_keep_their_order(method):
    """1 - max p in floats is 0 for all of these; the sum of the others is not."""
    small = 10.0 ** -np.arange(9, 30)
    p = np.stack([np.ones(21), small, small / 2], 1)[np.random.default_rng(0).permutation(21)]
    for rows in (p.astype(np.float32), p):
        picked = select(method, rows, 21).indices
        assert picked.tolist() == np.argsort(-rows[:, 1].astype(np.float64)).tolist()


def test_el2n_and_grand_from_signals():
    data = signals(4)
    p, y = softmax(data.logits.numpy()), np.eye(6)[data.labels]
    errors = np.linalg.norm(p - y, axis=1)
    h = data.embeddings.double().numpy()
    el2n, grand = select("el2n", data, 50, balance=False), select("grand", data, 50, balance=False)
    np.testing.assert_allclose(el2n.scores, errors, rtol=1e-5)
    np.testing.assert_allclose(grand.scores, errors * np.sqrt(1 + (h**2).sum(1)), rtol=1e-5)
    assert el2n.indices.tolist() == ordered(el2n.scores)[:50]
    assert grand.indices.tolist() == ordered(grand.scores)[:50]
    gradients = LastLayerGradients((p - y).astype(np.float32), data.embeddings)
    full = np.linalg.norm(gradients.materialise().double().numpy(), axis=1)
    np.testing.assert_allclose(select("grand", gradients, 50).scores, full, rtol=1e-5)


# ---- mistakes of published code ------------------------------------------------------------------


def test_probabilities_are_checked_a_tile_at_a_time(monkeypatch):
    monkeypatch.setattr("fastcore.inputs._TILE", 8)
    p = np.full((7, 4), 0.25, np.float32)
    assert len(fastcore.select("entropy", p, 7)) == 7
    for row in range(7):
        for bad in ([0.25, 0.25, 0.25, 0.26], [1.5, -0.5, 0, 0], [0.5, 0.75, -0.25, 0]):
            given = p.copy()
            given[row] = bad
            with pytest.raises(ValueError, match=f"data must hold probabilities, .* at row {row}: "):
                fastcore.select("entropy", given, 2)


def test_least_confidence_is_of_probabilities_and_not_of_logits():
    """The row with the smallest largest logit is the surer one here."""
    z = np.array([[4.0, 4.0, 4.0], [2.0, -9.0, -9.0]], np.float32)
    assert z.max(1).argmin() == 1
    assert select("least_confidence", Signals(logits=z), 1).indices.tolist() == [0]
    many = logits(2)
    assert ordered(-many.max(1)) != ordered(1 - softmax(many).max(1)), "the mistake changes the order"
    assert select("least_confidence", Signals(logits=many), 120).indices.tolist() == ordered(
        1 - softmax(many).max(1)
    )


@pytest.mark.parametrize("method", UNCERTAINTY)
def test_unbalanced_order_is_that_of_one_class(method):
    """Without labels the most uncertain rows come first, as they do within a class."""
    p = softmax(logits(3))
    free, one = select(method, p, 20), select(method, p, 20, labels=np.zeros(120, int))
    assert free.indices.tolist() == one.indices.tolist()
    assert (np.diff(free.gains) <= 0).all() and free.gains[0] == free.scores.max()


def test_forgetting_puts_rows_that_were_never_learned_first():
    """Counted as 0 they would come last."""
    history = [[0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 1, 1]]
    got = select("forgetting", record(history), 4, ties="row")
    assert got.scores.tolist() == [np.inf, 2, 0, 1]
    assert got.indices.tolist() == [0, 1, 3, 2]
    assert got.gains.tolist() == [np.inf, 2, 1, 0]


def test_forgetting_counts_over_the_epochs_in_which_a_row_was_seen():
    """Not seen in between is no event of its own, and does not hide one."""
    correct = [[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 1]]
    seen = [[1, 1, 1], [0, 0, 1], [1, 1, 1], [1, 1, 0]]
    assert select("forgetting", record(correct, seen), 3).scores.tolist() == [1, 1, 0]


# ---- what all score methods share ----------------------------------------------------------------


@pytest.mark.parametrize("method", SCORE_METHODS)
@pytest.mark.parametrize("keep", ["hard", "easy", "middle"])
@pytest.mark.parametrize("balance", [False, True])
def test_keep(method, keep, balance):
    data, n = data_of(method)
    classes = np.arange(n) % 4
    got = select(method, data, 30, keep=keep, ties="row", labels=classes, balance=balance)
    groups = groups_of(classes) if balance else [np.arange(n)]
    for group in groups:
        mine = [row for row in got.indices.tolist() if row in set(group)]
        assert len(mine) in (30 // len(groups), 30 // len(groups) + 1)
        assert mine == ordered(got.scores, "high", keep, group)[: len(mine)]


@pytest.mark.parametrize("method", SCORE_METHODS)
def test_preselected_rows_are_not_picked_again(method):
    data, n = data_of(method)
    fixed = select(method, data, 10, balance=False, ties="row").indices.tolist()
    rest = select(method, data, n - 10, preselected=fixed, balance=False, ties="row")
    whole = select(method, data, n, balance=False, ties="row").indices.tolist()
    assert rest.indices.tolist() == [row for row in whole if row not in fixed]


def test_ties_are_seeded():
    data = record(np.zeros((2, 50), int).tolist())
    first, again = select("forgetting", data, 20, seed=1), select("forgetting", data, 20, seed=1)
    assert first.indices.tolist() == again.indices.tolist()
    assert first.indices.tolist() != select("forgetting", data, 20, seed=2).indices.tolist()
    assert first.indices.tolist() != list(range(20))
    assert select("forgetting", data, 20, ties="row").indices.tolist() == list(range(20))


@pytest.mark.parametrize("method", SCORE_METHODS)
def test_what_the_registry_says(method):
    entry = get_method(method)
    assert (entry.order, entry.hard) == ("score", "high")
    assert entry.options["keep"] == "hard" and entry.options["ties"] == "random"
    assert entry.metrics == () and entry.cost and entry.paper and entry.summary.endswith(".")


@pytest.mark.parametrize(
    ("option", "error"),
    [({"keep": "best"}, "keep must be one of"), ({"ties": None}, "ties must be one of")],
)
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_wrong_options(method, option, error):
    with pytest.raises(ValueError, match=error):
        select(method, data_of(method)[0], 3, **option)
