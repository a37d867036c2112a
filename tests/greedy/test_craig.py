"""CRAIG: facility location on distances of gradients, and weights that count rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import fastcore
from fastcore import memory
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import facility_location
from tests import oracle
from tests.greedy.test_gradients import make, materialised


def craig(rows: LastLayerGradients, k: int, **options: Any) -> fastcore.Selection:
    return fastcore.select("craig", rows, k, progress=False, **options)


def test_weights_count_the_rows_of_each_pick() -> None:
    rows, _ = make("plain")
    chosen = craig(rows, 15)
    distances = np.sqrt(oracle.squared_distances(materialised(rows), materialised(rows)[chosen.indices]))
    expected = np.bincount(distances.argmin(1), minlength=15)
    # One more for each pick, the mistake of existing code, would sum to n + k.
    np.testing.assert_array_equal(chosen.weights, expected)
    assert chosen.weights.sum() == rows.n


def test_weights_stay_inside_a_class() -> None:
    rows, labels = make("plain")
    chosen = craig(rows, 15, labels=labels)
    dense = materialised(rows)
    for c in range(5):
        mine = (labels == c).numpy()
        picks = np.flatnonzero(mine[chosen.indices])
        distances = np.sqrt(oracle.squared_distances(dense[mine], dense[chosen.indices[picks]]))
        expected = np.bincount(distances.argmin(1), minlength=len(picks))
        np.testing.assert_array_equal(chosen.weights[picks], expected)


@pytest.mark.parametrize("balance", [False, True])
def test_picks_and_gains_count_all_rows(balance: bool) -> None:
    """Without classes too: a gain over the first batch only would be a fraction of these."""
    rows, labels = make("plain")
    chosen = craig(rows, 20, labels=labels, balance=balance)
    s = oracle.similarity(materialised(rows), "euclidean")
    sets = [np.flatnonzero(labels == c) for c in range(5)] if balance else [np.arange(rows.n)]
    for among in sets:
        places = np.flatnonzero(np.isin(chosen.indices, among))
        wanted, gains = oracle.greedy(oracle.FacilityLocation(s[np.ix_(among, among)]), len(places))
        assert chosen.indices[places].tolist() == among[wanted].tolist()
        np.testing.assert_allclose(chosen.gains[places], gains, rtol=1e-9, atol=1e-9)


def test_picks_do_not_depend_on_any_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = make("sure")
    expected = [craig(rows, 25), craig(rows, 25, labels=labels)]
    monkeypatch.setattr(facility_location, "PICKS_A_CALL", 2)
    for options in ({}, {"memory": 1}):
        for wanted, more in zip(expected, ({}, {"labels": labels}), strict=True):
            with memory.sizes(tile=20_000, batch=1):
                got = craig(rows, 25, **options, **more)
            assert got.indices.tolist() == wanted.indices.tolist()
            assert got.weights.tolist() == wanted.weights.tolist()
            np.testing.assert_allclose(got.gains, wanted.gains, rtol=1e-9)


def test_the_weighted_sum_is_within_the_distances() -> None:
    """What CRAIG promises: |sum of all gradients - weighted sum of the picks| <= sum of the distances."""
    rows, _ = make("plain")
    dense, chosen = materialised(rows), craig(rows, 30)
    error = np.linalg.norm(dense.sum(0) - chosen.weights @ dense[chosen.indices])
    distances = np.sqrt(oracle.squared_distances(dense, dense[chosen.indices])).min(1)
    assert error <= distances.sum()
    shift = oracle.euclidean_shift(dense)
    np.testing.assert_allclose(chosen.gains.sum(), rows.n * shift - distances.sum(), rtol=1e-9)


def test_rows_without_a_gradient() -> None:
    rows, _ = make("zeros")
    chosen = craig(rows, 40)
    assert np.isfinite(chosen.gains).all() and chosen.weights.sum() == rows.n
    silent = torch.from_numpy(np.flatnonzero(~rows.delta.numpy().any(1)))
    assert len(np.intersect1d(chosen.indices, silent.numpy())) <= 1  # they are all the same


def test_stop_at_and_metric() -> None:
    rows, labels = make("plain")
    assert 0 < len(craig(rows, 100, stop_at=0.8)) < 100
    for metric in ("cosine", "dot"):
        assert craig(rows, 10, metric=metric, labels=labels).weights.sum() == rows.n
    with pytest.raises(ValueError, match="stop_at"):
        craig(rows, 10, stop_at=1.5)
