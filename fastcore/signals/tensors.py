"""What items hold, turned into tensors: inputs that may be nested, and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def is_array(value: Any) -> bool:
    """Whether this is a tensor or a numpy array."""
    return isinstance(value, Tensor | np.ndarray)


def is_numbers(value: Any) -> bool:
    """Whether this is one (nested) list of numbers: an array, and not an item of several parts."""
    if not isinstance(value, list):
        return False
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, int | float | np.number)


def leaves(value: Any) -> Iterator[Any]:
    """Everything in nested dicts, tuples and lists, in order."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The same nested dicts and tuples with a function applied to everything in them."""
    if isinstance(value, Mapping):
        return {key: mapped(function, part) for key, part in value.items()}
    if isinstance(value, tuple) or (isinstance(value, list) and not is_numbers(value)):
        return tuple(mapped(function, part) for part in value)
    return function(value)


def size_of(inputs: Any) -> int:
    """Number of rows of nested tensors."""
    return len(next(leaves(inputs)))


def sliced(inputs: Any, rows: slice | int) -> Any:
    """Some of the rows of nested tensors, or one of them."""
    return mapped(lambda part: part[rows], inputs)


def stacked(values: Sequence[Any], row: int) -> Any:
    """One tensor of the values of all rows, the first of which is ``row``; nested values entry by entry."""
    first = values[0]
    if isinstance(first, Mapping):
        return {key: stacked([value[key] for value in values], row) for key in first}
    if isinstance(first, tuple) or (isinstance(first, list) and not is_numbers(first)):
        return tuple(stacked(part, row) for part in zip(*values))
    tensors = [as_tensor(value, row + i) for i, value in enumerate(values)]
    for i, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            shapes = f"{tuple(tensors[0].shape)} at row {row} and {tuple(tensor.shape)} at row {row + i}"
            raise ValueError(f"inputs must have one shape, got {shapes}: pad or crop them in the data set")
    return torch.stack(tensors)


def as_tensor(value: Any, row: int) -> Tensor:
    """The input of ``row``, or of the rows from there on, as a tensor. Raises TypeError for what is no array."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray | np.generic | int | float) or is_numbers(value):
        array = np.array(value)  # a copy: the rows of a memory map may be read-only
        if array.dtype.kind in "biuf":
            return torch.from_numpy(array)
    raise TypeError(
        f"inputs must be tensors or arrays of numbers, got {type(value).__name__} at row {row}: "
        "give the data set a transform that makes tensors"
    )


def moved(inputs: Any, row: int, device: torch.device | str, dtype: torch.dtype | None) -> Any:
    """Nested inputs as tensors on a device, in their own dtype; float64 becomes ``dtype`` where it is given."""

    def move(part: Any) -> Tensor:
        tensor = as_tensor(part, row)
        return tensor.to(device, dtype if tensor.dtype == torch.float64 else None)

    return mapped(move, inputs)


def as_labels(labels: Any, size: int, row: int, device: torch.device | str) -> Tensor | None:
    """(size,) int64 class numbers of the rows from ``row`` on. Raises TypeError or ValueError."""
    if labels is None:
        return None
    # Of a list each entry is read alone: a tensor of one number, an array of one, an int.
    parts = [_as_numpy(label) for label in labels] if isinstance(labels, list) else [_as_numpy(labels)]
    for i, part in enumerate(parts):
        if part.dtype.kind not in "biuf":
            value = part.flat[0] if part.size else part
            raise TypeError(f"labels must be class numbers, got {value!r} at row {row + i}")
    if len({part.shape for part in parts}) > 1:
        raise ValueError(f"labels must be one class number a row, got several shapes from row {row} on")
    array = np.stack(parts) if isinstance(labels, list) else parts[0]
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (size,):
        raise ValueError(
            f"labels must be one class number a row, got shape {array.shape} for {size} rows from row {row} on"
        )
    odd = np.flatnonzero(array != np.floor(array)) if array.dtype.kind == "f" else np.empty(0, np.int64)
    if len(odd):
        raise ValueError(f"labels must be whole class numbers, got {array[odd[0]]} at row {row + odd[0]}")
    return torch.from_numpy(array.astype(np.int64)).to(device)


def _as_numpy(labels: Any) -> np.ndarray:
    return np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
