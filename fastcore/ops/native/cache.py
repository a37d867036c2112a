"""The folder of built libraries: where it is, that nobody else can write to it, and its lock."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fastcore.ops.native.toolchain import UnavailableError


def configured() -> Path:
    """$FASTCORE_CACHE, else fastcore under $XDG_CACHE_HOME, else ~/.cache/fastcore."""
    if chosen := os.environ.get("FASTCORE_CACHE"):
        return Path(os.path.expanduser(chosen)).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home).absolute() / "fastcore"


def temporary() -> Path:
    """The private folder that stands in where the configured one cannot be written to."""
    return Path(tempfile.gettempdir()) / f"fastcore-{os.getuid()}"


def require_private(path: Path) -> None:
    """Raise UnavailableError if someone other than this user or root could have written to `path`."""
    facts = path.stat()
    if facts.st_uid not in (os.geteuid(), 0):
        raise UnavailableError(
            f"{path} belongs to another user, whose code would run here; set FASTCORE_CACHE"
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnavailableError(
            f"other users can write to {path}, and their code would run here; chmod go-w it"
        )


def private_folder(root: Path, *parts: str) -> Path:
    """Make the folder root/part/part for this user alone, and check every level from the root down."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_private(root)
    path = root
    for part in parts:
        path = path / part
        path.mkdir(mode=0o700, exist_ok=True)
        require_private(path)
    return path


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[int]:
    """Hold the lock of `folder`, and yield a descriptor of it.

    A child that inherits the descriptor holds the lock as well: the compilers of a process that was killed
    keep others out until they have ended. No lock outlives the processes that hold it.
    """
    import fcntl

    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = "fastcore: another process is building the native library; waiting for it ..."
            print(message, file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield descriptor
        finally:  # unlocked by hand: a fork of this process may still have the descriptor open
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
