"""Pickles of arrays and lists, read without running what is in them."""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def read_pickle(data: bytes, path: Path) -> dict[str, Any]:
    """The dictionary in a pickle of Python 2 or 3: numbers, texts, bytes, lists, dicts and numpy arrays of them.

    Raises ValueError, naming the file, where it holds anything else or is damaged. No function but those that
    make arrays is called, so a file of a stranger's is safe to read.
    """
    try:
        held = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(f"{path} is no pickle of arrays: {str(error) or type(error).__name__}") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} must hold a dictionary, got {type(held).__name__}")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in held.items()
    }


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def _numpy_maker(module: str, name: str) -> Callable[..., Any]:
    """A function of numpy that pickles call, wherever this version of numpy has it."""
    core = "_core" if int(np.__version__.partition(".")[0]) >= 2 else "core"
    maker: Callable[..., Any] = getattr(importlib.import_module(f"numpy.{core}.{module}"), name)
    return maker


def _latin1(text: str, encoding: str) -> bytes:
    """What pickles of protocol 2 make bytes by."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}, which is not allowed")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _numpy_maker("multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"): _numpy_maker("numeric", "_frombuffer"),
    ("_codecs", "encode"): _latin1,
}
