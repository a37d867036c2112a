"""LeNet-5."""

from __future__ import annotations

from torch import nn

from fastcore.train.networks.blocks import Network, Shape, enlarged


def lenet(shape: Shape, classes: int) -> Network:
    """LeNet-5 with ReLU and max-pooling: convolutions 5 x 5 to 6 and 16 maps, then layers of 120 and 84.

    Images of any size; those below 32 x 32 get a frame of zeros first, as MNIST always had.
    """
    frame, h, w = enlarged(shape)
    maps = 16 * (((h - 4) // 2 - 4) // 2) * (((w - 4) // 2 - 4) // 2)
    body = nn.Sequential(
        *frame,
        nn.Conv2d(shape[0], 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(maps, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
    )
    return Network(body, nn.Linear(84, classes))
