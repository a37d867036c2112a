"""Files that commands read and write: errors before the work, and with their names."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def check_writable(option: str, path: Path, endings: Sequence[str]) -> None:
    """Fails before the work rather than after it: ValueError for the ending, OSError for a bad folder."""
    if path.suffix.lower() not in endings:
        few = endings[0] if len(endings) == 1 else f"one of {', '.join(endings)}"
        raise ValueError(f"{option} must end in {few}, got {str(path)!r}")
    if path.suffix.lower() == ".safetensors" and importlib.util.find_spec("safetensors") is None:
        raise ValueError(f'cannot write {path}: pip install "fastcore-coreset[files]"')
    folder = path.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(None, f"cannot write {path}: the folder {folder} is not there or not writable")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file into the message of an error of the system."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
