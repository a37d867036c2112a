"""Inception-v3 for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastcore.train.networks.blocks import Network, Shape, conv, enlarged, initialised, pooled, stem_stride

_ROW, _COLUMN = (1, 7), (7, 1)


class _Parallel(nn.Module):
    """The maps of several branches, one behind the other."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([branch(maps) for branch in self.branches], 1)


def _chain(inputs: int, *steps: tuple[int, int | tuple[int, int]], halve: bool = False) -> nn.Sequential:
    """Convolutions of so many maps and such a kernel; the last one halves the size, without padding."""
    layers: list[nn.Module] = []
    for number, (outputs, kernel) in enumerate(steps, start=1):
        last = halve and number == len(steps)
        layers.append(
            conv(inputs, outputs, kernel, stride=2, padding=0) if last else conv(inputs, outputs, kernel)
        )
        inputs = outputs
    return nn.Sequential(*layers)


def _averaged(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(inputs, outputs, 1))


def _square(inputs: int, averaged: int) -> nn.Module:
    """Branches of 1, 5 and twice 3 pixels, for the finest maps; 224 + ``averaged`` maps."""
    five, three = _chain(inputs, (48, 1), (64, 5)), _chain(inputs, (64, 1), (96, 3), (96, 3))
    return _Parallel(conv(inputs, 64, 1), five, three, _averaged(inputs, averaged))


def _factored(inputs: int, width: int) -> nn.Module:
    """Branches of 7 x 7 pixels as rows and columns; 768 maps."""
    once = _chain(inputs, (width, 1), (width, _ROW), (192, _COLUMN))
    twice = _chain(inputs, (width, 1), (width, _COLUMN), (width, _ROW), (width, _COLUMN), (192, _ROW))
    return _Parallel(conv(inputs, 192, 1), once, twice, _averaged(inputs, 192))


def _wide(inputs: int) -> nn.Module:
    """Branches that end in a row beside a column of 3 pixels, for the coarsest maps; 2 048 maps."""

    def spread() -> nn.Module:
        return _Parallel(conv(384, 384, (1, 3)), conv(384, 384, (3, 1)))

    once = nn.Sequential(conv(inputs, 384, 1), spread())
    twice = nn.Sequential(_chain(inputs, (448, 1), (384, 3)), spread())
    return _Parallel(conv(inputs, 320, 1), once, twice, _averaged(inputs, 192))


def inception_v3(shape: Shape, classes: int) -> Network:
    """Inception-v3 whose stem neither strides nor pools, without the auxiliary classifier.

    Images of any size; those below 32 x 32 get a frame of zeros, above 48 pixels the first convolution has stride
    2. From 32 x 32 the maps have 30, 14 and 6 pixels a side, where the original has 35, 17 and 8 from 299.
    """
    layers, _, _ = enlarged(shape)
    layers += [conv(shape[0], 32, 3, stride=stem_stride(shape)), conv(32, 32, 3), conv(32, 64, 3)]
    layers += [conv(64, 80, 1), conv(80, 192, 3, padding=0)]
    layers += [_square(192, 32), _square(256, 64), _square(288, 64)]
    layers += [
        _Parallel(
            _chain(288, (384, 3), halve=True),
            _chain(288, (64, 1), (96, 3), (96, 3), halve=True),
            nn.MaxPool2d(3, 2),
        )
    ]
    layers += [_factored(768, width) for width in (128, 160, 160, 192)]
    layers += [
        _Parallel(
            _chain(768, (192, 1), (320, 3), halve=True),
            _chain(768, (192, 1), (192, _ROW), (192, _COLUMN), (192, 3), halve=True),
            nn.MaxPool2d(3, 2),
        )
    ]
    layers += [_wide(1280), _wide(2048), *pooled(), nn.Dropout(0.5)]
    return initialised(Network(nn.Sequential(*layers), nn.Linear(2048, classes)))
