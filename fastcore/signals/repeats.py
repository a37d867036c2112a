"""Whether a data set keeps its rows: a few are read twice."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from fastcore.signals.tensors import as_labels, leaves, moved, size_of, sliced

_READ_TWICE = 8


def check_repeats(
    read: Callable[[list[int]], tuple[Any, Any]], row: int, inputs: Any, labels: Any, stacklevel: int
) -> None:
    """Reads the first rows of a batch again, which begins at ``row``, and compares.

    Raises ValueError where labels differ: the data set shuffles. Warns where inputs do: it augments at random.
    """
    size = min(_READ_TWICE, size_of(inputs))
    again, others = read(list(range(row, row + size)))
    if labels is not None and others is not None:
        first, second = (as_labels(each[:size], size, row, "cpu") for each in (labels, others))
        if not _alike(first, second):
            raise ValueError(
                "dataset must keep its rows in place, got labels that differ when the same rows are read again: "
                "turn off the shuffling inside it"
            )
    parts = (leaves(moved(sliced(each, slice(size)), row, "cpu", None)) for each in (inputs, again))
    if not all(_alike(one, two) for one, two in zip(*parts, strict=True)):
        warnings.warn(
            "dataset gives other inputs when the same rows are read again: what the network says of them is of "
            "random versions; pass the data set without random augmentation",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _alike(one: Any, two: Any) -> bool:
    if one.shape != two.shape:
        return True  # padded to the longest row of a batch
    # Up to rounding: a data set that is asked for many rows may compute them together.
    return torch.allclose(one.double(), two.double(), rtol=1e-3, atol=1e-3, equal_nan=True)
