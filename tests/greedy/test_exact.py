"""Every engine against the naive float64 greedy: the same picks, in the same order, and the same gains."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from tests import oracle
from tests.greedy.support import METHODS, PAIRS, check, problem_of, rows_of, run

SHAPES = [(1, 3, 1), (2, 1, 2), (3, 2, 2), (40, 5, 40), (64, 128, 20), (257, 33, 60), (1000, 20, 100)]


def clusters(rng: np.random.Generator, n: int, d: int, spread: float) -> np.ndarray:
    centres = 5 * rng.standard_normal((12, d))
    return (centres[rng.integers(0, 12, n)] + spread * rng.standard_normal((n, d))).astype(np.float32)


def normal(rng: np.random.Generator, n: int = 257, d: int = 33) -> np.ndarray:
    return rng.standard_normal((n, d)).astype(np.float32)


def repeated(rng: np.random.Generator) -> np.ndarray:
    return normal(rng, 70, 12)[rng.permutation(np.repeat(np.arange(70), 3))]


def with_zero_rows(rng: np.random.Generator) -> np.ndarray:
    features = normal(rng, 150, 9)
    features[rng.choice(150, 12, replace=False)] = 0
    return features


def nearly_repeated(rng: np.random.Generator) -> np.ndarray:
    base = normal(rng, 60, 10)[rng.integers(0, 60, 180)]
    return base + 1e-5 * normal(rng, 180, 10)


def mirrored(rng: np.random.Generator) -> np.ndarray:
    """Every row and its reverse: exact ties of rows whose float32 products round differently."""
    half = normal(rng, 40, 24)
    return np.concatenate([half, half[:, ::-1]])[rng.permutation(80)]


def heavy_tailed(rng: np.random.Generator) -> np.ndarray:
    return (normal(rng, 200, 8) * np.exp(2 * rng.standard_normal((200, 1)))).astype(np.float32)


FAMILIES = {
    "normal": normal,
    "non-negative": lambda rng: np.abs(normal(rng)),
    "clusters": lambda rng: clusters(rng, 300, 16, 1.0),
    "tight clusters": lambda rng: clusters(rng, 300, 16, 1e-2),
    "times 1e4": lambda rng: 1e4 * normal(rng),
    "times 1e-4": lambda rng: 1e-4 * normal(rng),
    "offset 1e3": lambda rng: 1e3 + normal(rng),
    "one column": lambda rng: normal(rng, 100, 1),
    "heavy tails": heavy_tailed,
    "repeated": repeated,
    "nearly repeated": nearly_repeated,
    "zero rows": with_zero_rows,
    "all zero": lambda rng: np.zeros((23, 4), np.float32),
    "all equal": lambda rng: np.repeat(normal(rng, 1, 7), 31, 0),
    "all equal, offset": lambda rng: np.repeat(1e3 + normal(rng, 1, 7), 31, 0),
}


SCALES = {
    "a far outlier": lambda rng: outlier(rng, 1e6),
    "rows of all sizes": lambda rng: (normal(rng, 150, 12) * 10 ** rng.uniform(-6, 6, (150, 1))).astype(
        np.float32
    ),
    "columns of all sizes": lambda rng: (normal(rng, 150, 12) * 10 ** rng.uniform(-6, 6, 12)).astype(
        np.float32
    ),
    "nearly one line": lambda rng: (
        np.outer(normal(rng, 150, 1), normal(rng, 12, 1)) + 1e-3 * normal(rng, 150, 12)
    ),
    "times 1e15": lambda rng: 1e15 * normal(rng, 150, 12),
    "mostly zeros": lambda rng: np.abs(normal(rng, 200, 30)) * (rng.random((200, 30)) < 0.1),
}


def outlier(rng: np.random.Generator, factor: float) -> np.ndarray:
    features = normal(rng, 150, 12)
    features[77] *= factor
    return features


def seeded(*words: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_random(method, metric, n, d, k):
    check(method, normal(seeded(n, d), n, d), k, metric=metric)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@pytest.mark.parametrize("family", FAMILIES)
def test_families(method, metric, family):
    features = np.ascontiguousarray(FAMILIES[family](seeded(family)), dtype=np.float32)
    check(method, features, min(80, len(features)), family, metric=metric)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@pytest.mark.parametrize("family", SCALES)
def test_scales(method, metric, family):
    """Magnitudes that float32 bounds find hard.

    Distances far below the largest norm are lost in float64 products too: one pick in sixty may differ.
    """
    for seed in range(3):
        features = np.ascontiguousarray(SCALES[family](seeded(family, seed)), dtype=np.float32)
        check(method, features, 60, f"{family} {seed}", metric=metric, gap=1e-6, share=0.98)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@pytest.mark.parametrize("family", ["repeated", "zero rows", "all equal", "tight clusters"])
def test_every_row_picked(method, metric, family):
    """k = n: the rows that add nothing come last, the lowest first."""
    features = FAMILIES[family](seeded(family))
    check(method, features, len(features), family, metric=metric)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_ties_go_to_the_lowest_row(method, metric):
    """200 small integer data sets, where most steps have several best rows, with tiny blocks and without."""
    wrong = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(2, 40)), int(rng.integers(1, 5))
        low = -2 if seed % 2 else 0
        features = rng.integers(low, 3, (n, d)).astype(np.float32)
        k = int(rng.integers(1, n + 1))
        block = {} if method == "herding" else {"block": (3, 8, 512)[seed % 3]}
        first = int(rng.integers(n)) if method == "k_center" else None
        start = {} if first is None else {"start": first}
        got = rows_of(run(method, features, k, metric=metric, **block, **start))
        expected, _ = oracle.greedy(problem_of(method, features, metric), k, first)
        if got != expected:
            step = next((t for t, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), len(got))
            wrong.append(
                f"seed {seed} ({n} x {d}, k={k}) step {step}: got {got[step:][:3]}, not {expected[step:][:3]}"
            )
    assert not wrong, f"{method}/{metric}: {len(wrong)} of 200 differ\n" + "\n".join(wrong[:8])


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_ties_that_float32_does_not_see(method, metric):
    for seed in range(12):
        features = np.ascontiguousarray(mirrored(seeded("mirrored", seed)))
        check(method, features, 30, f"seed {seed}", metric=metric)


@pytest.mark.parametrize("method", METHODS)
def test_picks_are_unique_and_in_range(method):
    features = normal(seeded(method), 90, 4)
    rows = rows_of(run(method, features, 90))
    assert sorted(rows) == list(range(90))


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_a_prefix_is_the_selection_for_a_smaller_budget(method, metric):
    features = clusters(seeded("prefix"), 400, 12, 1.0)
    long = run(method, features, 90, metric=metric)
    for k in (1, 2, 31):
        short = run(method, features, k, metric=metric)
        assert rows_of(short) == rows_of(long)[:k], f"{method}/{metric} k={k}"
        np.testing.assert_allclose(short.gains[0], long.gains[0, :k], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_input_is_left_alone_and_runs_repeat(method):
    features = normal(seeded("again"), 120, 6)
    before = features.copy()
    first, second = run(method, features, 30), run(method, features, 30)
    assert np.array_equal(features, before)
    assert rows_of(first) == rows_of(second)
    assert (first.gains == second.gains).all()
