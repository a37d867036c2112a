"""The multilayer perceptron."""

from __future__ import annotations

import math

from torch import nn

from fastcore.train.networks.blocks import Network, Shape


def mlp(shape: Shape, classes: int) -> Network:
    """Two hidden layers of 128 with ReLU, on the pixels of an image of any size."""
    hidden = [nn.Linear(math.prod(shape), 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return Network(nn.Sequential(nn.Flatten(), *hidden), nn.Linear(128, classes))
