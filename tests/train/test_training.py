"""``fit`` and ``evaluate``: what a run gives back, and that it leaves everything else as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from fastcore.train.datasets import TrainingBatches
from fastcore.train.training import evaluate, fit, learning_rate
from tests.train.training_cases import (
    Chooser,
    config,
    hooked,
    images,
    network,
    plain_network,
    same_results,
    same_weights,
    train,
)


def test_a_seed_repeats_and_two_seeds_differ():
    first, again, other = network(), network(), network()
    one, two, three = train(first, seed=5), train(again, seed=5), train(other, seed=6)
    assert same_weights(first, again) and same_results(one, two)
    assert not same_weights(first, other) and one.history[0]["loss"] != three.history[0]["loss"]


def test_dropout_depends_on_the_seed_alone():
    """Order and augmentation are the same here: full batches of rows that are all alike."""
    settings = config(batch_size=70, augment=False, epochs=1)
    first, again, other = network(), network(), network()
    torch.manual_seed(1)
    fit(first, images(), settings, seed=5)
    torch.manual_seed(2)
    fit(again, images(), settings, seed=5, test=images(30))
    assert same_weights(first, again)
    fit(other, images(), settings, seed=6)
    assert not torch.allclose(first[5].weight, other[5].weight, atol=1e-5)


def test_what_is_not_of_the_run_is_as_it_was(monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)

    def state():
        flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        fill = torch.utils.deterministic.fill_uninitialized_memory
        strict = torch.are_deterministic_algorithms_enabled()
        numbers = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
        return flags, fill, strict, numbers, torch.is_grad_enabled()

    model = network()
    model[4].eval()
    before = state()
    inside = []
    hooked(model, lambda: inside.append(torch.are_deterministic_algorithms_enabled()), 2)
    with torch.no_grad():
        train(model)
    hooked(model, lambda: inside.append(torch.are_deterministic_algorithms_enabled()), 2)
    train(model, config(deterministic=False))
    assert inside == [True, False]
    assert state() == before
    assert [each.training for each in model] == [True] * 4 + [False, True]
    assert all(each.grad is None for each in model.parameters())


def test_the_network_is_as_it_was_after_an_error_too():
    def fail():
        raise OSError("the disk is gone")

    model = hooked(network(), fail, 2).eval()
    with pytest.raises(OSError, match="the disk is gone"):
        train(model)
    assert not any(each.training for each in model.modules())
    assert not torch.are_deterministic_algorithms_enabled()


def test_history_and_accuracies():
    model = network()
    result = train(model, config(epochs=7, evaluate_every=3))
    assert [line["epoch"] for line in result.history] == list(range(1, 8))
    assert [line["step"] for line in result.history] == [5 * epoch for epoch in range(1, 8)]
    tested = {line["epoch"]: line["accuracy"] for line in result.history if line["accuracy"] is not None}
    assert list(tested) == [3, 6, 7]
    assert result.accuracy_last == tested[7] == evaluate(model, images(40, seed=1))
    assert result.accuracy_best == max(tested.values()) == tested[result.best_epoch]
    assert (result.steps, result.rows) == (35, 490)
    assert result.history[-1]["learning_rate"] == learning_rate(config(epochs=7), 6, 4, 5)
    seconds = [line["seconds"] for line in result.history]
    assert seconds == sorted(seconds) and result.seconds == seconds[-1] > 0 < result.evaluation_seconds
    assert result.peak_bytes > 1 << 20


def test_learning_happens():
    result = train(network(), config(epochs=15))
    assert result.accuracy_best > 0.9 and result.history[-1]["loss"] < result.history[0]["loss"] / 2


def test_without_test_there_is_no_accuracy():
    result = fit(network(), images(), config(epochs=1))
    assert (result.accuracy_last, result.accuracy_best, result.best_epoch, result.dynamics) == (None,) * 4


def test_no_epochs_only_test():
    model = network()
    result = train(model, config(epochs=0))
    assert same_weights(model, network()) and result.steps == 0 and result.dynamics is None
    assert result.accuracy_last == result.accuracy_best == evaluate(network(), images(40, seed=1))
    assert result.best_epoch == 0 and [line["epoch"] for line in result.history] == [0]


def test_the_record_holds_the_logits_of_the_steps():
    seen = []
    model = plain_network()
    model.register_forward_hook(lambda module, given, logits: seen.append(logits.detach()))
    settings = config(epochs=2, augment=False)
    rows = torch.arange(40, 70)
    result = fit(model, images(), settings, indices=rows, record=True, seed=2)
    assert result.dynamics.epochs == 2 and result.dynamics.n == 70
    assert torch.equal(result.dynamics.seen[0], (torch.arange(70) >= 40).expand(2, 70))
    batches = TrainingBatches(images(), rows, batch_size=16, augment=False, seed=2)
    for epoch in range(2):
        for batch in batches.epoch(epoch):
            p = seen.pop(0).softmax(1).gather(1, batch.labels[:, None])[:, 0]
            assert torch.allclose(result.dynamics.probability[0, epoch, batch.index], p, atol=1e-6)


def test_a_chooser_changes_rows_and_weights_between_epochs():
    chooser, model, taken = Chooser(), network(), []
    hook = model.register_forward_pre_hook(lambda module, given: taken.append(len(given[0])))
    result = train(model, config(epochs=4), subset=chooser, test=None)
    hook.remove()
    assert chooser.calls == [0, 1, 2, 3]
    assert taken == [16, 16, 16, 16, 6, *[16, 4] * 3]
    assert result.steps == 11 and result.rows == 130
    expected = [
        learning_rate(config(epochs=4), *place) for place in ((0, 4, 5), (1, 1, 2), (2, 1, 2), (3, 1, 2))
    ]
    assert [line["learning_rate"] for line in result.history] == expected
    seen = result.dynamics.seen[0]
    assert seen.sum(1).tolist() == [70, 20, 20, 20] and torch.equal(seen[1], seen[2])
    assert result.selection_seconds > 0
    again = network()
    other = train(again, config(epochs=4), subset=Chooser(), test=None)
    assert same_weights(model, again) and same_results(result, other), "its random numbers come from the seed"


def test_logits_in_a_tuple_or_object():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain_network()

        def forward(self, x):
            return self.inner(x), None

    model, bare = Auxiliary(), plain_network()
    assert same_results(train(model), train(bare)) and same_weights(model.inner, bare)


def test_evaluate_counts():
    model, data = network().eval(), images(50)
    logits = model(torch.stack([data[row][0] for row in range(50)]))
    expected = float((logits.argmax(1) == data.labels).double().mean())
    model.train()
    assert evaluate(model, data, batch_size=7) == pytest.approx(expected, abs=1e-12)
    pixels = data.normalised(data.images)
    assert evaluate(model, (pixels, data.labels)) == pytest.approx(expected, abs=1e-12)
    assert model.training and evaluate(model, data, amp="bfloat16") == pytest.approx(expected, abs=0.1)


def test_the_bar_and_tensorboard(tmp_path, capsys, monkeypatch):
    pytest.importorskip("tensorboard")
    result = train(network(), config(epochs=2), progress=True, log_dir=tmp_path / "log")
    shown = capsys.readouterr().err
    assert "10/10" in shown and "loss" in shown and "accuracy" in shown
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "log")).Reload()
    told = [(each.step, each.value) for each in events.Scalars("test/accuracy")]
    assert told == [(line["step"], pytest.approx(line["accuracy"])) for line in result.history]
    assert [each.step for each in events.Scalars("train/loss")] == [5, 10]
    train(network(), config(epochs=1))
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"fastcore-coreset\[train\]"):
        train(network(), log_dir=tmp_path)
