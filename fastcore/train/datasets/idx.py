"""The idx files of the MNIST family, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from fastcore.train.datasets.base import Splits
from fastcore.train.datasets.images import ImageSet
from fastcore.train.datasets.source import Source, check_labels

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CLASSES = 10

MNIST_FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
QMNIST_FILES = (
    ("qmnist-train-images-idx3-ubyte", "qmnist-train-labels-idx2-int"),
    ("qmnist-test-images-idx3-ubyte", "qmnist-test-labels-idx2-int"),
)


def read_mnist(source: Source, root: Path) -> Splits:
    """MNIST, or another data set in files of its names."""
    train, test = (_read_part(source, root, *files) for files in MNIST_FILES)
    return Splits(train, test)


def read_qmnist(source: Source, root: Path) -> Splits:
    """QMNIST with all 60 000 test images; of the eight columns of its labels the first is the class."""
    train, test = (_read_part(source, root, *files) for files in QMNIST_FILES)
    return Splits(train, test)


def _read_part(source: Source, root: Path, images_file: str, labels_file: str) -> ImageSet:
    image_path, label_path = (
        source.find(root, name, f"{name}.gz", name.replace("-idx", ".idx"))
        for name in (images_file, labels_file)
    )
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(
            f"{image_path} must hold images (n, h, w) of bytes, got {images.dtype} {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.ndim not in (1, 2) or labels.shape[-1] == 0:
        raise ValueError(
            f"{label_path} must hold whole numbers (n,) or (n, 8), got {labels.dtype} {labels.shape}"
        )
    labels = labels if labels.ndim == 1 else labels[:, 0]
    if len(images) != len(labels):
        raise ValueError(f"{image_path} has {len(images)} images, but {label_path} has {len(labels)} labels")
    check_labels(labels, _CLASSES, label_path)
    return source.image_set(images, labels.astype(np.int64), _CLASSES)


def read_idx(path: Path) -> np.ndarray:
    """The array in an idx file, plain or gzipped.

    Raises ValueError, naming the file, where it is cut short, too long or no idx file.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _DTYPES:
        raise ValueError(f"{path} is no idx file: it begins with {data[:4].hex(' ') or 'nothing'}")
    dtype, start = np.dtype(_DTYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"{path} is cut short: its header needs {start} bytes, got {len(data)}")
    shape = tuple(np.frombuffer(data, ">i4", data[3], 4).tolist())
    if min(shape, default=0) < 0:
        raise ValueError(f"{path} is damaged: its header says {shape}")
    size = start + math.prod(shape) * dtype.itemsize
    if len(data) != size:
        raise ValueError(f"{path} is damaged: its header {shape} makes {size} bytes, got {len(data)}")
    # A copy: torch wants an array that may be written to.
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
