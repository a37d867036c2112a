"""Images that a data set of the user's gives one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcore.progress import Progress
from fastcore.signals import items
from fastcore.signals.tensors import as_tensor
from fastcore.train.datasets.augmentation import Augmentation
from fastcore.train.datasets.base import LabelledSet, Moment
from fastcore.train.datasets.images import ImageSet
from fastcore.train.datasets.seeds import generator, seeded

Keys = tuple[Any, Any] | None
Transform = Callable[[Tensor], Tensor]


class ItemSet(LabelledSet):
    """The items of a data set, read when they are needed; ``from_dataset`` makes it.

    What is random in them is a function of the row, and in training of (seed, epoch, row).

    Args:
        dataset: anything with ``len`` and ``[row]``.
        labels: (n,) class numbers.
        keys: names of image and label in items that are dicts.
        augmentation: of single images, when training.
        known: name, classes, class_names, mean and std, as for ``ImageSet``.
    """

    def __init__(
        self,
        dataset: Any,
        labels: Any,
        *,
        keys: Keys = None,
        augmentation: Augmentation | Transform | None = None,
        **known: Any,
    ) -> None:
        self.augmentation = augmentation
        self._dataset, self._keys, self._places = dataset, keys, np.arange(len(labels))
        super().__init__(labels=labels, shape=self._item(0, None).shape, **known)

    def read(self, rows: Sequence[int], moment: Moment | None = None) -> Tensor:
        """The images of some rows, (b, ...) in their dtype; augmented as a moment says, or as they are."""
        images = [self._item(row, moment) for row in rows]
        for row, image in zip(rows, images):
            if image.shape != self.shape:
                shapes = f"{self.shape} at row 0 and {tuple(image.shape)} at row {row}"
                raise ValueError(
                    f"images of {self.name} must have one shape, got {shapes}: resize them before"
                )
        return torch.stack(images)

    def take(self, rows: Tensor) -> ItemSet:
        """The data set of some rows, (k,) int64, in that order."""
        return self._changed(_places=self._places[rows.cpu().numpy()], labels=self.labels[rows.cpu()])

    def bytes_needed(self) -> int | None:
        """Bytes that all images take in memory, or None where they are floats."""
        return len(self) * int(np.prod(self.shape)) if self.read([0]).dtype == torch.uint8 else None

    def in_memory(self) -> ImageSet:
        """The same images as one tensor. Raises TypeError for floats, and where the augmentation is a function."""
        if self.augmentation is not None and not isinstance(self.augmentation, Augmentation):
            raise TypeError(f"in_memory needs an Augmentation or None, got {self.augmentation!r}")
        images = torch.empty((len(self), *self.shape), dtype=torch.uint8)
        with Progress(len(self), self.name, unit="image") as bar:
            for row in range(len(self)):
                image = self.read([row])[0]
                if image.dtype != torch.uint8:
                    raise TypeError(
                        f"in_memory needs images of bytes, got {image.dtype} at row {row} of {self.name}"
                    )
                images[row] = image
                bar.update(1)
        return ImageSet(images, self.labels, augmentation=self.augmentation, **self.known)

    def _item(self, row: int, moment: Moment | None) -> Tensor:
        place = int(self._places[row])
        key = (place,) if moment is None else (moment.seed, moment.epoch, place)
        with seeded("item", *key):
            image = _as_image(items.split(self._dataset[place], self._keys, row)[0], row)
            if moment is None or self.augmentation is None:
                return image
            if isinstance(self.augmentation, Augmentation):
                return self.augmentation(image[None], generator("augmentation", *key))[0]
            return self.augmentation(image)

    def _hash_images(self, digest: Any) -> None:
        """Of 32 rows: to read all of them may take minutes."""
        digest.update(
            repr(self.augmentation if isinstance(self.augmentation, Augmentation) else None).encode()
        )
        for row in sorted(set(np.linspace(0, len(self) - 1, 32).astype(int).tolist())):
            digest.update(self.read([row]).contiguous().numpy().data)


def _as_image(value: Any, row: int) -> Tensor:
    """A picture or an array as a tensor (c, h, w), in bytes or float32."""
    if hasattr(value, "convert") and hasattr(value, "mode"):  # a PIL image
        value = np.asarray(value.convert("L" if value.mode in ("L", "1") else "RGB"))
    image = as_tensor(value, row)
    if image.dtype != torch.uint8:
        return image.float()
    if image.ndim == 2:
        return image[None]
    pixels_first = image.ndim == 3 and image.shape[2] in (1, 3) and image.shape[0] not in (1, 3)
    return image.permute(2, 0, 1) if pixels_first else image
