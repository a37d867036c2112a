"""Contextual diversity against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from fastcore import Signals
from tests.api.score_material import logits, select
from tests.score_oracle import Diversity, softmax, symmetric_divergences


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
