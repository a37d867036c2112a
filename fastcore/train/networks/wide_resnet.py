"""Wide residual networks with pre-activation: WRN-16-8, WRN-28-10 and WRN-28-2."""

from __future__ import annotations

from torch import Tensor, nn

from fastcore.train.networks.blocks import LARGE, Network, Shape, initialised, pooled, stem_stride


def _activated(maps: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(maps), nn.ReLU(inplace=True))


def _conv3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class _Block(nn.Module):
    """Norm, ReLU and convolution, twice; where the width changes, a 1 x 1 convolution is the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _activated(inputs)
        self.branch = nn.Sequential(
            _conv3(inputs, outputs, stride), _activated(outputs), _conv3(outputs, outputs, 1)
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, maps: Tensor) -> Tensor:
        active = self.first(maps)
        kept = maps if self.shortcut is None else self.shortcut(active)
        return kept + self.branch(active)  # type: ignore[no-any-return]


def wide_resnet(shape: Shape, classes: int, *, depth: int, widening: int) -> Network:
    """A WRN-depth-widening without dropout, for images of any size.

    Its stem is a 3 x 3 convolution to 16 maps, of stride 2 above 48 pixels; from 96 pixels on it is a 7 x 7
    convolution of stride 2 and a 3 x 3 max-pool of stride 2 instead, as ResNets have.
    """
    stem: list[nn.Module] = [_conv3(shape[0], 16, stem_stride(shape))]
    if min(shape[1:]) >= LARGE:
        stem = [nn.Conv2d(shape[0], 16, 7, 2, padding=3, bias=False), nn.MaxPool2d(3, 2, padding=1)]
    blocks: list[nn.Module] = []
    inputs = 16
    for stage in range(3):
        outputs = 16 * widening * 2**stage
        for number in range((depth - 4) // 6):
            blocks.append(_Block(inputs, outputs, stride=2 if stage and number == 0 else 1))
            inputs = outputs
    body = nn.Sequential(*stem, *blocks, _activated(inputs), *pooled())
    return initialised(Network(body, nn.Linear(inputs, classes)))
