"""SVHN: cropped house numbers in MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastcore.train.datasets.base import Splits
from fastcore.train.datasets.images import ImageSet
from fastcore.train.datasets.source import Source, check_labels


def read_svhn(source: Source, root: Path) -> Splits:
    """The training and test images; the label 10 of the files is the digit 0."""
    paths = [source.find(root, f"{part}_32x32.mat") for part in ("train", "test")]
    train, test = (_read_part(source, path) for path in paths)
    return Splits(train, test)


def _read_part(source: Source, path: Path) -> ImageSet:
    held = _read_mat(path)
    for name in ("X", "y"):
        if not isinstance(held.get(name), np.ndarray):
            raise ValueError(f"{path} has no {name!r}, the {'images' if name == 'X' else 'labels'}")
    images, labels = held["X"], held["y"].ravel()
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3:
        raise ValueError(f"{path} must hold 'X' (h, w, 3, n) of bytes, got {images.dtype} {images.shape}")
    if images.shape[3] != len(labels):
        raise ValueError(f"{path} has {images.shape[3]} images, but {len(labels)} labels")
    if labels.dtype.kind not in "iuf":
        raise ValueError(f"{path} must hold numbers in 'y', got {labels.dtype}")
    digits = np.where(labels == 10, 0, labels)
    check_labels(digits, 10, path)
    return source.image_set(np.ascontiguousarray(images.transpose(3, 2, 0, 1)), digits.astype(np.int64), 10)


def _read_mat(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError('svhn needs scipy: pip install "fastcore-coreset[train]"') from error
    try:
        return dict(loadmat(path, variable_names=["X", "y"]))
    except Exception as error:  # a damaged file raises nearly anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is a damaged MATLAB file: {reason}") from error
