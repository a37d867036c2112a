"""Labelled images: what every data set of the training harness offers."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastcore import checks
from fastcore.budget import share
from fastcore.signals.tensors import as_labels, is_numbers

Same = TypeVar("Same", bound="LabelledSet")


class Moment(NamedTuple):
    """A step of a training, on which augmentation depends and on nothing else."""

    seed: int
    epoch: int
    step: int


class LabelledSet(Dataset[tuple[Tensor, int]]):
    """Images with their labels: an ordinary torch ``Dataset`` of (float32 image (c, h, w), label) that knows more.

    Attributes:
        name: what records and errors call it.
        labels: (n,) int64 on the CPU, in 0 .. classes - 1.
        classes: number of classes, some of which may have no row.
        shape: (c, h, w) of an image.
        class_names: a name for every class, or None.
        mean, std: of each channel, in [0, 1]: what byte images are normalised by.
        resident: whether the images are in memory, so that batches need no worker processes.
        workers: processes that read images which are not in memory, where a call does not say.
    """

    resident = False
    workers = 0

    def __init__(
        self,
        name: str,
        labels: Any,
        shape: Sequence[int],
        *,
        classes: int | None = None,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> None:
        if len(labels) == 0:
            raise ValueError(f"{name} must not be empty, got 0 rows")
        labels = class_numbers(labels)
        if classes is None:
            classes = int(labels.max()) + 1
        classes = checks.whole("classes", classes, 1)
        outside = ((labels < 0) | (labels >= classes)).nonzero()
        if len(outside):
            row = int(outside[0])
            raise ValueError(
                f"labels of {name} must be in 0 .. {classes - 1}, got {int(labels[row])} at row {row}"
            )
        if class_names is not None and len(class_names) != classes:
            raise ValueError(f"class_names must be {classes} names, one a class, got {len(class_names)}")
        self.labels: Tensor = labels
        self.name, self.classes = name, classes
        self.shape = tuple(int(size) for size in shape)
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.mean, self.std = self._checked_channels(mean, std)

    def read(self, rows: Sequence[int], moment: Moment | None = None) -> Tensor:
        """Images of some rows, (b, c, h, w) bytes or float32; augmented as a moment says, or as they are."""
        raise NotImplementedError

    def take(self: Same, rows: Tensor) -> Same:
        """The data set of some rows, (k,) int64, in that order."""
        raise NotImplementedError

    def normalised(self, images: Tensor) -> Tensor:
        """Byte images as float32 with mean 0 and deviation 1 by channel, on their device; float ones as they are.

        Two exact-rounded operations a pixel, so that every device gives the same bits.
        """
        if images.dtype != torch.uint8:
            return images.float()
        offset, scale = _constants(self.mean, self.std, images.device)
        return images.float().sub_(offset).mul_(scale)

    def normalised_by(self: Same, mean: Sequence[float], std: Sequence[float]) -> Same:
        """The same data set with another mean and deviation of its channels."""
        mean, std = self._checked_channels(mean, std)
        return self._changed(mean=mean, std=std)

    @property
    def known(self) -> dict[str, Any]:
        """Name, classes, class_names, mean and std, as arguments of another form of the same images."""
        return {each: getattr(self, each) for each in ("name", "classes", "class_names", "mean", "std")}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        row = range(len(self))[row]  # IndexError ends a loop over the data set
        return self.normalised(self.read([row]))[0], int(self.labels[row])

    def __getitems__(self, rows: list[int]) -> list[tuple[Tensor, int]]:
        images = self.normalised(self.read(rows))
        return list(zip(images.unbind(), self.labels[rows].tolist()))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, n={len(self)}, classes={self.classes}, shape={self.shape})"
        )

    def picture(self, row: int) -> np.ndarray:
        """The image of a row to look at, (h, w, 3) or (h, w) uint8; float images are stretched to 0 .. 255."""
        image = self.read([range(len(self))[row]])[0].cpu()
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"only images of 1 or 3 channels have a picture, got shape {tuple(image.shape)}")
        if image.dtype != torch.uint8:
            low, high = image.min(), image.max()
            image = ((image - low) * (255 / (high - low).clamp(min=1e-12))).round().to(torch.uint8)
        return np.ascontiguousarray((image[0] if image.shape[0] == 1 else image.permute(1, 2, 0)).numpy())

    def first(self: Same, rows: int) -> Same:
        """The first rows of every class, ``rows`` in all, in their order: equal shares by largest remainder.

        A class with fewer rows gives all of them, and the others share the rest. Raises ValueError for more
        rows than there are.
        """
        if checks.whole("rows", rows, 1) > len(self):
            raise ValueError(f"rows must be at most the {len(self)} rows of {self.name}, got {rows}")
        sizes = torch.bincount(self.labels, minlength=self.classes)
        budgets = share(rows, torch.ones_like(sizes), sizes)
        grouped = torch.argsort(self.labels, stable=True)
        owner = self.labels[grouped]
        rank = torch.arange(len(self)) - (sizes.cumsum(0) - sizes)[owner]
        return self.take(grouped[rank < budgets[owner]].sort().values)

    def to(self: Same, device: torch.device | str) -> Same:
        """The same data set with its images on a device, where they are in memory; else itself."""
        return self

    def sequential(self, batch_size: int = 1024, workers: int | None = None) -> DataLoader[Any]:
        """A loader of whole batches (normalised images (b, c, h, w), labels (b,)), in the order of the rows.

        ``workers`` processes read images that are not in memory; None for as many as the data set says.
        """
        return DataLoader(
            _WholeBatches(self),
            batch_size=checks.whole("batch_size", batch_size, 1),
            num_workers=self.workers_for(workers),
            collate_fn=unchanged,
            generator=torch.Generator(),  # or the loader would draw from the user's random numbers
        )

    def workers_for(self, workers: int | None) -> int:
        """How many processes read images: those asked for, else the data set's own number; none from memory."""
        if self.resident:
            return 0
        return self.workers if workers is None else checks.whole("workers", workers, 0)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of what training sees: labels, images, normalisation and augmentation."""
        digest = hashlib.sha256(repr([self.shape, self.classes, self.mean, self.std]).encode())
        digest.update(self.labels.numpy().tobytes())
        self._hash_images(digest)
        return digest.hexdigest()

    def _hash_images(self, digest: Any) -> None:
        raise NotImplementedError

    def _checked_channels(
        self, mean: Sequence[float], std: Sequence[float]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, self.shape[0]):
                raise ValueError(
                    f"{name} must have 1 or {self.shape[0]} numbers, one a channel, got {list(values)}"
                )
            for value in values:
                checks.number(name, value, "(-inf, inf)" if name == "mean" else "(0, inf)")
        return tuple(map(float, mean)), tuple(map(float, std))

    def _changed(self: Same, **fields: Any) -> Same:
        """A copy with other fields; its fingerprint is taken anew."""
        other = copy.copy(self)
        other.__dict__.pop("fingerprint", None)
        other.__dict__.update(fields)
        return other


@dataclass(frozen=True)
class Splits:
    """The rows to train on, and those to test on."""

    train: LabelledSet
    test: LabelledSet

    def __post_init__(self) -> None:
        for what in ("shape", "classes"):
            ours, theirs = getattr(self.train, what), getattr(self.test, what)
            if ours != theirs:
                raise ValueError(f"train and test must have the same {what}, got {ours} and {theirs}")


class _WholeBatches(Dataset[Any]):
    """Gives a loader finished batches in place of lists of items."""

    def __init__(self, dataset: LabelledSet) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, rows: list[int]) -> Any:
        return self.dataset.normalised(self.dataset.read(rows)), self.dataset.labels[rows]


def class_numbers(labels: Any) -> Tensor:
    """Labels as (n,) int64 on the CPU. Raises ValueError and TypeError, naming the row, for what is no class."""
    tensor = as_labels(np.asarray(labels) if is_numbers(labels) else labels, len(labels), 0, "cpu")
    assert tensor is not None
    return tensor


def unchanged(batch: Any) -> Any:
    """The collation of batches that are finished."""
    return batch


@functools.lru_cache(maxsize=64)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    offset, scale = 255 * torch.tensor(mean), 1 / (255 * torch.tensor(std))
    return offset.view(-1, 1, 1).to(device), scale.view(-1, 1, 1).to(device)
