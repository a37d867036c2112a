"""``fit`` and ``evaluate``: what a run computes, and that it leaves everything else as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fastcore.train.config import TrainConfig
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


def rates(settings, steps=10):
    return [
        learning_rate(settings, epoch, s, steps) for epoch in range(settings.epochs) for s in range(steps)
    ]


def test_cosine_by_hand():
    found = rates(TrainConfig(epochs=4, learning_rate=0.8, final_learning_rate=0.1))
    t = np.arange(40) / 40
    assert found == pytest.approx(0.1 + 0.7 * (1 + np.cos(np.pi * t)) / 2, rel=1e-12)
    assert found[0] == 0.8 and found[20] == pytest.approx(0.45)
    assert found[-1] == pytest.approx(0.1, abs=0.7 * (np.pi / 40) ** 2 / 4 + 1e-9)


def test_cosine_is_that_of_torch():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.8)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=0.1)
    theirs = []
    for _ in range(40):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(TrainConfig(epochs=4, learning_rate=0.8, final_learning_rate=0.1)) == pytest.approx(theirs)


@pytest.mark.parametrize("schedule", ["cosine", "constant", "step"])
def test_warmup_rises_in_equal_steps_to_the_highest_rate(schedule):
    found = rates(TrainConfig(epochs=4, learning_rate=0.8, warmup_epochs=1.5, schedule=schedule))
    assert found[:15] == pytest.approx(0.8 * np.arange(1, 16) / 15)
    assert found[15] == pytest.approx(0.8)
    assert max(found) == pytest.approx(0.8)


def test_cosine_after_warmup():
    settings = TrainConfig(epochs=4, learning_rate=0.8, final_learning_rate=0.0, warmup_epochs=2)
    found = rates(settings)
    assert found[30] == pytest.approx(0.4)
    assert found[20:] == pytest.approx(0.4 * (1 + np.cos(np.pi * np.arange(20) / 20)))


def test_warmup_longer_than_training_ends_on_the_way():
    assert rates(TrainConfig(epochs=1, learning_rate=0.8, warmup_epochs=2))[-1] == pytest.approx(0.4)


def test_steps_multiply_at_the_milestones():
    settings = TrainConfig(epochs=10, learning_rate=1, schedule="step", milestones=(0.3, 0.6), decay=0.1)
    assert rates(settings, 3) == pytest.approx([1] * 9 + [0.1] * 9 + [0.01] * 12)


def by_hand(model, settings, seed, indices=None, weights=None):
    """A training loop as one would write it."""
    model.train()
    batches = TrainingBatches(
        images(), indices, weights, batch_size=settings.batch_size, augment=settings.augment, seed=seed
    )
    if settings.optimizer == "sgd":
        more = {"momentum": settings.momentum, "nesterov": settings.nesterov}
        optimizer = torch.optim.SGD(
            model.parameters(), weight_decay=settings.weight_decay, foreach=False, **more
        )
    else:
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay, foreach=False)
    means = []
    for epoch in range(settings.epochs):
        losses = []
        for step, batch in enumerate(batches.epoch(epoch)):
            optimizer.param_groups[0]["lr"] = learning_rate(settings, epoch, step, batches.steps)
            target = functional.one_hot(batch.labels, 3).float()
            target = (1 - settings.label_smoothing) * target + settings.label_smoothing / 3
            each = -(target * model(batch.images).log_softmax(1)).sum(1)
            w = torch.ones(len(each)) if batch.weights is None else batch.weights
            loss = (w * each).sum() / w.sum()
            optimizer.zero_grad()
            loss.backward()
            if settings.clip_norm is not None:
                norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
                for p in model.parameters():
                    p.grad *= min(1.0, settings.clip_norm / float(norm))
            optimizer.step()
            losses += [loss.item()] * len(each)
        means.append(np.mean(losses))
    return means


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adamw", "learning_rate": 0.003},
        {"clip_norm": 0.05},
        {"label_smoothing": 0.2},
        {"nesterov": False, "weight_decay": 0.1},
        {"schedule": "step", "augment": False},
    ],
    ids=str,
)
def test_a_run_is_the_loop_written_by_hand(changes):
    settings, ours, theirs = config(**changes), plain_network(), plain_network()
    result = fit(ours, images(), settings, seed=3)
    means = by_hand(theirs, settings, 3)
    for name, value in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], value, atol=2e-5), name
    assert [line["loss"] for line in result.history] == pytest.approx(means, abs=1e-4)
    assert not same_weights(ours, plain_network())


def test_weights_enter_the_loss_of_the_rows_they_belong_to():
    indices, weights = torch.randperm(70)[:30], torch.rand(30)
    ours, theirs, unweighted = plain_network(), plain_network(), plain_network()
    fit(ours, images(), config(), indices=indices.numpy(), weights=weights.double().numpy(), seed=3)
    by_hand(theirs, config(), 3, indices, weights)
    fit(unweighted, images(), config(), indices=indices, seed=3)
    assert torch.allclose(ours[1].weight, theirs[1].weight, atol=2e-5)
    assert not torch.allclose(ours[1].weight, unweighted[1].weight, atol=1e-3)


def test_whole_weights_are_repeated_rows():
    indices, counts = torch.tensor([4, 9, 23, 51, 60]), torch.tensor([1, 3, 2, 1, 4])
    settings = config(batch_size=64, epochs=20, augment=False)
    weighted, repeated, once = plain_network(), plain_network(), plain_network()
    fit(weighted, images(), settings, indices=indices, weights=counts)
    fit(repeated, images(), settings, indices=indices.repeat_interleave(counts))
    fit(once, images(), settings, indices=indices)
    assert torch.allclose(weighted[1].weight, repeated[1].weight, atol=1e-5)
    assert not torch.allclose(weighted[1].weight, once[1].weight, atol=1e-3)


def test_rows_of_weight_zero_change_nothing():
    """Not even where they are alone in a batch."""
    alone, beside = plain_network(), plain_network()
    settings = config(batch_size=64, momentum=0.0, weight_decay=0.0, augment=False, schedule="constant")
    fit(alone, images(), settings, indices=range(10))
    fit(beside, images(), settings, indices=range(20), weights=[1.0] * 10 + [0.0] * 10)
    assert torch.allclose(alone[1].weight, beside[1].weight, atol=1e-6)
    few = config(batch_size=2, momentum=0.0, weight_decay=0.0)
    result = fit(plain_network(), images(), few, indices=range(20), weights=[1.0] + [0.0] * 19)
    assert all(np.isfinite(line["loss"]) for line in result.history)


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


def test_what_is_not_of_the_run_is_as_it_was():
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


def test_mixed_precision_and_layout():
    full, mixed, last = network(), network(), network()
    train(full)
    result = train(mixed, config(amp="bfloat16"))
    assert mixed[0].weight.dtype == torch.float32 and result.accuracy_last > 0.5
    assert not same_weights(full, mixed)
    assert torch.allclose(full[5].weight, mixed[5].weight, atol=0.05)
    layouts = []
    last[1].register_forward_pre_hook(
        lambda module, given: layouts.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    train(last, config(channels_last=True), test=None)
    assert all(layouts) and torch.allclose(full[5].weight, last[5].weight, atol=1e-3)


def test_compiled_networks_run_compiled(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda model: lambda x: calls.append(1) or model(x))
    compiled, eager = network(), network()
    train(compiled, config(compile=True))
    train(eager)
    assert len(calls) == 15 and same_weights(compiled, eager)


def test_logits_in_a_tuple_or_object():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain_network()

        def forward(self, x):
            return self.inner(x), None

    model, bare = Auxiliary(), plain_network()
    assert same_results(train(model), train(bare)) and same_weights(model.inner, bare)


@pytest.mark.parametrize("step", [0, 7, 14])
def test_a_loss_that_is_not_finite_is_named(step):
    model = network()
    model.register_forward_hook(lambda module, given, logits: logits * (torch.nan if bad else 1.0))
    bad = []
    hooked(model, lambda: bad.append(1), step)
    epoch, place = divmod(step, 5)
    rate = learning_rate(config(), epoch, place, 5)
    place = f"epoch {epoch + 1}, step {place + 1}, at learning rate {rate:.4g}"
    with pytest.raises(FloatingPointError, match=place) as caught:
        train(model)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_named():
    with pytest.raises(
        FloatingPointError, match=r"weights .* after epoch 1, step 1, at learning rate 1e\+38"
    ):
        train(plain_network(), config(learning_rate=1e38, batch_size=70, weight_decay=1e3, epochs=1))


def test_evaluate_counts():
    model, data = network().eval(), images(50)
    logits = model(torch.stack([data[row][0] for row in range(50)]))
    expected = float((logits.argmax(1) == data.labels).double().mean())
    model.train()
    assert evaluate(model, data, batch_size=7) == pytest.approx(expected, abs=1e-12)
    pixels = data.normalised(data.images)
    assert evaluate(model, (pixels, data.labels)) == pytest.approx(expected, abs=1e-12)
    assert model.training and evaluate(model, data, amp="bfloat16") == pytest.approx(expected, abs=0.1)


def test_evaluate_says_what_is_wrong():
    with pytest.raises(ValueError, match="must have labels"):
        evaluate(network(), torch.zeros(4, 1, 6, 6))
    with pytest.raises(ValueError, match="labels must be below 3, the logits of the network, got 5"):
        evaluate(network(), (torch.zeros(4, 1, 6, 6), torch.tensor([0, 1, 5, 2])))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"indices": [0, 70]}, ValueError, "indices must be between 0 and 69, got 70"),
        ({"indices": [-1, 3]}, ValueError, "indices must be between 0 and 69, got -1"),
        ({"indices": []}, ValueError, r"indices must have shape \(rows,\)"),
        ({"indices": [0.5]}, TypeError, "indices must be integers, got torch.float64"),
        ({"indices": ["a"]}, TypeError, "indices must be an array of numbers"),
        ({"weights": [1.0]}, ValueError, r"weights must have shape \(70,\)"),
        (
            {"indices": [1, 2], "weights": [1, -1]},
            ValueError,
            "weights must be finite and not negative, got -1",
        ),
        ({"indices": [1, 2], "weights": [1, np.inf]}, ValueError, "not negative, got inf"),
        ({"indices": [1, 2], "weights": [0, 0]}, ValueError, "must not all be 0"),
        ({"indices": [1, 2, 1]}, ValueError, "row 1 is in indices more than once"),
        ({"indices": [1], "subset": Chooser()}, ValueError, "subset chooses rows"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0"),
        ({"device": "tpu"}, ValueError, "device must"),
        ({"checkpoint_seconds": -1}, ValueError, "checkpoint_seconds must be in"),
        ({"checkpoint": "/nowhere/at/all.pt"}, OSError, "cannot write /nowhere/at/all.pt"),
    ],
    ids=str,
)
def test_errors_name_the_argument(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        train(network(), **arguments)
    assert "\n" not in str(caught.value)


def test_errors_of_what_is_trained():
    with pytest.raises(TypeError, match="config must be a TrainConfig, got dict"):
        fit(network(), images(), {})
    with pytest.raises(TypeError, match="dataset must be one of fastcore.train.datasets, got TensorDataset"):
        fit(network(), torch.utils.data.TensorDataset(torch.zeros(3)), config())
    with pytest.raises(ValueError, match="parameters that require gradients, Flatten has none"):
        fit(nn.Flatten(), images(), config())
    with pytest.raises(ValueError, match="float16.*needs a GPU"):
        fit(network(), images(), config(amp="float16"), device="cpu")


def test_a_kernel_without_deterministic_form_names_the_setting():
    class Forbidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain_network()

        def forward(self, x):
            torch.empty(3).put_(torch.tensor([0]), torch.ones(1), accumulate=False)
            return self.inner(x)

    with pytest.raises(ValueError, match="train.deterministic must be False here: put_"):
        fit(Forbidden(), images(), config())
    fit(Forbidden(), images(), config(deterministic=False))


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
