"""A small data set and a network, to choose rows of while training."""

from __future__ import annotations

import torch
from torch import nn

from fastcore.train.datasets import ImageSet

N, CLASSES = 120, 3


def images(n=N, seed=0):
    """Noisy bars at three heights, one a class, as a data set of the harness."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    pixels = torch.randint(0, 160, (n, 1, 6, 6), generator=generator)
    pixels[torch.arange(n), :, 2 * labels] += 60
    return ImageSet(pixels.to(torch.uint8), labels, name="bars", classes=CLASSES, mean=(0.5,), std=(0.25,))


def network(seed=0):
    """A network with all that may change when it is looked at: dropout, statistics, modes."""
    torch.manual_seed(seed)
    layers = [
        nn.Flatten(),
        nn.Linear(36, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(16, 3),
    ]
    return nn.Sequential(*layers)


def rows_by_epoch(chooser, epochs, model, recorder=None):
    """The rows of every epoch, as a training sees them."""
    rows, seen = None, []
    for epoch in range(epochs):
        rows = chooser.choose(epoch, model, recorder) or rows
        seen.append(rows.indices.tolist())
    return seen
