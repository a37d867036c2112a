"""Rows of a data set, whatever its shape: batches of inputs and labels, in order, on one device.

A data set is a torch ``Dataset`` (or anything with ``len`` and ``[row]``, such as a list or a Hugging Face data
set), a ``DataLoader``, a tensor or array of inputs, or a tuple ``(inputs, labels)`` of them. The rules:

- An item is ``(x, y)``, ``(x, y, anything...)``, a dict, or a bare x, which has no label.
- Of a dict, ``keys=("image", "label")`` names input and label; several input names in a tuple make a dict of
  them; None as the label's name means none. Without ``keys`` the usual names are looked for; of tokenised text
  (``input_ids``) all entries but the label are the input. Items that are tuples take ``keys=(0, 2)``.
- Inputs are passed as they are (bytes stay bytes: scaling is the transform's work); only float64 becomes
  ``dtype`` where that is given. Python numbers and lists of numbers become tensors.
- Rows keep the order of the data set. The first few are read twice: labels that differ raise, since the data set
  shuffles, and inputs that differ give a warning of random augmentation.
- A ``DataLoader`` must be sequential and keep its last batch. An ``IterableDataset`` is read by one process in the
  order it yields; it needs a ``__len__``, and stays right only if it yields the same order each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from fastcore import checks
from fastcore.signals.repeats import check_repeats
from fastcore.signals.tensors import (
    as_labels,
    is_array,
    is_numbers,
    leaves,
    moved,
    size_of,
    sliced,
    stacked,
)

INPUT_KEYS = ("x", "image", "img", "images", "pixel_values", "inputs", "input", "features")
LABEL_KEYS = ("y", "label", "labels", "target", "targets")


class Batch(NamedTuple):
    """Rows ``start`` to ``start + len(labels)`` of a data set.

    Attributes:
        start: number of the first row.
        inputs: what the model takes: a tensor, or a dict (keywords) or a tuple (positions) of tensors.
        labels: (b,) int64, or None where the data set has none.
    """

    start: int
    inputs: Any
    labels: Tensor | None

    @property
    def size(self) -> int:
        """Number of rows."""
        return size_of(self.inputs)

    @property
    def rows(self) -> slice:
        """The rows of the data set that these are."""
        return slice(self.start, self.start + self.size)


def count(dataset: Any) -> int:
    """Number of rows. Raises TypeError or ValueError for what is no data set, or one of no known order."""
    dataset = opened(dataset)
    if isinstance(dataset, DataLoader):
        _check_order(dataset)
        dataset = dataset.dataset
    if is_columns(dataset):
        n = _column_length(dataset)
    elif not hasattr(dataset, "__len__"):
        raise TypeError(f"dataset must have a length, got {type(dataset).__name__}: give it a __len__")
    else:
        n = len(dataset)
    if n == 0:
        raise ValueError("dataset must not be empty, got 0 rows")
    return n


def batches(
    dataset: Any,
    *,
    batch_size: int = 256,
    workers: int = 0,
    keys: Sequence[Any] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    start: int = 0,
) -> Iterator[Batch]:
    """The rows of a data set from ``start`` on, in order, a batch at a time; see the module for the rules.

    ``workers`` processes load items. A ``DataLoader`` brings its own batch size, workers and collation.

    Raises:
        ValueError, TypeError: for a data set without order, items that are not understood or do not stack,
            labels that are not one class number a row, and labels that differ when they are read again.
    """
    n = count(dataset)
    dataset, keys = opened(dataset), as_keys(keys)
    batch_size = checks.whole("batch_size", batch_size, 1)
    workers = checks.whole("workers", workers, 0)
    row = start
    for inputs, labels in _pairs(dataset, batch_size, workers, keys, start, n):
        reader = _rows_of(dataset, keys) if row == start else None
        if reader is not None:
            check_repeats(reader.__getitems__, row, inputs, labels, stacklevel=3)
        here = Batch(row, moved(inputs, row, device, dtype), as_labels(labels, size_of(inputs), row, device))
        row += here.size
        if row > n:
            raise ValueError(f"dataset has a length of {n}, but gave {row} rows or more")
        yield here
    if row < n:
        raise ValueError(f"dataset has a length of {n}, but gave only {row} rows")


def split(item: Any, keys: tuple[Any, Any] | None = None, row: int = 0) -> tuple[Any, Any]:
    """Inputs and labels (None where there are none) of an item, of a batch of items or of whole columns."""
    if isinstance(item, Mapping):
        return _split_mapping(item, keys)
    if keys is not None and any(isinstance(key, str) for key in keys):
        raise TypeError(f"keys {keys!r} need items that are dicts, got {type(item).__name__} at row {row}")
    if isinstance(item, tuple | list) and not is_numbers(item):
        try:
            if keys is not None:
                return item[keys[0]], None if keys[1] is None else item[keys[1]]
            return item[0], item[1] if len(item) > 1 else None
        except IndexError:
            raise ValueError(
                f"dataset must give (input, label) items, got {len(item)} parts at row {row}"
            ) from None
    return item, None


def _split_mapping(item: Mapping[Any, Any], keys: tuple[Any, Any] | None) -> tuple[Any, Any]:
    there = ", ".join(map(repr, item))
    if keys is None:
        label = next((key for key in LABEL_KEYS if key in item), None)
        if "input_ids" in item:
            name: Any = tuple(key for key in item if key != label)
        else:
            name = next((key for key in INPUT_KEYS if key in item), None)
        if name is None:
            raise ValueError(
                f'no input among the keys {there} of the items: name it, keys=("image", "label")'
            )
    else:
        name, label = keys
    wanted = [*(name if isinstance(name, tuple) else [name]), *([] if label is None else [label])]
    for key in wanted:
        if key not in item:
            raise ValueError(f"keys must be among {there}, got {key!r}")
    inputs = {key: item[key] for key in name} if isinstance(name, tuple) else item[name]
    return inputs, None if label is None else item[label]


def as_keys(keys: Sequence[Any] | None) -> tuple[Any, Any] | None:
    """Where the input and the label are, as a user said it. Raises ValueError for anything but a pair."""
    if keys is None:
        return None
    if isinstance(keys, str) or not isinstance(keys, Sequence) or len(keys) != 2:
        raise ValueError(f'keys must be a pair (input, label) such as ("image", "label"), got {keys!r}')
    name, label = keys
    return tuple(name) if isinstance(name, list) else name, label


def opened(dataset: Any) -> Any:
    """A data set whose rows are plain slices of tensors becomes the tuple of those tensors."""
    if type(dataset) is TensorDataset:  # a subclass may change the items
        return tuple(dataset.tensors)
    if (
        isinstance(dataset, list)
        and len(dataset) == 2
        and all(is_array(each) for each in dataset)
        and dataset[0].ndim != dataset[1].ndim
    ):
        return tuple(dataset)  # two items of different rank would not stack: these are inputs and labels
    if isinstance(dataset, tuple):
        return tuple(np.asarray(column) if is_numbers(column) else column for column in dataset)
    if isinstance(dataset, str | bytes) or not (
        is_columns(dataset)
        or isinstance(dataset, DataLoader | IterableDataset)
        or hasattr(dataset, "__getitem__")
    ):
        raise TypeError(
            "dataset must be a torch Dataset or DataLoader, a tensor or array of inputs, or a tuple "
            f"(inputs, labels) of them, got {type(dataset).__name__}"
        )
    return dataset


def is_columns(dataset: Any) -> bool:
    """Whether rows are slices of this: an array, a tuple of arrays, or a dict of arrays."""
    return is_array(dataset) or isinstance(dataset, tuple | Mapping)


def _column_length(columns: Any) -> int:
    lengths = []
    for column in leaves(columns):
        if not is_array(column) or column.ndim == 0:
            kind = type(column).__name__
            raise TypeError(f"dataset must be (inputs, labels) of tensors or arrays, got {kind} among them")
        lengths.append(len(column))
    if len(set(lengths)) > 1:
        raise ValueError(f"dataset must have as many labels as inputs, got {' and '.join(map(str, lengths))}")
    return lengths[0] if lengths else 0


def _check_order(loader: DataLoader[Any]) -> None:
    """Raises ValueError unless the loader gives every row once, in the order of its data set."""
    if loader.batch_size is None and type(loader.batch_sampler) is not BatchSampler:
        kind = "no batch size" if loader.batch_sampler is None else type(loader.batch_sampler).__name__
        raise ValueError(f"dataset is a DataLoader with {kind}: pass its data set itself")
    if loader.drop_last or getattr(loader.batch_sampler, "drop_last", False):
        raise ValueError("dataset is a DataLoader with drop_last=True: its last rows would be missing")
    if isinstance(loader.dataset, IterableDataset):
        if loader.num_workers > 1:
            raise ValueError(
                f"dataset is an iterable one read by {loader.num_workers} workers, in no known order: use one"
            )
        return
    sampler: Any = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if not (isinstance(sampler, SequentialSampler) or sampler == range(len(loader.dataset))):  # type: ignore[arg-type]
        raise ValueError(
            f"dataset is a DataLoader that shuffles ({type(sampler).__name__}): rows must come in the order of "
            "the data set, use shuffle=False or pass the data set itself"
        )


def _pairs(
    dataset: Any, batch_size: int, workers: int, keys: tuple[Any, Any] | None, start: int, n: int
) -> Iterator[tuple[Any, Any]]:
    """Inputs and labels, a batch at a time, from row ``start`` on."""
    if is_columns(dataset):
        inputs, labels = (dataset, None) if is_array(dataset) else split(dataset, keys)
        for row in range(start, n, batch_size):
            rows = slice(row, row + batch_size)
            yield sliced(inputs, rows), None if labels is None else labels[rows]
        return
    reader = _rows_of(dataset, keys)
    if reader is None:
        if isinstance(dataset, DataLoader):
            yield from _skipped((split(batch, keys) for batch in dataset), start)
        else:
            yield from _skipped(_grouped(iter(dataset), batch_size, keys), start)
        return
    if isinstance(dataset, DataLoader):
        sampler: Any = dataset.batch_sampler
        batch_size, workers = sampler.batch_size, dataset.num_workers
    # A generator of its own: the loader would draw its seed from the user's random numbers.
    yield from DataLoader(
        reader,
        batch_size=batch_size,
        sampler=range(start, n),
        num_workers=workers,
        collate_fn=_unchanged,
        generator=torch.Generator(),
    )


class _Rows(Dataset[Any]):
    """Reads whole batches, so that a worker hands over finished tensors and errors name the row."""

    def __init__(self, dataset: Any, keys: tuple[Any, Any] | None, collate: Any) -> None:
        self.dataset, self.keys, self.collate = dataset, keys, collate

    def __getitems__(self, rows: list[int]) -> tuple[Any, Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        items = fetch(rows) if fetch else [self.dataset[row] for row in rows]
        if self.collate is not None:
            return split(self.collate(items), self.keys, rows[0])
        return _stacked_items(items, self.keys, rows[0])


def _rows_of(dataset: Any, keys: tuple[Any, Any] | None) -> _Rows | None:
    """What reads rows by their numbers; None for columns, and for what only yields its rows one after another."""
    collate = None
    if type(dataset) is DataLoader:
        # The usual collation chokes on parts that are neither input nor label, such as file names.
        collate = None if dataset.collate_fn is default_collate else dataset.collate_fn
        dataset = dataset.dataset
    if is_columns(dataset) or isinstance(dataset, DataLoader | IterableDataset):
        return None
    return _Rows(dataset, keys, collate)


def _unchanged(batch: Any) -> Any:
    return batch


def _grouped(items: Iterator[Any], size: int, keys: tuple[Any, Any] | None) -> Iterator[tuple[Any, Any]]:
    row = 0
    while held := list(itertools.islice(items, size)):
        yield _stacked_items(held, keys, row)
        row += len(held)


def _skipped(pairs: Iterator[tuple[Any, Any]], start: int) -> Iterator[tuple[Any, Any]]:
    """The same batches without their first ``start`` rows."""
    for inputs, labels in pairs:
        size = size_of(inputs)
        if start < size:
            yield sliced(inputs, slice(start, None)), None if labels is None else labels[start:]
        start = max(0, start - size)


def _stacked_items(items: Sequence[Any], keys: tuple[Any, Any] | None, row: int) -> tuple[Any, Any]:
    pairs = [split(item, keys, row + i) for i, item in enumerate(items)]
    labels = [label for _, label in pairs]
    missing = [label is None for label in labels]
    if any(missing) and not all(missing):
        bare = row + missing.index(True)
        raise ValueError(f"dataset must have a label in every item or in none, row {bare} has none")
    return stacked([value for value, _ in pairs], row), None if missing[0] else labels
