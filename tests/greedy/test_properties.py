"""Properties that hold for any data, on examples that hypothesis makes and shrinks."""

from __future__ import annotations

import numpy as np
import pytest

from tests import oracle
from tests.greedy.support import PAIRS, problem_of, rows_of, run

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")


@st.composite
def small_integers(draw):
    """Up to 14 rows of small integers, where most steps are ties."""
    n, d = draw(st.integers(1, 14)), draw(st.integers(1, 3))
    cells = draw(st.lists(st.integers(-3, 3), min_size=n * d, max_size=n * d))
    return np.array(cells, np.float32).reshape(n, d)


def sizes(method: str, block: int) -> dict[str, int]:
    return {} if method == "herding" else {"block": block}


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@hypothesis.settings(max_examples=60)
@hypothesis.given(data=st.data(), features=small_integers(), block=st.sampled_from([1, 2, 5, 256]))
def test_naive_greedy(method, metric, data, features, block):
    n = len(features)
    fixed = sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=min(3, n - 1))))
    k = data.draw(st.integers(1, n - len(fixed)))
    options = {"preselected": fixed} if fixed else {}
    start = {"start": data.draw(st.integers(0, n - 1))} if method == "k_center" and not fixed else {}
    got = rows_of(run(method, features, k, metric=metric, **options, **start, **sizes(method, block)))
    expected, _ = oracle.greedy(problem_of(method, features, metric, **options), k, start.get("start"))
    assert got == expected


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@hypothesis.settings(max_examples=25)
@hypothesis.given(features=small_integers(), power=st.integers(-20, 20))
def test_scale_does_not_matter(method, metric, features, power):
    """A power of two changes no mantissa: all default parameters follow the scale, and so do the picks."""
    if not features.any():
        return  # the default ridge of zeros has no scale
    n = len(features)
    assert rows_of(run(method, features, n, metric=metric)) == rows_of(
        run(method, np.ldexp(features, power), n, metric=metric)
    )


@pytest.mark.parametrize(
    ("method", "metric"), [pair for pair in PAIRS if pair[1] in ("euclidean", "rbf") and pair[0] != "log_det"]
)
@hypothesis.settings(max_examples=25)
@hypothesis.given(features=small_integers(), offset=st.integers(-50, 50))
def test_place_does_not_matter(method, metric, features, offset):
    """Methods that look at distances, or at differences from the mean, do not see a shift of all rows."""
    n = len(features)
    moved = rows_of(run(method, features + np.float32(offset), n, metric=metric))
    assert moved == rows_of(run(method, features, n, metric=metric))


@pytest.mark.parametrize(("method", "metric"), PAIRS)
@hypothesis.settings(max_examples=25)
@hypothesis.given(data=st.data(), features=small_integers())
def test_a_prefix_is_a_selection(method, metric, data, features):
    n = len(features)
    k = data.draw(st.integers(1, n))
    long = rows_of(run(method, features, n, metric=metric))
    assert rows_of(run(method, features, k, metric=metric)) == long[:k]
