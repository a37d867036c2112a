"""Learning rate, optimizer and loss: a run is the loop that one would write by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fastcore.train.config import TrainConfig
from fastcore.train.datasets import TrainingBatches
from fastcore.train.training import fit, learning_rate
from tests.train.training_cases import config, images, network, plain_network, same_weights, train


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


def test_mixed_precision_and_layout():
    full, mixed, last = network(), network(), network()
    train(full)
    result = train(mixed, config(amp="bfloat16"))
    assert mixed[0].weight.dtype == torch.float32 and result.accuracy_last > 0.5
    assert not same_weights(full, mixed)
    losses = result.dynamics.loss[0].mean(1).tolist()
    assert [line["loss"] for line in result.history] == pytest.approx(losses, rel=1e-5), (
        "the loss is in float32"
    )
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
