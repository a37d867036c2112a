"""Signals on disk: written row by row into files that appear whole or not at all, and resumed after a kill.

While it is written, ``<path>.partial`` is a folder with the arrays and a ``manifest.json``: what the signals are
of and how many rows are done. At the end the folder takes the name of ``path`` in one step (and holds one .npy
file for each array), or, where ``path`` ends in .safetensors, the single file in it does.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastcore.files import write_atomic
from fastcore.signals.tensors import leaves

FLUSH_SECONDS = 2.0
"""How often what was written is made safe, with the number of rows: work that a kill may cost."""

_FORMAT = 1
_MANIFEST = "manifest.json"
_DATA = "data.safetensors"
_NAMES = {"float32": "F32", "int64": "I64"}  # of dtypes, as the safetensors format calls them
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}

Layout = dict[str, tuple[tuple[int, ...], str]]
"""Shape and numpy dtype of each array."""


class Memory:
    """Arrays in memory, filled from the first row on."""

    def __init__(self, layout: Layout) -> None:
        self.done = 0
        self._arrays: dict[str, np.ndarray] = {
            name: np.empty(shape, dtype) for name, (shape, dtype) in layout.items()
        }

    def write(self, rows: slice, values: dict[str, Tensor]) -> None:
        """Stores the values of some rows, which follow those that were stored before."""
        for name, value in values.items():
            torch.from_numpy(self._arrays[name])[rows] = value.to("cpu")
        self.done = rows.stop

    def finish(self) -> dict[str, Tensor]:
        """The arrays, all rows of which are there."""
        return {name: torch.from_numpy(array) for name, array in self._arrays.items()}


class Store(Memory):
    """The same in files.

    Args:
        path: a folder, or a file that ends in .safetensors; it must not be there yet.
        layout: what is written.
        origin: what the signals are of; an unfinished store of another origin is refused.

    Raises:
        ValueError: for an unfinished store of another model, data set or settings.
        OSError: when the files cannot be written, or the disk is too small for them.
    """

    def __init__(self, path: Path, layout: Layout, origin: dict[str, Any]) -> None:
        self._path, self._layout, self._origin = path, layout, origin
        self._partial = _partial(path)
        held = _read_manifest(self._partial / _MANIFEST)
        if held is not None:
            _check_origin(self._partial, held["origin"], origin)
            if held["layout"] != _plain(layout):
                raise ValueError(
                    f"{self._partial} holds other quantities, {', '.join(held['layout'])}: delete it"
                )
        else:
            _cleared(self._partial)
        self.done = 0 if held is None else int(held["done"])
        self._arrays = self._opened(new=held is None)
        self._saved = 0.0
        self._save()

    def write(self, rows: slice, values: dict[str, Tensor]) -> None:
        """Stores the values of some rows, which follow those that were stored before."""
        super().write(rows, values)
        if time.monotonic() - self._saved > FLUSH_SECONDS:
            self._save()

    def check_rows(self, values: dict[str, Tensor]) -> None:
        """Raises ValueError unless the rows that are done are those of this data set; values are of its first."""
        held = {name: torch.from_numpy(array)[: self.done] for name, array in self._arrays.items()}
        check_rows(self._partial, held, values)

    def finish(self) -> dict[str, Tensor]:
        """The arrays, memory-mapped from their final files. Changes of them are not written back."""
        self._save()
        self._arrays.clear()
        if _is_file(self._path):
            os.replace(self._partial / _DATA, self._path)
            shutil.rmtree(self._partial)
        else:
            os.rename(self._partial, self._path)
        return load(self._path)

    def _save(self) -> None:
        for array in self._arrays.values():
            array.flush()  # type: ignore[attr-defined]
        manifest = {
            "fastcore_signals": _FORMAT,
            "origin": self._origin,
            "layout": _plain(self._layout),
            "done": self.done,
        }
        write_atomic(self._partial / _MANIFEST, json.dumps(manifest, indent=1).encode())
        self._saved = time.monotonic()

    def _opened(self, new: bool) -> dict[str, np.ndarray]:
        if not _is_file(self._path):
            return {name: self._opened_npy(name, new) for name in self._layout}
        file = self._partial / _DATA
        header, offsets = _header(self._layout, self._origin)
        if new:
            file.write_bytes(header)
        arrays: dict[str, np.ndarray] = {}
        for name, (shape, dtype) in self._layout.items():
            start = len(header) + offsets[name]
            _reserve(file, start + _bytes(shape, dtype))
            arrays[name] = np.memmap(file, dtype, "r+", offset=start, shape=shape)
        return arrays

    def _opened_npy(self, name: str, new: bool) -> np.ndarray:
        file, (shape, dtype) = self._partial / f"{name}.npy", self._layout[name]
        array = np.lib.format.open_memmap(file, "w+" if new else "r+", np.dtype(dtype), shape)
        _reserve(file, file.stat().st_size)
        return array


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The arrays of a finished store, memory-mapped. Raises OSError or ValueError when they are not there."""
    path = Path(path)
    try:
        return _mapped(path)
    except (KeyError, TypeError, ValueError) as error:  # a file that was cut off, a header with other entries
        raise ValueError(f"{path} is damaged, delete it to compute it anew: {error}") from error


def check_rows(path: Path, held: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Raises ValueError unless the first rows at ``path`` are what the model says of the first rows now."""
    for name, value in values.items():
        size = min(len(value), len(held[name]))
        one, two = held[name][:size].double(), value[:size].cpu().double()
        # Another device or batch size rounds otherwise.
        slack = 0.0 if name == "labels" else 1e-2 * float(one.abs().max())
        if one.shape != two.shape or not torch.allclose(one, two, rtol=0.0, atol=slack):
            raise ValueError(
                f"{path} holds signals of another data set, with other {name}: choose another path, or delete it "
                "to compute them anew"
            )


def _mapped(path: Path) -> dict[str, Tensor]:
    if not _is_file(path):
        held = _read_manifest(path / _MANIFEST)
        if held is None:
            raise ValueError(f"{path} holds no signals: there is no {_MANIFEST} in it")
        return {
            name: torch.from_numpy(np.load(path / f"{name}.npy", mmap_mode="c")) for name in held["layout"]
        }
    header, start = _read_header(path)
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            dtype, offset = _DTYPES[entry["dtype"]], start + entry["data_offsets"][0]
            arrays[name] = np.memmap(path, dtype, "c", offset=offset, shape=tuple(entry["shape"]))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def finished(path: Path, names: list[str], origin: dict[str, Any]) -> dict[str, Tensor] | None:
    """What is at ``path`` already, or None when nothing is.

    Raises ValueError when it is something else than these signals of this origin.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    try:
        held = _read_manifest(path / _MANIFEST) if path.is_dir() else _manifest_in(path)
    except (OSError, ValueError, KeyError):
        held = None
    if held is None:
        raise ValueError(f"path must be new or hold signals, but {path} is there and holds something else")
    _check_origin(path, held["origin"], origin)
    arrays = load(path)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(
            f"{path} holds {', '.join(arrays)} and no {missing[0]}: choose another path or delete it"
        )
    return {name: arrays[name] for name in names}


def fingerprint(model: nn.Module) -> str:
    """A digest of the names and the values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        _digest(digest, value)
    return digest.hexdigest()


def first_row(inputs: Any) -> str:
    """A digest of the first row of a batch of inputs."""
    digest = hashlib.sha256()
    for part in leaves(inputs):
        _digest(digest, part[:1])
    return digest.hexdigest()


def _digest(digest: Any, value: Tensor) -> None:
    digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _cleared(folder: Path) -> None:
    """Makes the folder anew, where it is there because a start was killed before it wrote its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    foreign = [each.name for each in folder.iterdir() if each.suffix not in (".npy", ".safetensors", ".tmp")]
    if foreign:
        raise ValueError(f"{folder} must be ours to write, but holds {foreign[0]}")
    shutil.rmtree(folder)
    folder.mkdir()


def _is_file(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _plain(layout: Layout) -> dict[str, Any]:
    return {name: [list(shape), dtype] for name, (shape, dtype) in layout.items()}


def _reserve(file: Path, size: int) -> None:
    """Takes the space on disk: writing through a memory map ends the process where there is none left."""
    with open(file, "r+b") as stream:
        stream.truncate(max(size, file.stat().st_size))
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(stream.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not every file system can
                    raise OSError(error.errno, f"cannot write {file}: {error.strerror}") from None


def _header(layout: Layout, origin: dict[str, Any]) -> tuple[bytes, dict[str, int]]:
    """Header of a .safetensors file, and where in the data after it each array begins."""
    about = {"fastcore_signals": _FORMAT, "origin": origin}
    entries: dict[str, Any] = {"__metadata__": {"fastcore_signals": json.dumps(about)}}
    offsets, end = {}, 0
    # The wider dtype first keeps every array aligned without gaps, which the format forbids.
    for name, (shape, dtype) in sorted(layout.items(), key=lambda item: -np.dtype(item[1][1]).itemsize):
        offsets[name], end = end, end + _bytes(shape, dtype)
        entries[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offsets[name], end]}
    text = json.dumps(entries).encode()
    text += b" " * (
        -len(text) % 64 + 56
    )  # with the 8 bytes of the length, the data begins at a multiple of 64
    return len(text).to_bytes(8, "little") + text, offsets


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path} is not a .safetensors file")
        return dict(json.loads(file.read(length))), 8 + length


def _manifest_in(path: Path) -> dict[str, Any]:
    header, _ = _read_header(path)
    return dict(json.loads(header["__metadata__"]["fastcore_signals"]))


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """None where there is no manifest."""
    try:
        held = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if not isinstance(held, dict) or held.get("fastcore_signals") != _FORMAT:
        raise ValueError(f"{path} is no manifest of signals that this fastcore reads")
    return held


def _check_origin(path: Path, held: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if held.get(key) != value:
            raise ValueError(
                f"{path} holds signals of another {key}: choose another path, or delete it to compute them anew"
            )
