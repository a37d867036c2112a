"""Arrays of any kind as torch tensors, sharing memory where that is possible. Nothing here writes to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_KINDS = "a torch tensor, a numpy array, anything with DLPack or __array__, or a list of rows"
_PROTOCOLS = ("__array__", "__array_interface__")


def as_tensor(data: Any, name: str) -> Tensor:
    """``data`` as a real tensor of any shape, dtype and device, sharing memory where that is possible."""
    if isinstance(data, Tensor):
        tensor = data.detach()
    elif isinstance(data, list | tuple) and data and isinstance(data[0], Tensor):
        tensor = _stacked(data, name)
    elif not isinstance(data, np.ndarray) and hasattr(data, "__dlpack__"):
        tensor = _from_dlpack(data, name)
    elif not isinstance(data, np.ndarray) and hasattr(data, "__cuda_array_interface__"):
        tensor = _from_cuda(data, name)
    else:
        tensor = _from_numpy(_as_numpy(data, name), name)
    if tensor.is_complex() or tensor.is_quantized:
        raise TypeError(f"{name} must hold real numbers, got dtype {tensor.dtype}")
    if tensor.device.type == "meta":
        raise TypeError(f"{name} must hold values, got a tensor on the meta device")
    return tensor.resolve_neg() if tensor.layout == torch.strided else tensor


def _stacked(rows: Sequence[Any], name: str) -> Tensor:
    try:
        return torch.stack([row.detach() for row in rows])
    except (RuntimeError, AttributeError) as error:
        raise ValueError(
            f"{name} must be rows of one shape, dtype and device, got a list of which: {error}"
        ) from None


def _from_dlpack(data: Any, name: str) -> Tensor:
    try:
        return torch.from_dlpack(data)
    except Exception as error:
        # Not every exporter takes every dtype or a read-only array; its other protocols may still serve. A torch
        # that has no CUDA refuses memory of a GPU by an AssertionError.
        if hasattr(data, "__cuda_array_interface__"):
            return _from_cuda(data, name)
        if not any(hasattr(data, each) for each in _PROTOCOLS):
            raise TypeError(
                f"{name} is a {type(data).__name__} that torch cannot read: {_line(error)}"
            ) from error
        return _from_numpy(_as_numpy(data, name), name)


def _from_cuda(data: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(data)
    except Exception as error:
        reason = "torch sees no GPU, copy it to the host first"
        if torch.cuda.is_available():
            reason = _line(error)
        kind = type(data).__name__
        raise TypeError(f"{name} is a {kind} on a GPU that torch cannot read: {reason}") from error


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _as_numpy(data: Any, name: str) -> np.ndarray:
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError(f"{name} must hold a value everywhere, got a masked array: fill it first")
    if isinstance(data, np.ndarray):
        return data
    if is_scipy_sparse(data):
        raise TypeError(f"{name} is sparse: sparse input needs metric='precomputed'")
    if not isinstance(data, list | tuple | range) and not any(hasattr(data, each) for each in _PROTOCOLS):
        raise TypeError(f"{name} must be {_KINDS}, got {type(data).__name__}")
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{name} must be rows of one length: {error}") from None


def _from_numpy(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(step < 0 or step % array.itemsize for step in array.strides):
        array = array.copy()  # ascontiguousarray keeps the strides of a side of length 1
    if not array.flags.writeable:
        array = _without_write_lock(array)
    return torch.from_numpy(array)


class _Alias:
    """Stands for the memory of an array; keeps the array alive."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _without_write_lock(array: np.ndarray) -> np.ndarray:
    """The same memory without the read-only mark, about which torch warns. We never write to it."""
    return np.asarray(_Alias(array))


def is_scipy_sparse(data: Any) -> bool:
    """Whether it is a sparse matrix of scipy, told without an import of scipy."""
    return type(data).__module__.startswith("scipy.sparse") and hasattr(data, "tocoo")


def from_scipy(data: Any) -> Tensor:
    """A scipy sparse matrix in torch's COO layout, float32."""
    triplets = data.tocoo()
    if triplets.dtype.kind not in "biuf":
        raise TypeError(f"data must hold real numbers, got dtype {triplets.dtype}")
    places = torch.from_numpy(np.stack([triplets.row, triplets.col]).astype(np.int64))
    with np.errstate(over="ignore"):  # what is no float32 has an error of its own
        values = torch.from_numpy(triplets.data.astype(np.float32))
    return torch.sparse_coo_tensor(places, values, triplets.shape, check_invariants=True)
