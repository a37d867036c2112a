"""What is known of a data set that comes from standard files, and how its files are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcore.train.datasets.augmentation import Augmentation
from fastcore.train.datasets.base import Splits
from fastcore.train.datasets.images import ImageSet


class MissingFileError(FileNotFoundError):
    """A file of a data set is not where it may be."""


@dataclass(frozen=True)
class Source:
    """A data set by its name.

    Attributes:
        name: what configurations call it.
        read: makes the splits from the source and the root folder.
        mean, std: of each channel of the training images, in [0, 1].
        published: where its files come from.
        folders: below the root, where they are looked for, before the root itself.
        augmentation: crops and flips of training.
        class_names: names of the classes that are not in the files.
        in_memory: whether all images are read into memory.
        torchvision: the class of torchvision.datasets that downloads it, or None.
        parts: its arguments for training and test files.
    """

    name: str
    read: Callable[[Source, Path], Splits]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    published: str
    folders: tuple[str, ...] = ()
    augmentation: Augmentation | None = None
    class_names: tuple[str, ...] | None = None
    in_memory: bool = True
    torchvision: str | None = None
    parts: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})

    def find(self, root: Path, *names: str) -> Path:
        """The first file or folder of any of these names. Raises MissingFileError with the places looked at."""
        places = [*(root / folder for folder in self.folders), root]
        for place in places:
            for name in names:
                if (place / name).exists():
                    return place / name
        looked = ", ".join(map(str, places))
        raise MissingFileError(f"{self.name} needs {' or '.join(names)}, looked for in {looked}")

    def image_set(
        self, images: Any, labels: Any, classes: int, class_names: Sequence[str] | None = None
    ) -> ImageSet:
        """Images in memory with what is known of this data set."""
        return ImageSet(
            images,
            labels,
            name=self.name,
            classes=classes,
            class_names=class_names or self.class_names,
            mean=self.mean,
            std=self.std,
            augmentation=self.augmentation,
        )


def check_labels(labels: Any, classes: int, path: Path) -> None:
    """Raises ValueError, naming file and row, for a label outside 0 .. classes - 1."""
    for row, label in enumerate(labels):
        if not 0 <= label < classes:
            raise ValueError(f"{path} has the label {label} at row {row}, classes are 0 .. {classes - 1}")
