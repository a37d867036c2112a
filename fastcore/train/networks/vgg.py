"""VGG 11, 13, 16 and 19 with batch norm for small images."""

from __future__ import annotations

from torch import nn

from fastcore.train.networks.blocks import Network, Shape, conv, enlarged, initialised, pooled

_MAPS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(shape: Shape, classes: int, *, depth: int) -> Network:
    """A VGG's convolutions with batch norm, the mean over what pixels are left, and one linear layer.

    Images of any size; those below 32 x 32 get a frame of zeros, as five max-pools leave nothing of them.
    """
    layers, _, _ = enlarged(shape)
    inputs = shape[0]
    for maps, convolutions in zip(_MAPS, _CONVOLUTIONS[depth]):
        for _ in range(convolutions):
            layers.append(conv(inputs, maps, 3, bias=True))
            inputs = maps
        layers.append(nn.MaxPool2d(2))
    return initialised(Network(nn.Sequential(*layers, *pooled()), nn.Linear(inputs, classes)))
