"""Selection while training goes on from a checkpoint with the same rows."""

from __future__ import annotations

import io

import pytest
import torch

from fastcore.train import TrainConfig, fit
from fastcore.train.reselection import Reselection
from tests.train.bars import images, network, rows_by_epoch


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")


def saved_and_loaded(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("method", ["uniform", "gradmatch", "forgetting"])
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_state_goes_on_with_the_same_rows(method, stop):
    def chooser():
        return Reselection(method, images(), k=12, every=2, warm_start=0.3, epochs=8, seed=3)

    whole, model = chooser(), network()
    expected = rows_by_epoch(whole, 8, model)
    first = chooser()
    assert first.warm_epochs == 1
    rows_by_epoch(first, stop, model)
    second = chooser()
    second.load_state_dict(saved_and_loaded(first.state_dict()))
    assert second.count == first.count and second.seconds == first.seconds
    if first.selection is not None:
        assert second.selection.indices.tolist() == first.selection.indices.tolist()
        assert second.selection.info["method"] == method and len(second.selection) == 12
    again = second.choose(stop - 1, model)  # the epoch that was under way
    assert again.indices.tolist() == expected[stop - 1]
    rows, rest = again, []
    for epoch in range(stop, 8):
        rows = second.choose(epoch, model) or rows
        rest.append(rows.indices.tolist())
    assert rest == expected[stop:]
    weights = whole.rows().weights
    assert (weights is None) == (method != "gradmatch")
    assert weights is None or torch.equal(weights, rows.weights)


def test_a_state_of_other_settings_is_refused():
    state = Reselection("uniform", images(), k=12, every=2).state_dict()
    for other, words in (
        (Reselection("margin", images(), k=12, every=2), "method='margin', got 'uniform'"),
        (Reselection("uniform", images(), k=13, every=2), "k=13, got 12"),
        (Reselection("uniform", images(), k=12, every=2, seed=1), "seed=1, got 0"),
        (Reselection("uniform", images(), k=12, every=2, options={"weights": "cluster"}), "options="),
    ):
        with pytest.raises(ValueError, match=words):
            other.load_state_dict(state)


class Interrupted(Reselection):
    """Ctrl-C as an epoch begins."""

    def choose(self, epoch, network, recorder=None):
        if epoch == 5:
            raise KeyboardInterrupt
        return super().choose(epoch, network, recorder)


@pytest.mark.parametrize("method", ["gradmatch", "forgetting"])
def test_a_training_that_was_broken_off_goes_on_bit_for_bit(method, tmp_path):
    config = TrainConfig(epochs=8, batch_size=16, augment=False, learning_rate=0.05)

    def train(kind, path):
        kind.__name__ = "Reselection"  # checkpoints tell apart kinds of subsets by name
        model = network()
        chooser = kind(method, images(), k=24, every=2, warm_start=0.4, epochs=8)
        settings = {"subset": chooser, "record": True, "checkpoint": path, "checkpoint_seconds": 0.0}
        result = fit(model, images(), config, test=images(60, seed=1), **settings)
        return model, chooser, result

    model, chooser, result = train(Reselection, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(type("Interrupted", (Interrupted,), {}), tmp_path / "parts.pt")
    again, resumed, outcome = train(Reselection, tmp_path / "parts.pt")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    assert [line["loss"] for line in result.history] == [line["loss"] for line in outcome.history]
    assert resumed.selection.indices.tolist() == chooser.selection.indices.tolist()
    assert resumed.count == chooser.count == 4
    assert torch.equal(result.dynamics.seen, outcome.dynamics.seen)
