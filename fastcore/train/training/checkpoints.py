"""Checkpoints of a training run: written whole, of this very run, and read without running what is in them."""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastcore.files import write_atomic

_FORMAT = 1
_STAMP = "fastcore_checkpoint"
_SHOWN = 3  # differences that an error lists


class Checkpoint:
    """The file in which a run keeps its state.

    Args:
        path: the file, None for none: then nothing is read or written.
        identity: what the run is, as nested dicts of plain values: a checkpoint of another is refused.
        seconds: least time between two that need not be written. It is stretched where writing takes long: at 30
            seconds, to spend no more than a twentieth of the time on it.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, identity: Mapping[str, Any], seconds: float
    ) -> None:
        self.path = None if path is None else Path(path)
        self._identity, self._wait = _flat(identity), seconds
        self._pause, self._written = seconds, time.monotonic()
        if self.path is not None and not self.path.resolve().parent.is_dir():
            raise OSError(None, f"cannot write {self.path}: its folder is not there")

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return self.path is not None and time.monotonic() - self._written >= self._pause

    def save(self, state: dict[str, Any]) -> None:
        """Writes a state of tensors, plain values, dicts and lists. Raises OSError, TypeError for other values."""
        if self.path is None:
            return
        begin = time.monotonic()
        _check_plain(state, "state")
        buffer = io.BytesIO()
        torch.save({_STAMP: _FORMAT, "identity": self._identity, "state": state}, buffer)
        write_atomic(self.path, buffer.getvalue())
        self._written = time.monotonic()
        self._pause = self._wait * max(1.0, (self._written - begin) / 1.5)

    def load(self) -> dict[str, Any] | None:
        """The state in the file, on the CPU; None when there is no file.

        Raises ValueError when the file is damaged, something else, or of another run, saying what differs.
        """
        if self.path is None or not self.path.exists():
            return None
        held = _read(self.path)
        if held[_STAMP] > _FORMAT:
            raise ValueError(
                f"{self.path} has format {held[_STAMP]}, and this fastcore reads up to {_FORMAT}: update it"
            )
        theirs = held["identity"]
        names = [*self._identity, *(name for name in theirs if name not in self._identity)]
        there, here = theirs.get, self._identity.get
        differ = [
            f"{name} is {there(name)!r} there and {here(name)!r} here"
            for name in names
            if there(name) != here(name)
        ]
        if differ:
            more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
            raise ValueError(
                f"{self.path} is the checkpoint of another run ({'; '.join(differ[:_SHOWN])}{more}): delete it or "
                "name another file"
            )
        return dict(held["state"])


def structure(network: nn.Module) -> str:
    """A text that networks of other layers, shapes or settings do not have; weights play no part in it."""
    settings = re.sub(r" at 0x[0-9a-f]+", "", repr(network))
    shapes = [(name, tuple(value.shape), str(value.dtype)) for name, value in network.state_dict().items()]
    return f"{type(network).__name__} {hashlib.sha256(f'{settings}{shapes}'.encode()).hexdigest()[:16]}"


def _read(path: Path) -> dict[str, Any]:
    try:
        # torch does not look at the sums that its archives hold.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        held = None if broken else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot read {path}: {error.strerror or error}") from error
    except Exception:
        held = None
    if held is None:
        raise ValueError(f"{path} is a damaged checkpoint: delete it to train from the start")
    if not isinstance(held, dict) or not {_STAMP, "identity", "state"} <= held.keys():
        raise ValueError(f"{path} is not a checkpoint of fastcore: name another file")
    return held


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _check_plain(value: Any, where: str) -> None:
    """Raises TypeError, naming the place, for what could not be read back without running code."""
    if isinstance(value, dict):
        for name, each in value.items():
            _check_plain(each, f"{where}[{name!r}]")
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            _check_plain(each, f"{where}[{place}]")
    elif type(value) not in (type(None), bool, int, float, str) and not isinstance(value, torch.Tensor):
        raise TypeError(
            f"a checkpoint holds tensors, numbers, texts, dicts and lists, got {type(value).__name__} at {where}"
        )
