"""Any torch or Hugging Face data set of the user's as one of the training harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset

from fastcore import checks
from fastcore.signals import items
from fastcore.signals.tensors import is_array
from fastcore.train.datasets.augmentation import Augmentation
from fastcore.train.datasets.base import LabelledSet, Splits, class_numbers
from fastcore.train.datasets.images import channel_statistics
from fastcore.train.datasets.itemset import ItemSet, Keys, Transform
from fastcore.train.datasets.seeds import seeded

_MEMORY = 2**30  # bytes of images that are taken into memory unasked


def from_dataset(
    train: Any,
    test: Any,
    *,
    keys: Sequence[Any] | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "dataset",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augmentation: Augmentation | Transform | None = None,
    in_memory: bool | None = None,
) -> Splits:
    """Two data sets of the user's, one to train on and one to test on, as ``Splits``.

    Images may be tensors or arrays (c, h, w), PIL images, or bytes (h, w, c) or (h, w). Bytes are normalised by
    ``mean`` and ``std``; float images are taken as they are. Random transforms of the data set's own would also
    run when selecting: give them as ``augmentation`` instead.

    Args:
        train, test: torch Datasets, Hugging Face datasets, (images, labels), or anything with ``len`` and
            ``[row]``; their items are understood as by ``fastcore.signals.items``. Labels are read once: from
            the label column or ``targets`` where these agree with the items, else from all items.
        keys: names of image and label in items that are dicts, such as ("image", "label").
        classes: number of classes; by default one more than the highest label.
        class_names: a name for every class; by default those that the data set has.
        name: what records and errors call it.
        mean, std: of each channel, of values in [0, 1]; by default those of the training images where these are
            in memory, and 0 and 1 where not.
        augmentation: an ``Augmentation``, or a function of one image that may draw from the random numbers of
            torch, numpy or Python; only when training. Its padding is 0, which is black in bytes.
        in_memory: whether images of bytes are read once into one tensor (an ``ImageSet``), much faster to train
            on. None does it for up to 1 GiB, unless the augmentation is a function.

    Raises ValueError and TypeError, naming the row, for items that are not understood or have no label.
    """
    if isinstance(train, LabelledSet) and isinstance(test, LabelledSet):
        return Splits(train, test)
    pair, checked = items.as_keys(keys), checks.choice("in_memory", in_memory, (None, False, True))
    opened = [_opened(part, what) for part, what in ((train, "train"), (test, "test"))]
    labels = [read_labels(part, pair) for part in opened]
    count = checks.whole(
        "classes", max(int(each.max()) for each in labels) + 1 if classes is None else classes, 1
    )
    if class_names is None:
        class_names = _class_names(opened[0], pair, count)
    known: dict[str, Any] = {"name": name, "classes": count, "class_names": class_names}
    sets: list[Any] = [
        ItemSet(part, each, keys=pair, augmentation=augmentation, **known)
        for part, each in zip(opened, labels)
    ]
    if checked is None:
        needed = [each.bytes_needed() for each in sets]
        fits = all(size is not None for size in needed) and sum(size or 0 for size in needed) <= _MEMORY
        checked = fits and (augmentation is None or isinstance(augmentation, Augmentation))
    default: Any = (0.0,), (1.0,)
    if checked:
        sets = [each.in_memory() for each in sets]
        default = channel_statistics(sets[0].images)
    mean, std = (given if given is not None else own for given, own in zip((mean, std), default))
    return Splits(*(each.normalised_by(mean, std) for each in sets))


def read_labels(dataset: Any, keys: Keys) -> Tensor:
    """(n,) int64 labels of a data set. Raises ValueError and TypeError, naming the row, where there are none."""
    n = items.count(dataset)
    if isinstance(dataset, LabelledSet):
        return dataset.labels
    if type(dataset) is Subset:
        labels: Tensor = read_labels(dataset.dataset, keys)[torch.as_tensor(dataset.indices)]
        return labels
    with seeded("labels"):  # transforms of images may draw random numbers
        column = _label_column(dataset, keys)
        if column is not None and len(column) == n:
            ends = {0, n - 1}
            if all(items.split(dataset[row], keys, row)[1] == column[row] for row in ends):
                return _as_labels(column)
        return _as_labels([items.split(dataset[row], keys, row)[1] for row in range(n)])


def _as_labels(labels: list[Any]) -> Tensor:
    bare = [row for row, label in enumerate(labels) if label is None]
    if bare:
        raise ValueError(
            f"dataset must have a label in every item, row {bare[0]} has none: name it with keys="
        )
    return class_numbers(labels)


def _label_column(dataset: Any, keys: Keys) -> list[Any] | None:
    """All labels without reading the images, where the data set has them: what is in its files, to be checked."""
    if hasattr(dataset, "column_names") and hasattr(dataset, "with_format"):  # of Hugging Face
        there = dataset.column_names
        name = keys[1] if keys else next((key for key in items.LABEL_KEYS if key in there), None)
        return list(dataset.with_format(None)[name][:]) if name in there else None
    if isinstance(dataset, TensorDataset) and keys is None and len(dataset.tensors) > 1:
        return list(dataset.tensors[1].unbind())
    targets = getattr(dataset, "targets", None)  # of torchvision
    return list(targets) if isinstance(targets, list | Tensor | np.ndarray) else None


def _class_names(dataset: Any, keys: Keys, classes: int) -> Sequence[str] | None:
    """The names that a data set of Hugging Face or torchvision has for its classes."""
    features = getattr(dataset, "features", None)
    if isinstance(features, dict):
        name = keys[1] if keys else next((key for key in items.LABEL_KEYS if key in features), None)
        names = getattr(features.get(name), "names", None)
    else:
        names = getattr(dataset, "classes", None)
    return names if isinstance(names, list | tuple) and len(names) == classes else None


def _opened(dataset: Any, argument: str) -> Any:
    """A data set with rows; (images, labels) become one."""
    if isinstance(dataset, tuple) and len(dataset) == 2 and all(is_array(each) for each in dataset):
        return TensorDataset(*(torch.as_tensor(each) for each in dataset))
    if isinstance(dataset, DataLoader):
        raise TypeError(f"{argument} must be a data set, got a DataLoader: pass its data set")
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")) or isinstance(
        dataset, str | bytes | Mapping
    ):
        raise TypeError(f"{argument} must be a data set with len and [row], got {type(dataset).__name__}")
    return dataset
