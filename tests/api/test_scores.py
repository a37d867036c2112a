"""Methods that rank rows by a score, and contextual diversity, against their definitions and known mistakes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fastcore
from fastcore import LastLayerGradients, Signals
from fastcore.budget import Partition
from fastcore.greedy.neighbours import nearest_neighbours
from fastcore.registry import Context, get_method
from fastcore.signals.dynamics import Dynamics
from tests.score_oracle import (
    Diversity,
    cal_scores,
    groups_of,
    neighbours,
    ordered,
    softmax,
    symmetric_divergences,
)

UNCERTAINTY = {
    "least_confidence": lambda p: 1 - p.max(),
    "entropy": lambda p: -sum(x * math.log(x) for x in p if x > 0),
    "margin": lambda p: 1 - (np.sort(p)[-1] - np.sort(p)[-2]),
}
SCORE_METHODS = [*UNCERTAINTY, "cal", "el2n", "forgetting", "grand"]


def logits(seed: int = 0, n: int = 120, classes: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (3 * rng.standard_normal((n, classes)) + 5 * rng.standard_normal((n, 1))).astype(np.float32)


def signals(seed: int = 0, n: int = 120, classes: int = 6, width: int = 8) -> Signals:
    rng = np.random.default_rng(100 + seed)
    return Signals(
        embeddings=rng.standard_normal((n, width)).astype(np.float32),
        logits=logits(seed, n, classes),
        labels=rng.integers(0, classes, n),
    )


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


def select(method: str, data: object, k: int, **options) -> fastcore.Selection:
    return fastcore.select(method, data, k, progress=False, **options)


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


@pytest.mark.parametrize("labels", [None, "classes"])
@pytest.mark.parametrize("neighbour_count", [1, 10])
def test_cal_is_as_defined(labels, neighbour_count):
    data = signals(3, 90)
    classes = np.zeros(90, int) if labels is None else data.labels.numpy()
    options = {"balance": labels is not None, "neighbours": neighbour_count}
    got = select("cal", data, 40, **options)
    nearest = neighbours(data.embeddings.numpy(), groups_of(classes), neighbour_count)
    expected = cal_scores(data.probabilities.numpy(), nearest)
    np.testing.assert_allclose(got.scores, expected, rtol=1e-9, atol=1e-12)
    for group in groups_of(classes):
        mine = [row for row in got.indices if row in set(group)]
        assert mine == ordered(expected, rows=group)[: len(mine)]


def test_cal_of_small_sets():
    """Fewer neighbours than asked for, and none: a row that is alone in its class scores 0."""
    data = Signals(
        embeddings=[[0.0], [1], [2], [9]], logits=[[0.0, 0], [3, 0], [0, 5], [9, 0]], labels=[0, 0, 0, 1]
    )
    got = select("cal", data, 4)
    p = data.probabilities.numpy()
    assert got.scores[3] == 0
    np.testing.assert_allclose(got.scores, cal_scores(p, np.array([[1, 2], [0, 2], [0, 1], [-1, -1]])))
    assert select("cal", Signals(embeddings=[[1.0]], logits=[[1.0, 2]]), 1).scores.tolist() == [0]
    same = Signals(embeddings=np.zeros((30, 2)), logits=np.tile([[50.0, -60]], (30, 1)))
    assert select("cal", same, 3).scores.tolist() == [0] * 30


def test_cal_of_certain_rows_is_finite():
    p = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    partition, context = Partition.whole(4, 4), Context(torch.Generator(), 0, None, None, None)
    picks = get_method("cal").function(
        torch.arange(4.0)[:, None], torch.from_numpy(p), partition, context=context
    )
    assert bool(picks.scores.isfinite().all())
    np.testing.assert_allclose(
        picks.scores, cal_scores(p, neighbours(np.arange(4.0)[:, None], [np.arange(4)], 10))
    )


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


def test_cal_keeps_the_most_divergent():
    """A row among neighbours that are predicted otherwise comes first; published code keeps the others."""
    x = np.arange(12.0)[:, None]
    z = np.where(np.arange(12)[:, None] == 5, [[-4.0, 4]], [[4.0, -4]])
    got = select("cal", Signals(embeddings=x, logits=z), 1, neighbours=2)
    assert got.indices.tolist() == [5] and got.gains[0] == got.scores.max()


def test_cal_measures_from_the_neighbours_to_the_row():
    """KL(p_j || p_i) and KL(p_i || p_j) differ: the row that rules out what its neighbour expects scores more."""
    x = np.array([[0.0], [1.0]])
    p = np.array([[0.5, 0.5], [0.999, 0.001]])
    got = select("cal", Signals(embeddings=x, logits=np.log(p)), 2)
    assert got.scores[1] == pytest.approx(0.5 * math.log(0.5 / 0.999) + 0.5 * math.log(0.5 / 0.001), rel=1e-5)
    assert got.indices.tolist() == [1, 0]


def test_cal_leaves_the_row_itself_out():
    """Counting i as its own nearest neighbour adds a KL of 0 and loses the last neighbour."""
    data = signals(6, 40)
    one = select("cal", data, 5, neighbours=1, balance=False)
    assert (one.scores > 0).all()


def test_contextual_diversity_is_k_center_under_the_symmetric_divergence():
    p = softmax(logits(7)).astype(np.float32)
    got = select("contextual_diversity", p, 40, start=11)
    rows, nearest = [11], symmetric_divergences(p, p[11])
    for _ in range(39):
        rows.append(int(nearest.argmax()))
        assert got.gains[len(rows) - 1] == pytest.approx(nearest.max(), rel=1e-9)
        nearest = np.minimum(nearest, symmetric_divergences(p, p[rows[-1]]))
        nearest[rows] = 0
    assert got.indices.tolist() == rows
    one_hot = select("contextual_diversity", np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]], 5, start=0)
    assert one_hot.indices.tolist() == [0, 2, 4, 1, 3]
    assert np.isfinite(one_hot.gains[1:]).all()


def test_contextual_diversity_options():
    p = softmax(logits(8)).astype(np.float32)
    full = select("contextual_diversity", p, 60, start="mean")
    assert full.indices[0] == symmetric_divergences(p, p.astype(np.float64).mean(0)).argmin()
    stopped = select("contextual_diversity", p, 60, start="mean", stop_at=float(full.gains[10]))
    assert stopped.indices.tolist() == full.indices[:10].tolist()
    with pytest.raises(ValueError, match="start must be one of 'random', 'mean', got 'middle'"):
        select("contextual_diversity", p, 3, start="middle")
    with pytest.raises(ValueError, match="start must be a row below 120, got 120"):
        select("contextual_diversity", p, 3, start=120)
    with pytest.raises(ValueError, match="stop_at must be in"):
        select("contextual_diversity", p, 3, stop_at=-1.0)


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


@pytest.mark.parametrize("kind", ["float32", "float64", "Signals"])
def test_contextual_diversity_goes_on_from_rows_outside(kind):
    """Every pick is the farthest from all rows outside the data and all picks before it."""
    z = logits(4, 150)
    p = softmax(z.astype(np.float64))
    p = p if kind == "float64" else p.astype(np.float32)
    outside, inside = p[:40], p[40:]
    data = Signals(logits=z[40:]) if kind == "Signals" else inside
    made = select("contextual_diversity", data, 30, preselected=outside)
    assert made.info["preselected"] == 40
    problem = Diversity(inside.astype(np.float64), external=outside.astype(np.float64))
    for row, gain in zip(made.indices.tolist(), made.gains.tolist(), strict=True):
        values = problem.raw_values()
        assert gain == pytest.approx(values[row], rel=1e-6) and values[row] >= values.max() * (1 - 1e-6)
        problem.fold(row)
    whole = select("contextual_diversity", p, 110, preselected=np.arange(40))
    assert [row - 40 for row in whole.indices[:30]] == made.indices.tolist()


@pytest.mark.parametrize(
    ("option", "error"),
    [({"keep": "best"}, "keep must be one of"), ({"ties": None}, "ties must be one of")],
)
@pytest.mark.parametrize("method", SCORE_METHODS)
def test_wrong_options(method, option, error):
    with pytest.raises(ValueError, match=error):
        select(method, data_of(method)[0], 3, **option)


@pytest.mark.parametrize("value", [0, -1, 2.5, "10"])
def test_wrong_number_of_neighbours(value):
    with pytest.raises((ValueError, TypeError), match="neighbours must be an integer"):
        select("cal", signals(), 3, neighbours=value)


def test_cal_uses_the_features_as_they_are():
    """Neighbours by Euclidean distance: scaling a column changes them, whatever the cosine says."""
    data = signals(9, 60)
    stretched = data.embeddings * torch.tensor([100.0] + [1.0] * 7)
    nearest = nearest_neighbours(stretched, Partition.whole(60, 1), 10).numpy()
    got = select("cal", Signals(embeddings=stretched, logits=data.logits), 5)
    np.testing.assert_allclose(got.scores, cal_scores(data.probabilities.numpy(), nearest), rtol=1e-9)
