"""Budgets: largest remainder against exact fractions, and every error by its text."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastcore.budget import Partition, resolve_budget, share


def exact_shares(k: int, sizes: list[int], room: list[int]) -> list[int]:
    """Largest remainder with room, one class at a time, in fractions."""
    # The common rate r with sum_c min(room_c, r * size_c) = k: classes fill up in order of room / size.
    rate, left, open_size = Fraction(0), k, sum(s for s, r in zip(sizes, room, strict=True) if r)
    for c in sorted((c for c in range(len(sizes)) if room[c]), key=lambda c: Fraction(room[c], sizes[c])):
        if open_size * Fraction(room[c], sizes[c]) > left:
            break
        left, open_size = left - room[c], open_size - sizes[c]
    rate = Fraction(left, open_size) if open_size else None
    quotas = [
        Fraction(r) if rate is None else min(Fraction(r), rate * s) for s, r in zip(sizes, room, strict=True)
    ]
    shares = [int(q) for q in quotas]
    by_remainder = sorted(range(len(sizes)), key=lambda c: (shares[c] - quotas[c], c))
    for c in by_remainder[: k - sum(shares)]:
        shares[c] += 1
    return shares


@st.composite
def classes(draw):
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=12))
    room = [draw(st.integers(0, size)) if draw(st.booleans()) else size for size in sizes]
    return draw(st.integers(0, sum(room))), sizes, room


@given(classes())
def test_share_is_the_largest_remainder(case):
    k, sizes, room = case
    got = share(k, torch.tensor(sizes), torch.tensor(room)).tolist()
    assert sum(got) == k
    assert all(0 <= g <= r for g, r in zip(got, room, strict=True))
    assert got == exact_shares(k, sizes, room)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10), st.data())
def test_share_is_within_one_of_the_quota_when_all_rows_are_free(sizes, data):
    k = data.draw(st.integers(0, sum(sizes)))
    got = share(k, torch.tensor(sizes), torch.tensor(sizes)).tolist()
    for g, size in zip(got, sizes, strict=True):
        assert abs(g - Fraction(k * size, sum(sizes))) < 1


@pytest.mark.parametrize(
    ("k", "sizes", "room", "expected"),
    [
        (3, [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]),  # equal remainders: the first classes
        (10, [47, 16, 158, 81, 98], [47, 16, 158, 81, 98], [1, 0, 4, 2, 3]),
        (2, [98, 1, 1], [98, 1, 1], [2, 0, 0]),  # a class may get nothing
        (10, [90, 9, 1], [0, 9, 1], [0, 9, 1]),  # a full class is no place for a pick
        (100, [900, 90, 10], [50, 90, 10], [50, 45, 5]),  # what does not fit is shared in proportion
        (10**9, [10**9, 10**9], [10**9, 10**9], [5 * 10**8, 5 * 10**8]),  # products stay inside 64 bits
    ],
)
def test_share_by_hand(k, sizes, room, expected):
    assert share(k, torch.tensor(sizes), torch.tensor(room)).tolist() == expected


def test_share_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="between 0 and the 3 rows that can be picked, got 4"):
        share(4, torch.tensor([2, 5]), torch.tensor([1, 2]))


@given(st.lists(st.integers(-3, 5), min_size=1, max_size=60), st.data())
def test_partition_by_label_holds_each_row_once_in_its_class(labels, data):
    k = data.draw(st.integers(1, len(labels)))
    y = np.array(labels)
    partition = Partition.by_label(torch.from_numpy(y), k)
    assert sorted(partition.rows.tolist()) == list(range(len(y)))
    assert partition.sets == len(np.unique(y))
    assert int(partition.budgets.sum()) == k
    for c, label in enumerate(np.unique(y)):
        rows = partition.rows[partition.offsets[c] : partition.offsets[c + 1]].tolist()
        assert rows == np.flatnonzero(y == label).tolist()
        assert int(partition.sizes[c]) == len(rows)
    assert partition.membership.tolist() == sorted(np.unique(y, return_inverse=True)[1].tolist())


def test_preselected_rows_stay_in_their_class_but_lower_its_room():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    partition = Partition.by_label(labels, 4, preselected=torch.tensor([0, 1, 2]))
    assert partition.budgets.tolist() == [1, 3]
    assert partition.rows.tolist() == list(range(8))


def test_partition_of_a_million_rows():
    labels = torch.randint(0, 1000, (1_280_000,))
    partition = Partition.by_label(labels, 12_345)
    assert int(partition.budgets.sum()) == 12_345
    assert int(partition.budgets.max() - partition.budgets.min()) <= 4


def test_partition_is_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        whole, labelled = Partition.whole(3, 2), Partition.by_label(torch.tensor([1, 0, 1], device="cpu"), 2)
    for partition in (whole, labelled):
        for member in (partition.rows, partition.offsets, partition.budgets):
            assert member.device.type == "cpu" and member.dtype == torch.int64


@pytest.mark.parametrize(
    ("n", "fraction", "expected"),
    [
        (10, 0.25, 3),
        (10, 0.24, 2),
        (10, 0.15, 2),
        (10, 0.05, 1),
        (10, 0.001, 1),
        (10, 1, 10),
        (1, 0.5, 1),
        (3, 0.5, 2),
    ],
)
def test_fraction_rounds_half_up_and_is_at_least_one(n, fraction, expected):
    assert resolve_budget(n, fraction=fraction) == expected


@pytest.mark.parametrize("k", [3, np.int32(3), np.uint8(3), torch.tensor(3)])
def test_k_may_be_any_integer(k):
    assert resolve_budget(5, k) == 3


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, ValueError, "give exactly one of k and fraction, got neither"),
        (
            {"k": 2, "fraction": 0.5},
            ValueError,
            "give exactly one of k and fraction, got k=2 and fraction=0.5",
        ),
        ({"k": 0}, ValueError, "k must be between 1 and 10, got k=0: there are 10 rows"),
        ({"k": -1}, ValueError, "k must be between 1 and 10, got k=-1: there are 10 rows"),
        ({"k": 11}, ValueError, "k must be between 1 and 10, got k=11: there are 10 rows"),
        ({"k": 2.0}, TypeError, "k must be an integer, got 2.0; for a share of the rows use fraction="),
        ({"k": "2"}, TypeError, "k must be an integer, got '2'; for a share of the rows use fraction="),
        ({"k": True}, TypeError, "k must be an integer, got True"),
        ({"fraction": 0}, ValueError, "fraction must be in (0, 1], got 0"),
        ({"fraction": 1.5}, ValueError, "fraction must be in (0, 1], got 1.5"),
        ({"fraction": -0.5}, ValueError, "fraction must be in (0, 1], got -0.5"),
        ({"fraction": float("nan")}, ValueError, "fraction must be in (0, 1], got nan"),
        ({"fraction": True}, TypeError, "fraction must be a number in (0, 1], got True"),
        ({"fraction": "half"}, TypeError, "fraction must be a number in (0, 1], got 'half'"),
        (
            {"k": 8, "preselected": 3},
            ValueError,
            "k must be between 1 and 7, got k=8: there are 10 rows of which 3 are preselected",
        ),
        (
            {"fraction": 1.0, "preselected": 3},
            ValueError,
            "k must be between 1 and 7, got fraction=1.0 (10 picks): "
            "there are 10 rows of which 3 are preselected",
        ),
    ],
)
def test_bad_budgets_say_what_they_got(arguments, kind, message):
    with pytest.raises(kind) as caught:
        resolve_budget(10, **arguments)
    assert str(caught.value) == message
