"""ImageNet and Tiny-ImageNet: image files in a folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastcore.train.datasets.base import Splits
from fastcore.train.datasets.folders import FolderSet, images_in, list_folders
from fastcore.train.datasets.source import MissingFileError, Source


def read_imagenet(source: Source, root: Path) -> Splits:
    """Class folders in train/ and val/, 224 x 224; classes are numbered in the order of their folders' names.

    Any such folders will do, also of a part of the classes.
    """
    place = source.find(root, "train").parent
    files, labels, names = list_folders(_folder(source, place / "train"))
    train = _folder_set(source, place / "train", files, labels, names, 224)
    files, labels, _ = list_folders(_folder(source, place / "val"), names)
    return Splits(train, _folder_set(source, place / "val", files, labels, names, 224))


def read_tiny_imagenet(source: Source, root: Path) -> Splits:
    """Class folders in train/, and val/ with its annotations as the test set: the test split has no labels.

    Classes are numbered in the order of their folders' names. 64 x 64 pixels.
    """
    place = source.find(root, "wnids.txt").parent
    wnids = (place / "wnids.txt").read_text("utf-8").split()
    files, labels, wnids = list_folders(_folder(source, place / "train"), wnids)
    names = _words(place / "words.txt", wnids)
    train = _folder_set(source, place / "train", files, labels, names, 64)
    files, labels = _annotations(source, place / "val", wnids)
    return Splits(train, _folder_set(source, place / "val" / "images", files, labels, names, 64))


def _folder(source: Source, folder: Path) -> Path:
    if not folder.is_dir():
        raise MissingFileError(f"{source.name} needs the folder {folder}")
    return folder


def _folder_set(
    source: Source, root: Path, files: list[str], labels: list[int], names: Sequence[str], size: int
) -> FolderSet:
    return FolderSet(
        root,
        files,
        labels,
        name=source.name,
        classes=len(names),
        class_names=names,
        mean=source.mean,
        std=source.std,
        size=size,
    )


def _annotations(source: Source, folder: Path, wnids: list[str]) -> tuple[list[str], list[int]]:
    """Files and labels of the lines "file, class, box" of val_annotations.txt, checked against the folder."""
    path = folder / "val_annotations.txt"
    if not path.is_file():
        raise MissingFileError(f"{source.name} needs the file {path}")
    there = set(images_in(_folder(source, folder / "images")))
    numbers = {wnid: label for label, wnid in enumerate(wnids)}
    files, labels = [], []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if file not in there:
            raise ValueError(
                f"{path} names {file!r} in line {number}, which {folder / 'images'} does not have"
            )
        if wnid not in numbers:
            raise ValueError(f"{path} gives the class {wnid!r} in line {number}, which is not in wnids.txt")
        files.append(file)
        labels.append(numbers[wnid])
    bare = sorted(there - set(files))
    if bare:
        raise ValueError(f"{path} is incomplete: it has no line for {bare[0]}")
    return files, labels


def _words(path: Path, wnids: list[str]) -> list[str]:
    """The first name of each class in words.txt; the class itself where there is none."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return [words.get(wnid, wnid).partition(",")[0] for wnid in wnids]
