"""The 1 797 handwritten digits that come with scikit-learn, for tests and trials."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from fastcore.train.datasets.base import Splits
from fastcore.train.datasets.images import channel_statistics
from fastcore.train.datasets.source import Source


def read_digits(source: Source, root: Path) -> Splits:
    """The digits as 1 x 8 x 8 images; a third of every class, the same each time, is the test set."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError('digits needs scikit-learn: pip install "fastcore-coreset[train]"') from error
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    images = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))[:, None]
    train, test = train_test_split(np.arange(len(labels)), test_size=1 / 3, stratify=labels, random_state=0)
    mean, std = channel_statistics(images[train])
    source = dataclasses.replace(source, mean=mean, std=std)
    return Splits(
        *(source.image_set(images[rows], labels[rows], 10) for rows in (np.sort(train), np.sort(test)))
    )
