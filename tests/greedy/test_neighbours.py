"""Nearest neighbours against differences of all pairs in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcore.budget import Partition
from fastcore.greedy import neighbours as module
from fastcore.greedy.neighbours import nearest_neighbours
from tests.score_oracle import groups_of, neighbours


def normal(rng: np.random.Generator, n: int = 150, d: int = 9) -> np.ndarray:
    return rng.standard_normal((n, d)).astype(np.float32)


FAMILIES = {
    "normal": normal,
    "integers": lambda rng: rng.integers(0, 3, (150, 3)).astype(np.float32),
    "one column": lambda rng: rng.integers(0, 20, (150, 1)).astype(np.float32),
    "repeated": lambda rng: normal(rng, 30)[rng.integers(0, 30, 150)],
    "all equal": lambda rng: np.repeat(normal(rng, 1), 150, 0),
    "all zero": lambda rng: np.zeros((150, 4), np.float32),
    "far from the origin": lambda rng: 1e3 + 1e-2 * normal(rng),
    "nearly repeated": lambda rng: normal(rng, 20)[rng.integers(0, 20, 150)] + 1e-4 * normal(rng),
    "times 1e10": lambda rng: 1e10 * normal(rng),
    "an outlier": lambda rng: normal(rng) * np.where(np.arange(150) == 77, 1e6, 1)[:, None],
    "wide": lambda rng: normal(rng, 120, 700),
    "mirrored": lambda rng: np.concatenate([(half := normal(rng, 75, 24)), half[:, ::-1]]),
}


def found(features: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    partition = Partition.by_label(torch.from_numpy(labels), 1)
    features = np.ascontiguousarray(features, np.float32)
    return nearest_neighbours(torch.from_numpy(features), partition, count).numpy()


@pytest.fixture(params=["whole", "tiles"])
def tiles(request, monkeypatch):
    if request.param == "tiles":
        monkeypatch.setattr(module, "KEYS", 16)
        monkeypatch.setattr(module, "QUERIES", 7)


@pytest.mark.parametrize("count", [1, 10, 200])
@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours(tiles, family, count):
    rng = np.random.default_rng(len(family))
    features = np.ascontiguousarray(FAMILIES[family](rng), np.float32)
    for classes in (1, 6):
        labels = rng.integers(0, classes, len(features))
        got = found(features, labels, count)
        expected = neighbours(features, groups_of(labels), count)
        np.testing.assert_array_equal(got, expected, f"{family} {classes} classes")


def test_small_sets_have_fewer_neighbours():
    labels = np.array([4, 4, 4, 7, 9, 9])
    got = found(np.arange(6, dtype=np.float32)[:, None], labels, 4)
    assert got.tolist() == [
        [1, 2, -1, -1],
        [0, 2, -1, -1],
        [1, 0, -1, -1],
        [-1, -1, -1, -1],
        [5, -1, -1, -1],
        [4, -1, -1, -1],
    ]


def test_one_row():
    assert found(np.ones((1, 3), np.float32), np.zeros(1, int), 3).tolist() == [[-1, -1, -1]]


def test_many_small_classes():
    rng = np.random.default_rng(0)
    features, labels = normal(rng, 4000, 5), rng.integers(0, 900, 4000)
    np.testing.assert_array_equal(found(features, labels, 3), neighbours(features, groups_of(labels), 3))


def test_neighbours_that_float32_confuses(tiles):
    """Distances that differ in the eighth digit, of rows ten times as long."""
    rng = np.random.default_rng(1)
    steps = (1 + 2.0**-20 * rng.permutation(100)).astype(np.float32)
    features = np.zeros((101, 40), np.float32)
    features[:100, 0], features[:, 1:] = steps, 30 * normal(rng, 1, 39)
    features[:100, 1] += 25 * rng.choice([-1, 1], 100)
    labels = np.zeros(101, int)
    np.testing.assert_array_equal(found(features, labels, 10), neighbours(features, groups_of(labels), 10))


def test_ties_that_rounding_hides():
    """A row and its reverse are as far from a palindrome; their sums of squares round differently."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        half, middle = normal(rng, 40, 25), normal(rng, 1, 25)
        order = rng.permutation(80)
        pairs = np.concatenate([half, half[:, ::-1]])[order]
        features = np.concatenate([middle + middle[:, ::-1], pairs])
        squared = ((half.astype(np.float64) - features[0]) ** 2).sum(1)
        last = squared.argsort()[4]  # the ninth neighbour is the first row of the fifth pair
        place = {number: row + 1 for row, number in enumerate(order)}
        near = [place[half_row + side] for half_row in squared.argsort()[:4] for side in (0, 40)]
        expected = {*near, min(place[last], place[last + 40])}
        assert set(found(features, np.zeros(81, int), 9)[0]) == expected, seed


def test_more_ties_that_rounding_hides_than_candidates(tiles):
    """Rows that have the same numbers in another order are as far from one whose numbers are all equal."""
    rng = np.random.default_rng(3)
    numbers = normal(rng, 1, 40)[0]
    features = np.stack([np.full(40, 0.3, np.float32), *(rng.permutation(numbers) for _ in range(60))])
    assert found(features, np.zeros(61, int), 9)[0].tolist() == list(range(1, 10))


def test_the_number_of_candidates_is_no_part_of_the_answer(monkeypatch):
    features = np.random.default_rng(2).integers(0, 4, (200, 4)).astype(np.float32)
    labels = np.zeros(200, int)
    expected = found(features, labels, 5)
    monkeypatch.setattr(module, "SPARE", 1)
    np.testing.assert_array_equal(found(features, labels, 5), expected)


def test_no_matrix_of_all_pairs():
    """The largest tensor of a search is a tile, not n x n."""
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.extend(
                t.numel() for t in (out if isinstance(out, tuple | list) else [out]) if torch.is_tensor(t)
            )
            return out

    with Watch():
        found(normal(np.random.default_rng(3), 6000, 4), np.zeros(6000, int), 10)
    assert max(sizes) <= module.KEYS * module.QUERIES
