"""CAL against its definition and known mistakes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastcore import Signals
from fastcore.budget import Partition
from fastcore.greedy.neighbours import nearest_neighbours
from fastcore.registry import Context, get_method
from tests.api.score_material import select, signals
from tests.score_oracle import cal_scores, groups_of, neighbours, ordered


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
