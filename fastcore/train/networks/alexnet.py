"""AlexNet for small images."""

from __future__ import annotations

from torch import nn

from fastcore.train.networks.blocks import Network, Shape, enlarged, initialised, stem_stride


def alexnet(shape: Shape, classes: int) -> Network:
    """AlexNet's five convolutions and three max-pools at small kernels, with one linear layer after them.

    Kernels of 5, 5, 3, 3, 3 with 128, 192, 256, 192, 192 maps, without batch norm, as is usual for CIFAR. Images
    of any size; those below 32 x 32 get a frame of zeros, above 48 pixels the first convolution has stride 2.
    A learning rate of 0.1 is too much for it: take 0.01.
    """
    frame, h, w = enlarged(shape)
    stride = stem_stride(shape)
    layers: list[nn.Module] = [*frame]
    inputs = shape[0]
    for maps, kernel, step, pool in (
        (128, 5, stride, True),
        (192, 5, 1, True),
        (256, 3, 1, False),
        (192, 3, 1, False),
        (192, 3, 1, True),
    ):
        layers += [nn.Conv2d(inputs, maps, kernel, step, padding=kernel // 2), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if pool else []
        inputs = maps
    pixels = (-(-h // stride) // 8) * (-(-w // stride) // 8)
    return initialised(Network(nn.Sequential(*layers, nn.Flatten()), nn.Linear(inputs * pixels, classes)))
