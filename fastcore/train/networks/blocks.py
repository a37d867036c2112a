"""What the families of networks share: embedding and last layer, convolutions with their norm, stems."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height and width of an image."""

LARGE = 96
"""Pixels of the shorter side from which on an image is large and networks have their forms for ImageNet."""


class Network(nn.Module):
    """A classifier in two parts: a body that makes the embedding of an image, and the last linear layer.

    Attributes:
        body: (b, c, h, w) images -> (b, D) embeddings.
        head: (b, D) embeddings -> (b, C) logits.
    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body, head

    def embedding(self, images: Tensor) -> Tensor:
        """The (b, D) input of the last layer."""
        return self.body(images)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """The (b, C) logits of (b, c, h, w) images."""
        return self.head(self.embedding(images))  # type: ignore[no-any-return]


def conv(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: int | tuple[int, int] | None = None,
    groups: int = 1,
    bias: bool = False,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution, batch norm and an activation; by default padded to keep the size, without bias."""
    if padding is None:
        padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias),
        nn.BatchNorm2d(outputs),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


def pooled() -> list[nn.Module]:
    """The mean over all pixels as (b, channels). At one pixel of output it is deterministic on CUDA."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def enlarged(shape: Shape, least: int = 32) -> tuple[list[nn.Module], int, int]:
    """The layers that bring an image to at least 32 x 32 by a frame of zeros, and its height and width then."""
    _, h, w = shape
    down, right = max(least - h, 0), max(least - w, 0)
    frame = (right // 2, right - right // 2, down // 2, down - down // 2)
    return ([nn.ZeroPad2d(frame)] if down or right else []), h + down, w + right


def stem_stride(shape: Shape) -> int:
    """The stride of a small-image network's first convolution: 2 for images above 48 pixels, such as 64 x 64.

    What follows then sees the same number of pixels as for 32 x 32, and costs the same.
    """
    return 2 if min(shape[1:]) > 48 else 1


def initialised(network: Network) -> Network:
    """The network with its convolutions drawn from He's normal distribution, by fan out."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
