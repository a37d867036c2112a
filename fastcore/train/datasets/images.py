"""Small images in memory, as one tensor of bytes on the device that trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastcore.train.datasets.augmentation import Augmentation
from fastcore.train.datasets.base import LabelledSet, Moment
from fastcore.train.datasets.seeds import generator


class ImageSet(LabelledSet):
    """Images as one uint8 tensor on a device, normalised and augmented there a batch at a time.

    Memory: n c h w bytes on the device, 47 MB for MNIST, 154 MB for CIFAR-10, 1.2 GB for Tiny-ImageNet.

    Args:
        images: (n, c, h, w), or (n, h, w) for one channel, uint8: a tensor or a numpy array.
        labels: (n,) class numbers.
        name: what records and errors call it.
        classes: number of classes; by default one more than the highest label.
        class_names: a name for every class, or None.
        mean, std: of each channel, of values in [0, 1]; by default values are only scaled to [0, 1].
        augmentation: crops and flips of training; None for none.

    Raises ValueError and TypeError for other shapes and dtypes, and for labels that do not fit.
    """

    resident = True

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        name: str = "images",
        classes: int | None = None,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        augmentation: Augmentation | None = None,
    ) -> None:
        images = torch.as_tensor(images)
        if images.dtype != torch.uint8:
            raise TypeError(f"images of {name} must be uint8, got {images.dtype}")
        if images.ndim == 3:
            images = images[:, None]
        if images.ndim != 4:
            raise ValueError(f"images of {name} must have shape (n, c, h, w), got {tuple(images.shape)}")
        if len(images) != len(labels):
            raise ValueError(
                f"{name} must have as many labels as images, got {len(labels)} and {len(images)}"
            )
        super().__init__(
            name, labels, images.shape[1:], classes=classes, class_names=class_names, mean=mean, std=std
        )
        self.images: Tensor = images
        self.augmentation = augmentation

    def read(self, rows: Sequence[int] | Tensor, moment: Moment | None = None) -> Tensor:
        """Images of some rows, (b, c, h, w) uint8 on their device; augmented as a moment says, or as they are."""
        if isinstance(rows, Tensor):
            images = self.images.index_select(0, rows)
        elif rows == list(range(rows[0], rows[0] + len(rows))):
            images = self.images[rows[0] : rows[0] + len(rows)]  # a view, without a copy
        else:
            images = self.images.index_select(0, torch.as_tensor(rows, device=self.images.device))
        if moment is None or self.augmentation is None:
            return images
        return self.augmentation(images, generator("augmentation", *moment))

    def take(self, rows: Tensor) -> ImageSet:
        """The data set of some rows, (k,) int64, in that order, copied."""
        return self._changed(
            images=self.images.index_select(0, rows.to(self.images.device)), labels=self.labels[rows.cpu()]
        )

    def to(self, device: torch.device | str) -> ImageSet:
        """The same data set with its images on a device; itself when they are there."""
        images = self.images.to(device)
        if images is self.images:
            return self
        moved = self._changed(images=images)
        moved.__dict__.update({k: v for k, v in self.__dict__.items() if k == "fingerprint"})
        return moved

    def _hash_images(self, digest: Any) -> None:
        digest.update(repr(self.augmentation).encode())
        digest.update(self.images.cpu().contiguous().numpy().data)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, c, h, w) bytes, of values in [0, 1], exactly."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256).double().cpu()
        mean = float((counts * levels).sum() / counts.sum())
        means.append(mean)
        stds.append(float(((counts * (levels - mean) ** 2).sum() / counts.sum()).sqrt()))
    return tuple(means), tuple(max(std, 1 / 255) for std in stds)  # a channel of one level is left at 0
