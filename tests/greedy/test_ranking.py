"""Picks by score against a plain sort of every ground set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcore.budget import Partition
from fastcore.greedy.ranking import ranked
from tests.greedy.support import gains_of, rows_of
from tests.score_oracle import groups_of, ordered


def rank(scores, partition, **options):
    seed = options.pop("seed", 0)
    options.setdefault("hard", "high")
    generator = torch.Generator().manual_seed(seed)
    return ranked(torch.as_tensor(scores, dtype=torch.float64), partition, generator=generator, **options)


def whole(scores, k, **options) -> list[int]:
    return rows_of(rank(scores, Partition.whole(len(scores), k), **options))


SCORES = st.one_of(
    st.integers(-3, 3).map(float),
    st.sampled_from([np.inf, -np.inf, 0.0, -0.0, 1e-300, 1e300]),
    st.floats(-2, 2).map(lambda score: round(score, 6)),
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_ground_set_is_sorted(data):
    n = data.draw(st.integers(1, 40))
    scores = np.array(data.draw(st.lists(SCORES, min_size=n, max_size=n)))
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
    hard = data.draw(st.sampled_from(["high", "low"]))
    keep = data.draw(st.sampled_from(["hard", "easy", "middle"]))
    fixed = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n - 1))
    k = data.draw(st.integers(1, n - len(fixed)))
    given_rows = torch.tensor(fixed, dtype=torch.int64) if fixed else None
    partition = Partition.by_label(torch.from_numpy(labels), k, preselected=given_rows)
    options = dict(hard=hard, keep=keep, preselected=given_rows)
    picks = rank(scores, partition, ties="row", **options)
    shuffled = rank(scores, partition, seed=7, **options)
    assert picks.rows.dtype == torch.int64 and picks.gains.dtype == torch.float64
    assert picks.scores.tolist() == scores.tolist()
    for g, group in enumerate(groups_of(labels)):
        budget = int(partition.budgets[g])
        expected = ordered(scores, hard, keep, [row for row in group if row not in fixed])[:budget]
        assert rows_of(picks, g) == expected
        assert gains_of(picks, g).tolist() == scores[expected].tolist()
        # Whatever the order of ties, the scores of the picks are the same.
        other = rows_of(shuffled, g)
        assert scores[other].tolist() == scores[expected].tolist()
        assert set(other) <= set(group) - set(fixed)


def test_the_middle_is_around_the_median():
    scores = np.array([5.0, 1, 4, 2, 3])
    assert whole(scores, 5, keep="middle") == [4, 2, 3, 0, 1]
    assert whole(scores, 3, keep="middle") == [4, 2, 3]
    assert whole(scores, 5, keep="middle", hard="low") == [4, 3, 2, 1, 0]
    assert whole(scores[:4], 4, keep="middle") == [2, 3, 0, 1], "of two at the centre the harder comes first"


def test_the_middle_is_by_rank_and_not_by_value():
    assert whole([0.0, 1, 2, 3, 1e9, np.inf, np.inf], 1, keep="middle") == [3]


def test_preselected_rows_do_not_move_the_middle():
    """The median is that of the rows that can be picked."""
    scores = np.arange(9.0)
    assert whole(scores, 1, keep="middle") == [4]
    assert whole(scores, 1, keep="middle", preselected=torch.tensor([8, 7, 6, 5])) == [2]


def test_infinity_is_the_hardest():
    scores = [1.0, np.inf, 3.0, np.inf, 2.0]
    assert whole(scores, 5, ties="row") == [1, 3, 2, 4, 0]
    assert whole(scores, 5, ties="row", keep="easy") == [0, 4, 2, 1, 3]
    picks = rank(scores, Partition.whole(5, 5), ties="row")
    assert gains_of(picks).tolist() == [np.inf, np.inf, 3, 2, 1]


def test_easy_is_the_reverse_of_hard():
    scores = np.random.default_rng(0).standard_normal(50)
    for hard in ("high", "low"):
        assert whole(scores, 50, hard=hard) == whole(scores, 50, hard=hard, keep="easy")[::-1]


@pytest.mark.parametrize("keep", ["hard", "easy", "middle"])
def test_random_ties_do_not_leak_the_order_of_the_rows(keep):
    """Of 100 equal rows each is picked about as often, in every place."""
    picked = np.array([whole(np.zeros(100), 20, keep=keep, seed=seed) for seed in range(400)])
    counts = np.bincount(picked.ravel(), minlength=100)
    assert 40 <= counts.min() and counts.max() <= 125, counts  # 80 each, +- 5 standard deviations
    first, second = picked.mean(1), np.arange(20)
    assert abs(first.mean() - 49.5) < 2
    assert abs(np.corrcoef(picked.mean(0), second)[0, 1]) < 0.7
    assert len({tuple(row) for row in picked}) == 400, "seeds give different orders"


def test_random_ties_repeat_for_a_seed():
    scores = np.random.default_rng(1).integers(0, 4, 60).astype(float)
    assert whole(scores, 30, seed=3) == whole(scores, 30, seed=3)
    assert whole(scores, 30, seed=3) != whole(scores, 30, seed=4)


@pytest.mark.parametrize("keep", ["hard", "easy"])
def test_a_prefix_is_the_selection_for_a_smaller_budget(keep):
    scores = np.random.default_rng(2).integers(0, 5, 40).astype(float)
    assert whole(scores, 11, keep=keep) == whole(scores, 40, keep=keep)[:11]


def test_rounding_is_no_rank():
    """Sums of the same numbers in another order differ in the last bits: that is a tie."""
    scores = [0.6 - 1e-16, 0.3 + 0.2 + 0.1, 0.1 + 0.2 + 0.3]
    assert scores == sorted(set(scores))
    assert whole(scores, 3, ties="row") == [0, 1, 2]
    assert whole([1.0, 1 + 1e-9, 1 - 1e-9], 3, ties="row") == [1, 0, 2]


def test_a_class_may_give_all_its_rows_or_none():
    labels = torch.tensor([0] * 3 + [1] * 50 + [2])
    scores = np.arange(54.0)
    picks = rank(scores, Partition.by_label(labels, 54))
    assert [len(rows_of(picks, g)) for g in range(3)] == [3, 50, 1]
    picks = rank(scores, Partition.by_label(labels, 1))
    assert [rows_of(picks, g) for g in range(3)] == [[], [52], []]


def test_rows_outside_the_data_change_nothing():
    scores = np.random.default_rng(3).standard_normal(20)
    outside = torch.full((2, 3), 5.0)
    assert whole(scores, 20, preselected=outside) == whole(scores, 20)


@pytest.mark.parametrize(("name", "value"), [("keep", "hardest"), ("ties", "rows"), ("keep", None)])
def test_wrong_options(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be one of .*got {value!r}"):
        whole([1.0, 2.0], 1, **{name: value})
