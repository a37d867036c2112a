"""MobileNetV3 large and small for small images."""

from __future__ import annotations

from torch import Tensor, nn

from fastcore.train.networks.blocks import Network, Shape, conv, initialised, pooled, stem_stride

# (kernel, expanded maps, maps, squeeze and excitation, hard swish, stride), tables 1 and 2 of the paper.
_LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
_TABLES = {"large": (_LARGE, 1280), "small": (_SMALL, 1024)}


class _Excitation(nn.Module):
    """Each map times a weight in [0, 1] that two layers make of the means of all maps."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        squeezed = _eighths(maps // 4)
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(maps, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, maps, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.weights(maps)  # type: ignore[no-any-return]


class _Inverted(nn.Module):
    """Expand, filter each map apart, weigh, project; added to the input where the shapes agree."""

    def __init__(
        self, inputs: int, kernel: int, expanded: int, outputs: int, excite: bool, swish: bool, stride: int
    ) -> None:
        super().__init__()
        activation: type[nn.Module] = nn.Hardswish if swish else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(conv(inputs, expanded, 1, activation=activation))
        layers.append(conv(expanded, expanded, kernel, stride=stride, groups=expanded, activation=activation))
        if excite:
            layers.append(_Excitation(expanded))
        layers.append(conv(expanded, outputs, 1, activation=None))
        self.branch = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.branch(maps)
        return maps + changed if self.adds else changed


def mobilenet_v3(shape: Shape, classes: int, *, size: str) -> Network:
    """MobileNetV3 without the stem's stride and the first stride after it, for images of any size.

    From 32 x 32 the last maps have 4 pixels a side. Above 48 pixels the stem has its stride of 2.
    """
    table, width = _TABLES[size]
    layers: list[nn.Module] = [conv(shape[0], 16, 3, stride=stem_stride(shape), activation=nn.Hardswish)]
    inputs, fine = 16, True
    for kernel, expanded, outputs, excite, swish, stride in table:
        if stride == 2 and fine:
            stride, fine = 1, False
        layers.append(_Inverted(inputs, kernel, expanded, outputs, excite, swish, stride))
        inputs = outputs
    layers += [conv(inputs, 6 * inputs, 1, activation=nn.Hardswish), *pooled()]
    layers += [nn.Linear(6 * inputs, width), nn.Hardswish(inplace=True), nn.Dropout(0.2)]
    return initialised(Network(nn.Sequential(*layers), nn.Linear(width, classes)))


def _eighths(maps: int) -> int:
    """The closest multiple of 8, the next one where that takes away more than a tenth."""
    rounded = max(8, (maps + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * maps else rounded
