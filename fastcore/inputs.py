"""What users pass, turned into checked tensors. Nothing here writes to the arrays it is given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcore.arrays import as_tensor, from_scipy, is_scipy_sparse

LARGEST_NORM = 1e18
"""Largest norm of a row: the square of anything larger would overflow float32."""

_TILE = 1 << 22


def as_features(data: Any, device: Any = None, name: str = "data") -> Tensor:
    """The rows of ``data`` as a contiguous (n, d) float32 tensor on ``device`` (by default where they are).

    Takes torch tensors of any real dtype, layout of memory and device, numpy arrays and memory maps, cupy
    arrays and anything else that offers DLPack, ``__cuda_array_interface__``, ``__array_interface__`` or
    ``__array__`` (a pandas frame does), and lists of rows. Float32 rows that are contiguous are not copied;
    other dtypes are rounded to float32. Raises TypeError for other kinds and dtypes, ValueError for a wrong
    shape, for NaN and infinity, and for a row with a norm above 1e18.
    """
    table = as_table(data, name)
    rows = as_float32(table, device)
    _check_norms(rows, _check_finite(rows, table, name), name)
    return rows


def as_table(data: Any, name: str = "data") -> Tensor:
    """``data`` as a real tensor (n, d), as it is and where it is, its values not looked at. Raises as above."""
    table = as_tensor(data, name)
    if table.layout != torch.strided:
        raise TypeError(f"{name} is sparse: sparse input needs metric='precomputed'")
    if table.ndim != 2:
        hint = ""
        if table.ndim == 1:
            hint = ": use data.reshape(-1, 1) for n rows of one feature, data.reshape(1, -1) for one row"
        elif table.ndim > 2:
            hint = ": flatten every row, data.reshape(len(data), -1)"
        raise ValueError(
            f"{name} must have shape (rows, features), got {tuple(table.shape)}{hint.replace('data', name)}"
        )
    if 0 in table.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(table.shape)}")
    return table


def check_rows(table: Tensor, squares: Tensor, name: str = "data") -> None:
    """Raises ValueError for what ``as_features`` does, if the squared norms (n,) of the float32 rows ask for it.

    Otherwise the table (n, d) is not read: a NaN in it would be in its norm, and no float32 overflows a float64
    square. Else a few rows are looked at at a time, to say which and why.
    """
    if float(squares.max()) <= LARGEST_NORM**2:
        return
    for start, tile in _tiles(table):
        rows = tile.float()
        _check_norms(rows, _check_finite(rows, tile, name, start), name, start)


def as_matrix(data: Any, device: Any = None, pairs: str = "similarity", whole: bool = True) -> Tensor:
    """A precomputed (n, n) matrix of similarities or distances, dense or torch sparse, in float32.

    Takes what ``as_features`` takes, and scipy and torch sparse matrices (any layout). Raises like it, and
    ValueError for a matrix that is not square, unless it is some rows of the `whole`, or for a negative distance.
    """
    given = as_square(data, pairs, whole)
    if given.layout == torch.strided:
        values = as_float32(given, device)
        check_entries(values, given)
    else:
        given = given.to(given.device if device is None else device).to_sparse_coo().float().coalesce()
        values = given.values()
        bad = torch.nonzero(~torch.isfinite(values))
        if len(bad):
            row, column = given.indices()[:, bad[0, 0]].tolist()
            raise ValueError(
                f"data must be finite, got {float(values[bad[0, 0]])} at row {row}, column {column}"
            )
    if pairs == "distance" and values.numel() and float(values.min()) < 0:
        raise ValueError(f"data must hold distances of at least 0, got {float(values.min())}")
    return values if given.layout == torch.strided else given


def as_square(data: Any, pairs: str = "similarity", whole: bool = True) -> Tensor:
    """``data`` as a real (n, n) tensor, dense or sparse, as it is and where it is, its values not looked at."""
    matrix = from_scipy(data) if is_scipy_sparse(data) else as_tensor(data, "data")
    if matrix.ndim != 2 or (whole and matrix.shape[0] != matrix.shape[1]):
        raise ValueError(
            f"metric='precomputed' needs a square {pairs} matrix, got data of shape {tuple(matrix.shape)}"
        )
    if matrix.shape[0] == 0:
        raise ValueError(f"data must not be empty, got shape {tuple(matrix.shape)}")
    return matrix


def check_entries(values: Tensor, given: Tensor) -> None:
    """Raises ValueError where a number of a matrix in float32 is not finite, and says what was given there."""
    _check_finite(values, given, "data")


def as_probabilities(data: Any, device: Any = None, name: str = "data") -> Tensor:
    """Probabilities (n, C) whose rows sum to 1: float64 where they were given so, otherwise float32.

    Takes and raises what ``as_features`` does, and ValueError for an entry outside [0, 1] or a row whose sum
    is off by more than 1e-3.
    """
    given = as_tensor(data, name)
    rows = as_features(given, device, name)
    off = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
    for start, tile in _tiles(rows):
        sums = tile.double().sum(1)  # sum(dtype=) would copy all rows as well
        off[start : start + len(tile)] = ((tile < 0) | (tile > 1)).any(1) | ((sums - 1).abs() > 1e-3)
    if bool(off.any()):
        row = int(off.nonzero()[0])
        raise ValueError(
            f"{name} must hold probabilities, rows in [0, 1] that sum to 1, got sum "
            f"{float(rows[row].double().sum()):.6g} at row {row}: of logits make Signals(logits=...)"
        )
    return given.to(rows.device).contiguous() if given.dtype == torch.float64 else rows


def as_values(data: Any, device: Any = None, name: str = "data") -> Tensor:
    """One number a row, (n,) float64; infinity is allowed, NaN is not."""
    values = as_tensor(data, name)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} must have shape (rows,), one number a row, got {tuple(values.shape)}")
    values = values.to(values.device if device is None else device, torch.float64)
    if bool(values.isnan().any()):
        raise ValueError(f"{name} must not hold NaN, got it at row {int(values.isnan().nonzero()[0])}")
    return values


def as_labels(labels: Any, n: int) -> tuple[Tensor, np.ndarray]:
    """Class codes (n,) int64 on the CPU, numbered by ascending label, and the (C,) labels they stand for.

    Labels may be integers, booleans, strings, or floats that hold whole numbers, in an array of any kind.
    """
    if isinstance(labels, Tensor) or _is_beyond_numpy(labels):
        labels = as_tensor(labels, "labels").cpu()
        if labels.layout != torch.strided:
            raise TypeError("labels must be one label a row, got a sparse tensor")
        labels = labels.double() if labels.is_floating_point() else labels
    elif isinstance(labels, str | bytes) or not (
        isinstance(labels, Sequence) or hasattr(labels, "__array__")
    ):
        raise TypeError(
            f"labels must be an array or a list with one label a row, got {type(labels).__name__}"
        )
    try:
        values = np.asarray(labels)
        if (
            values.dtype.kind in "US"
            and isinstance(labels, list | tuple)
            and not all(isinstance(each, str | bytes) for each in labels)
        ):
            # Numpy makes strings of everything in a list that has one, 'nan' of what is missing.
            values = np.asarray(labels, dtype=object)
    except ValueError:
        raise ValueError("labels must be one label a row, got rows of different lengths") from None
    if values.ndim != 1 or len(values) != n:
        raise ValueError(f"labels must have shape ({n},), one label a row, got {values.shape}")
    if values.dtype.kind not in "biufUSO":
        raise TypeError(f"labels must be integers, strings or booleans, got dtype {values.dtype}")
    if values.dtype.kind == "f":
        odd = np.flatnonzero(~(np.isfinite(values) & (values == np.floor(values))))
        if len(odd):
            raise ValueError(f"labels must be whole numbers or strings, got {values[odd[0]]} at row {odd[0]}")
    elif values.dtype.kind == "O":
        missing = next((i for i, value in enumerate(values) if _is_missing(value)), None)
        if missing is not None:
            raise ValueError(f"labels must not be missing, got {values[missing]!r} at row {missing}")
    try:
        classes, codes = np.unique(values, return_inverse=True)
    except TypeError:
        kinds = sorted({type(value).__name__ for value in values.tolist()})
        raise TypeError(f"labels must be of one kind, got a mix of {', '.join(kinds)}") from None
    return torch.from_numpy(codes.astype(np.int64, copy=False)), classes


def as_rows(rows: Any, n: int, name: str) -> Tensor:
    """Different row numbers of n rows, (p,) int64 on the CPU."""
    given = as_tensor(rows, name)
    if given.ndim != 1:
        raise ValueError(f"{name} must be row numbers or 2-D features, got shape {tuple(given.shape)}")
    if given.is_floating_point() or given.dtype == torch.bool:
        raise TypeError(f"{name} must be integer row numbers or 2-D features, got dtype {given.dtype}")
    numbers = given.long().cpu()
    outside_range = numbers[(numbers < 0) | (numbers >= n)]
    if len(outside_range):
        raise ValueError(f"{name} rows must be between 0 and {n - 1}, got {int(outside_range[0])}")
    values, counts = torch.unique(numbers, return_counts=True)
    if len(values) != len(numbers):
        raise ValueError(f"{name} rows must be unique, got {int(values[counts > 1][0])} more than once")
    return numbers


def as_device(device: Any) -> torch.device | None:
    """The torch device that ``device`` names, or None for "where the data is". It must be usable."""
    if device is None:
        return None
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device must name a torch device such as 'cpu' or 'cuda:0', got {device!r}"
        ) from error
    if where.type == "cpu":
        return torch.device("cpu")  # there is one, whatever its number
    if where.type != "cuda":
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    if (where.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices"
        )
    if where.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return where


def _is_beyond_numpy(array: Any) -> bool:
    """Whether numpy cannot read this array and torch can: one of a GPU, or one that has DLPack alone."""
    return hasattr(array, "__cuda_array_interface__") or (
        hasattr(array, "__dlpack__") and not hasattr(array, "__array__")
    )


def _is_missing(value: Any) -> bool:
    # NaN is the float that differs from itself; pandas.NA refuses to be compared.
    return (
        value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))
    )


def as_float32(table: Tensor, device: Any) -> Tensor:
    """The table in float32, contiguous, on a device (by default where it is), its values not looked at."""
    # Moving first and converting there costs less than the other way round only for narrow dtypes.
    narrow = table.element_size() <= 4
    where = table.device if device is None else device
    moved = table.to(where).to(torch.float32) if narrow else table.to(torch.float32).to(where)
    return moved.contiguous()


def _tiles(table: Tensor) -> Iterator[tuple[int, Tensor]]:
    step = max(1, _TILE // table.shape[1])
    return ((start, table[start : start + step]) for start in range(0, len(table), step))


def _check_finite(rows: Tensor, original: Tensor, name: str, first: int = 0) -> float:
    """The largest absolute value, which must be finite."""
    # The least and the largest value carry a NaN along, and take no memory to find.
    largest = float(torch.stack(torch.aminmax(rows)).abs().max())
    if math.isfinite(largest):
        return largest
    for start, tile in _tiles(rows):
        bad = torch.nonzero(~torch.isfinite(tile))
        if len(bad):
            row, column = start + int(bad[0, 0]), int(bad[0, 1])
            value, place = float(original[row, column]), f"row {first + row}, column {column}"
            raise ValueError(f"{name} must be finite in float32, got {value} at {place}")
    return largest


def _check_norms(rows: Tensor, largest: float, name: str, first: int = 0) -> None:
    if largest * math.sqrt(rows.shape[1]) <= LARGEST_NORM:
        return
    for start, tile in _tiles(rows):
        norms = torch.linalg.vector_norm(tile, dim=1, dtype=torch.float64)
        bad = torch.nonzero(norms > LARGEST_NORM)
        if len(bad):
            row = int(bad[0, 0])
            raise ValueError(
                f"{name} must have rows of norm at most {LARGEST_NORM:g}, got {float(norms[row]):g} at row "
                f"{first + start + row}: scale the features down"
            )
