"""A small network and small images to train it on, and what two runs must share."""

from __future__ import annotations

import signal

import torch
from torch import nn

from fastcore.train.config import TrainConfig
from fastcore.train.datasets import Augmentation, ImageSet
from fastcore.train.training import Rows, fit


def images(n=70, seed=0, padding=1):
    """Images of three classes that differ in brightness, in memory."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    noise = torch.randint(0, 100, (n, 1, 6, 6), generator=generator)
    pictures = (noise + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    how = Augmentation(padding=padding, flip=True)
    return ImageSet(pictures, labels, classes=3, mean=(0.5,), std=(0.3,), augmentation=how)


def network(seed=0):
    """Batch normalisation and dropout, so that statistics and random state matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64, 3),
        )


def plain_network(seed=0):
    """No layer that mixes rows or draws random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3))


def config(**changes):
    """Three epochs of five steps."""
    settings = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05}
    return TrainConfig(**{**settings, **changes})


def train(model, settings=None, **arguments):
    """``fit`` on the images, tested on others."""
    given = {"test": images(40, seed=1), "record": True, **arguments}
    return fit(model, images(), config() if settings is None else settings, **given)


def hooked(model, action, step):
    """Runs an action at the start of the forward pass of a training step, counted from 0."""
    count = 0

    def before(module, inputs):
        nonlocal count
        if module.training:
            count += 1
            if count == step + 1:
                action()

    model.register_forward_pre_hook(before)
    return model


def interrupted(model, step):
    """The model; a Ctrl-C comes at a training step."""
    return hooked(model, lambda: signal.raise_signal(signal.SIGINT), step)


def same_weights(a, b):
    """Whether two networks have the same parameters and statistics, bit for bit."""
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def same_results(a, b):
    """Whether two results are the same, times and memory apart."""

    def told(result):
        return [{name: value for name, value in line.items() if name != "seconds"} for line in result.history]

    def numbers(result):
        return [
            getattr(result, name)
            for name in ("accuracy_last", "accuracy_best", "best_epoch", "steps", "rows")
        ]

    return (
        told(a) == told(b)
        and numbers(a) == numbers(b)
        and (a.dynamics is None) == (b.dynamics is None)
        and (a.dynamics is None or same_records(a.dynamics, b.dynamics))
    )


def same_records(a, b):
    """Whether two records are the same, bit for bit."""
    return all(
        torch.equal(getattr(a, name).nan_to_num(nan=-9.0), getattr(b, name).nan_to_num(nan=-9.0))
        for name in ("correct", "probability", "margin", "loss", "error_norm", "seen")
    )


class Chooser:
    """All rows at first, then from epoch 1 on other 20 rows every second epoch, with weights."""

    def __init__(self):
        self.calls = []

    def choose(self, epoch, model, recorder):
        self.calls.append(epoch)
        if epoch % 2 == 0:
            return None
        first = 20 * (len(self.calls) // 2 % 3)
        return Rows(torch.arange(first, first + 20), 1 + torch.rand(20))

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = list(state["calls"])
