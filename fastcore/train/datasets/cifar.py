"""CIFAR-10 and CIFAR-100 as pickled batches, in a folder or in the archive they are published in."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fastcore.train.datasets.base import Splits
from fastcore.train.datasets.images import ImageSet
from fastcore.train.datasets.pickles import read_pickle
from fastcore.train.datasets.source import MissingFileError, Source, check_labels

_TRAIN_10 = tuple(f"data_batch_{i}" for i in range(1, 6))
_BYTES = 3 * 32 * 32


def read_cifar10(source: Source, root: Path) -> Splits:
    """CIFAR-10: five training batches and one of test images."""
    place = source.find(root, "cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1")
    files = _read_files(source, place, (*_TRAIN_10, "test_batch", "batches.meta"))
    return _splits(source, files, _TRAIN_10, ("test_batch",), "batches.meta", "labels", "label_names", 10)


def read_cifar100(source: Source, root: Path) -> Splits:
    """CIFAR-100 with its fine labels."""
    place = source.find(root, "cifar-100-python", "cifar-100-python.tar.gz", "train")
    files = _read_files(source, place, ("train", "test", "meta"))
    return _splits(source, files, ("train",), ("test",), "meta", "fine_labels", "fine_label_names", 100)


Files = dict[str, tuple[Path, dict[str, Any]]]


def _read_files(source: Source, place: Path, names: tuple[str, ...]) -> Files:
    """Path and content of each file, from a folder, from the folder of a file in it, or from a .tar.gz."""
    if place.suffix == ".gz":
        contents = _members(place, names)
    else:
        folder = place if place.is_dir() else place.parent
        contents = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
        place = folder
    for name in names:
        if name not in contents:
            raise MissingFileError(f"{source.name} needs {name}, which {place} does not have")
    return {name: (place / name, read_pickle(data, place / name)) for name, data in contents.items()}


def _members(archive: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """What is in some files of an archive, in one pass, without writing any."""
    found = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name in names and member.isfile():
                    stream = tar.extractfile(member)
                    assert stream is not None
                    found[name] = stream.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{archive} is a damaged archive: {error}") from error
    return found


def _splits(
    source: Source,
    files: Files,
    train: tuple[str, ...],
    test: tuple[str, ...],
    meta: str,
    labels: str,
    class_names: str,
    classes: int,
) -> Splits:
    path, held = files[meta]
    known = held.get(class_names)
    if not isinstance(known, list) or len(known) != classes:
        raise ValueError(f"{path} must hold {classes} names in {class_names!r}")
    known = [name.decode() if isinstance(name, bytes) else str(name) for name in known]

    def part(names: tuple[str, ...]) -> ImageSet:
        batches = [_batch(*files[name], labels, classes) for name in names]
        images, numbers = (np.concatenate(column) for column in zip(*batches))
        return source.image_set(images.reshape(-1, 3, 32, 32), numbers, classes, known)

    return Splits(part(train), part(test))


def _batch(path: Path, held: dict[str, Any], key: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3072) and labels (n,) of a file, checked."""
    for name in ("data", key):
        if name not in held:
            raise ValueError(f"{path} has no {name!r}: it holds {', '.join(map(repr, held)) or 'nothing'}")
    images, labels = held["data"], np.asarray(held[key])
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (_BYTES,):
        what = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise ValueError(f"{path} must hold 'data' (n, {_BYTES}) of bytes, got {what}")
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{path} must hold {len(images)} whole {key}, got {labels.dtype} {labels.shape}")
    check_labels(labels, classes, path)
    return images, labels.astype(np.int64)
