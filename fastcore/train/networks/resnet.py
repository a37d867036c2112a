"""Residual networks for small images: ResNet 18 to 152, and wide ResNet 50-2 and 101-2."""

from __future__ import annotations

from torch import Tensor, nn

from fastcore.train.networks.blocks import Network, Shape, conv, initialised, pooled, stem_stride

_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_EXPANSION = 4


class _Residual(nn.Module):
    """relu(branch(x) + shortcut(x)), the shortcut a 1 x 1 convolution where the shape changes."""

    def __init__(self, branch: nn.Module, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        changes = stride != 1 or inputs != outputs
        self.shortcut = conv(inputs, outputs, 1, stride=stride, activation=None) if changes else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.branch(maps) + self.shortcut(maps))  # type: ignore[no-any-return]


def _basic(inputs: int, width: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        conv(inputs, width, 3, stride=stride),
        conv(width, outputs, 3, activation=None),
    )


def _bottleneck(inputs: int, width: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        conv(inputs, width, 1),
        conv(width, width, 3, stride=stride),
        conv(width, outputs, 1, activation=None),
    )


def resnet(shape: Shape, classes: int, *, depth: int, widening: int = 1) -> Network:
    """A ResNet whose stem is one 3 x 3 convolution without pooling, for images of any size.

    The stem has stride 1, and stride 2 above 48 pixels, so that 64 x 64 costs what 32 x 32 does. ``widening``
    multiplies the inner width of bottlenecks (depth 50 and above), as in wide ResNet 50-2.
    """
    deep = depth >= 50
    block, expansion = (_bottleneck, _EXPANSION) if deep else (_basic, 1)
    layers: list[nn.Module] = [conv(shape[0], 64, 3, stride=stem_stride(shape))]
    inputs = 64
    for stage, blocks in enumerate(_STAGES[depth]):
        width, outputs = 64 * 2**stage * widening, 64 * 2**stage * expansion
        for number in range(blocks):
            stride = 2 if stage and number == 0 else 1
            layers.append(_Residual(block(inputs, width, outputs, stride), inputs, outputs, stride))
            inputs = outputs
    return initialised(Network(nn.Sequential(*layers, *pooled()), nn.Linear(inputs, classes)))
