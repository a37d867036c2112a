"""Files: arrays read without ever running what is in them, results written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes ``data`` to ``path``, whole or not at all.

    The bytes go to a temporary file in the same folder, which then takes the name: neither a full disk nor
    an interruption leaves half a file, and a file that was there stays as it was. Raises OSError.
    """
    target = os.path.realpath(path)
    try:
        if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            # A pipe or a device is written to, never replaced.
            with open(target, "wb") as stream:
                stream.write(data)
        else:
            _replace(target, data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, f"cannot write {os.fspath(path)}: {reason}") from error


def _replace(target: str, data: bytes) -> None:
    temporary = os.path.join(os.path.dirname(target), f".fastcore-{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_array(path: str | os.PathLike[str], key: str | None = None) -> Any:
    """The array in a file: .npy (memory-mapped), .npz, .pt or .pth, .safetensors, or a column of .parquet.

    ``key`` names the array of a file that holds several. No pickle is loaded: .npy and .npz are read with
    ``allow_pickle=False``, .pt with ``weights_only=True``. Raises OSError when the file cannot be opened and
    ValueError when it does not hold such an array.
    """
    source = Path(path)
    reader = _READERS.get(source.suffix.lower())
    if reader is None:
        raise ValueError(f"cannot read {source}: the ending must be one of {', '.join(_READERS)}")
    with _reading(source):
        return reader(source, key)


def array_names(path: str | os.PathLike[str]) -> set[str]:
    """Names of the arrays in an .npz or .safetensors file; none for other kinds. Raises like ``read_array``."""
    source = Path(path)
    ending = source.suffix.lower()
    if ending == ".npz":
        with _reading(source), np.load(source, allow_pickle=False) as archive:
            return set(archive.files)
    if ending == ".safetensors":
        with _reading(source):
            from safetensors import safe_open

            with safe_open(str(source), framework="pt") as tensors:
                return set(tensors.keys())
    return set()


def read_stamped(path: str | os.PathLike[str], stamp: str, version: int, what: str) -> dict[str, Any]:
    """The arrays of an .npz file that fastcore saved with this stamp, an array that holds its format.

    No pickle is loaded. Raises OSError when it cannot be read, ValueError when it is another kind of file than
    ``what`` says, or of a later format.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            found = int(arrays.pop(stamp))
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{os.fspath(path)} is not a {what} saved by fastcore") from error
    if found > version:
        raise ValueError(
            f"{os.fspath(path)} has format {found}, and this fastcore reads up to {version}: update it"
        )
    return arrays


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Lets OSError through and turns all else that a reader raises into one line."""
    with open(source, "rb"):
        pass  # a missing or unreadable file is an OSError, whatever the reader makes of it
    if source.stat().st_size == 0:
        raise ValueError(f"cannot read {source}: the file is empty")
    try:
        yield
    except (OSError, MemoryError, _WrongKeyError):
        raise
    except ImportError as error:
        raise ValueError(f"cannot read {source}: {error.name} is not installed") from error
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        if "pickle" in reason:  # advice to load them all the same
            reason = "it holds Python objects, which are never loaded"
        raise ValueError(f"cannot read {source}: {reason}") from error


class _WrongKeyError(ValueError):
    """A file with several arrays was read without saying which, or with a name it does not have."""


def _pick(path: Path, key: str | None, names: list[str], what: str = "array") -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key not in names:
        asked = f"has no {what} {key!r}" if key is not None else f"holds {len(names)} {what}s: name one"
        raise _WrongKeyError(f"{path} {asked}; there are {', '.join(names) or 'none'}")
    return key


def _read_npy(path: Path, key: str | None) -> Any:
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":  # numpy would advise to load it as a pickle
            raise ValueError("it is no .npy file")
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_npz(path: Path, key: str | None) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        return archive[_pick(path, key, list(archive.files))]


def _read_torch(path: Path, key: str | None) -> Any:
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message says how to run what is in the file
        raise ValueError("it holds more than tensors, and nothing else is ever loaded") from None
    if isinstance(held, dict):
        tensors = {str(name): value for name, value in held.items() if isinstance(value, torch.Tensor)}
        return tensors[_pick(path, key, list(tensors))]
    if not isinstance(held, torch.Tensor):
        raise ValueError(f"it holds a {type(held).__name__}, not a tensor")
    return held


def _read_safetensors(path: Path, key: str | None) -> Any:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as archive:
        return archive.get_tensor(_pick(path, key, list(archive.keys())))


def _read_parquet(path: Path, key: str | None) -> Any:
    from pyarrow import parquet

    name = _pick(path, key, list(parquet.read_schema(path).names), "column")
    column = parquet.read_table(path, columns=[name]).column(0)
    if column.null_count:
        raise ValueError(f"column {name!r} has {column.null_count} missing values")
    # Chunk by chunk: the offsets of one list array stop at 2^31 numbers.
    chunks = [_rows_of(chunk, name) for chunk in column.chunks if len(chunk)]
    if len({chunk.shape[1:] for chunk in chunks}) > 1:
        raise ValueError(f"column {name!r} must hold lists of one length")
    return np.concatenate(chunks) if chunks else np.empty((0, 0), np.float32)


def _rows_of(chunk: Any, name: str) -> Any:
    import pyarrow

    if isinstance(chunk, pyarrow.ExtensionArray):
        chunk = chunk.storage
    kinds = pyarrow.types
    if not (
        kinds.is_list(chunk.type) or kinds.is_large_list(chunk.type) or kinds.is_fixed_size_list(chunk.type)
    ):
        return chunk.to_numpy(zero_copy_only=False)
    values = chunk.flatten().to_numpy(zero_copy_only=False)
    width = len(values) // len(chunk)
    if any(len(row) != width for row in chunk):
        raise ValueError(f"column {name!r} must hold lists of one length")
    return values.reshape(len(chunk), width)


_READERS: dict[str, Callable[[Path, str | None], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
}
