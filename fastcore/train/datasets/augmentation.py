"""Random crops and flips of a whole batch of images at once, on the device they are on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastcore import checks


@dataclass(frozen=True)
class Augmentation:
    """Pads with black, crops to the old size at a random place, and perhaps mirrors half of the images."""

    padding: int = 4
    """Pixels added on each side before the crop; 0 for no crop."""

    flip: bool = False
    """Whether an image is mirrored left to right, with probability 1/2. Not for digits and letters."""

    def __post_init__(self) -> None:
        checks.whole("padding", self.padding, 0)
        checks.choice("flip", self.flip, (False, True))

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images (b, c, h, w), each with its own crop and flip, as a new tensor of the same dtype.

        ``generator`` is on the CPU, so that every device gets the same crops. Black is 0: images come as bytes,
        before they are normalised. No loop over images; memory: the padded batch, twice where it is flipped.
        """
        b, c, h, w = images.shape
        y, x = torch.randint(2 * self.padding + 1, (2, b, 1), generator=generator)
        padded = functional.pad(images, (self.padding,) * 4)
        height, width = padded.shape[2:]
        sides = torch.stack([padded, padded.flip(3)]) if self.flip else padded[None]
        side = torch.randint(len(sides), (b, 1), generator=generator)
        # All windows of h x w that begin at any pixel, as a view; of these each channel of an image takes one.
        windows = sides.view(-1).as_strided((sides.numel() - (h - 1) * width - w + 1, h, w), (1, width, 1))
        channels = (side * b + torch.arange(b)[:, None]) * c + torch.arange(c)
        starts = (channels * height + y) * width + x
        return windows.index_select(0, starts.flatten().to(images.device)).view(b, c, h, w)
