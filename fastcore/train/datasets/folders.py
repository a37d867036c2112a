"""Images in files of their own, sorted into a folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcore.progress import Progress
from fastcore.train.datasets.augmentation import Augmentation
from fastcore.train.datasets.base import LabelledSet, Moment
from fastcore.train.datasets.images import ImageSet
from fastcore.train.datasets.seeds import mixed

_ENDINGS = (".jpeg", ".jpg", ".png", ".bmp", ".ppm", ".webp")
_SCALE, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of the random crop: share of the area, width by height


class FolderSet(LabelledSet):
    """Images in files, read when they are needed, each as ``size`` x ``size`` pixels of three channels.

    For training a random part of the image (8 % to 100 % of it, of a shape of 3:4 to 4:3) is stretched to the
    size, and mirrored with probability 1/2. Otherwise the shorter side becomes 8/7 of the size (256 for 224) and
    the centre is cut out.

    Args:
        root: folder that ``files`` are in.
        files: (n,) paths below it.
        labels: (n,) class numbers.
        name, classes, class_names, mean, std: as for ``ImageSet``.
        size: pixels of each side.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        files: Sequence[str],
        labels: Any,
        *,
        name: str = "images",
        classes: int | None = None,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        size: int = 224,
    ) -> None:
        if len(files) != len(labels):
            raise ValueError(f"{name} must have as many labels as files, got {len(labels)} and {len(files)}")
        super().__init__(
            name, labels, (3, size, size), classes=classes, class_names=class_names, mean=mean, std=std
        )
        self.root, self.size = Path(root), size
        # One array: a list of a million texts would be copied by every worker that counts references to them.
        self._files = np.array([os.fsencode(file) for file in files])

    def path(self, row: int) -> Path:
        """The file of a row."""
        return self.root / os.fsdecode(self._files[row])

    def read(self, rows: Sequence[int], moment: Moment | None = None) -> Tensor:
        """The images of some rows, (b, 3, size, size) uint8, cut as for training at a moment, or as for a test.

        Raises ValueError or OSError, naming the file, for one that cannot be read.
        """
        images = [self._cut(read_image(self.path(row)), row, moment) for row in rows]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    def take(self, rows: Tensor) -> FolderSet:
        """The data set of some rows, (k,) int64, in that order."""
        return self._changed(_files=self._files[rows.cpu().numpy()], labels=self.labels[rows.cpu()])

    def in_memory(self, augmentation: Augmentation | None, workers: int = 0) -> ImageSet:
        """All images, which must be of the size as they are, as one tensor of bytes, read by so many threads."""

        def read(row: int) -> np.ndarray:
            pixels = np.asarray(read_image(self.path(row)))
            if pixels.shape[:2] != (self.size, self.size):
                h, w = pixels.shape[:2]
                raise ValueError(f"{self.path(row)} must be {self.size} x {self.size} pixels, got {w} x {h}")
            channels_first: np.ndarray = pixels.transpose(2, 0, 1)
            return channels_first

        images = np.empty((len(self), *self.shape), np.uint8)
        with ThreadPoolExecutor(max(1, workers)) as pool, Progress(len(self), self.name, unit="image") as bar:
            try:
                for row, pixels in enumerate(pool.map(read, range(len(self)))):
                    images[row] = pixels
                    bar.update(1)
            except BaseException:
                pool.shutdown(cancel_futures=True)  # or an error waits for all that is queued
                raise
        return ImageSet(images, self.labels, augmentation=augmentation, **self.known)

    def _cut(self, image: Any, row: int, moment: Moment | None) -> np.ndarray:
        if moment is None:
            return _centre(image, self.size)
        rng = np.random.default_rng(mixed("crop", moment.seed, moment.epoch, row))
        return _random_part(image, self.size, rng)

    def _hash_images(self, digest: Any) -> None:
        for row, file in enumerate(self._files):
            digest.update(file + b"\0%d\0" % os.stat(self.path(row)).st_size)


def list_folders(root: Path, classes: Sequence[str] | None = None) -> tuple[list[str], list[int], list[str]]:
    """Files below the class folders of ``root``, sorted, as paths below it; their labels; names of the classes.

    ``classes`` are folders that must be there; by default all that are. Raises ValueError for a folder without
    images and for one that is missing or too many.
    """
    there = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if not there:
        raise ValueError(f"{root} must hold a folder of images for each class, it has no folders")
    wanted = sorted(classes) if classes is not None else there
    for name in [*wanted, *there]:
        if name not in there:
            raise ValueError(f"{root} is incomplete: it has no folder {name} for that class")
        if name not in wanted:
            raise ValueError(f"{root} has a folder {name}, which is none of the {len(wanted)} classes")
    files, labels = [], []
    for label, name in enumerate(wanted):
        found = [f"{name}/{file}" for file in images_in(root / name)]
        if not found:
            raise ValueError(f"{root / name} is incomplete: it has no images")
        files += found
        labels += [label] * len(found)
    return files, labels, wanted


def images_in(folder: Path) -> list[str]:
    """Names of the images in a folder and, as Tiny-ImageNet has it, in the folder ``images`` within it, sorted."""
    found = []
    for entry in os.scandir(folder):
        if entry.name.lower().endswith(_ENDINGS):
            found.append(entry.name)
        elif entry.name == "images" and entry.is_dir():
            found += [f"images/{name}" for name in images_in(folder / "images")]
    return sorted(found)


def read_image(path: Path) -> Any:
    """The RGB image in a file. Raises OSError where it is missing, ValueError, naming it, where it is damaged."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('image files need pillow: pip install "fastcore-coreset[train]"') from error
    with open(path, "rb") as file:  # a missing file is an OSError that names it
        try:
            return Image.open(file).convert("RGB")
        except Exception as error:  # a damaged file raises nearly anything
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ValueError(f"{path} is an unreadable image: {reason}") from error


def _centre(image: Any, size: int) -> np.ndarray:
    """The centre of an image whose shorter side is 8/7 of the size, (size, size, 3) uint8."""
    from PIL import Image

    side = round(size * 8 / 7)
    w, h = image.size
    short = min(w, h)
    image = image.resize((w * side // short, h * side // short), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _random_part(image: Any, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random part of an image, stretched to the size and perhaps mirrored, (size, size, 3) uint8."""
    from PIL import Image

    w, h = image.size
    for _ in range(10):
        area = w * h * rng.uniform(*_SCALE)
        ratio = np.exp(rng.uniform(*np.log(_RATIO)))
        width, height = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < width <= w and 0 < height <= h:
            break
    else:  # the image is very long: as large a part as has an allowed shape
        width, height = min(w, round(h * _RATIO[1])), min(h, round(w / _RATIO[0]))
    left, top = int(rng.integers(w - width + 1)), int(rng.integers(h - height + 1))
    box = (left, top, left + width, top + height)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels
