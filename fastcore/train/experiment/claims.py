"""Who works on what: locks that die with the process that holds them, and a note of runs that did not end well."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

MOST_STARTS = 2
"""How often a run is started in one session: once more after a process died of it."""


@contextlib.contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Holds the lock file at ``path`` for a block, and says whether it could: no other process holds it.

    The operating system lets go of it when the process ends, however it ends. What the lock stands for may be
    done when it is got, by who held it before, who may even have removed the file. Raises OSError.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def waiting(path: Path) -> contextlib.AbstractContextManager[object]:
    """Holds the lock file at ``path`` for a block, once whoever holds it has let go."""
    return FileLock(path)


class Claims:
    """The claims on the runs of an experiment.

    A session is one command with all its processes. A run that failed, or that two processes died of, is not
    tried again in the same session, and is in the next.

    Args:
        folder: where the lock files are, and a note for each run that has begun and not ended.
        session: its name.
    """

    def __init__(self, folder: Path, session: str) -> None:
        self._folder, self._session = folder, session

    def take(self, key: str) -> contextlib.AbstractContextManager[bool]:
        """Claims a run for a block, which is told whether it is ours."""
        return claim(self._lock(key))

    def given_up(self, key: str) -> bool:
        """Whether the run is not to be tried again in this session. To be asked while the run is claimed."""
        note = self._note(key)
        return bool(note) and (note["failed"] or note["starts"] >= MOST_STARTS)

    def begin(self, key: str) -> None:
        """Notes that this process starts a run."""
        starts = self._note(key).get("starts", 0) + 1
        self._write(key, {"starts": starts, "failed": False})

    def fail(self, key: str) -> None:
        """Notes that a run failed."""
        self._write(key, {"starts": 1, "failed": True})

    def end(self, key: str, done: bool = False) -> None:
        """Forgets what was noted of a run that did not fail; where it is done for good, its lock file goes too."""
        self._path(key).unlink(missing_ok=True)
        if done:
            self._lock(key).unlink(missing_ok=True)

    def failed(self, key: str) -> bool:
        """Whether the run failed in this session."""
        return bool(self._note(key).get("failed"))

    def begun_by(self, process: int) -> list[str]:
        """Keys of the runs that a process of this session began and did not end."""
        keys = [path.stem for path in self._folder.glob("*.json")]
        return [key for key in keys if self._note(key).get("process") == process]

    def _lock(self, key: str) -> Path:
        return self._folder / f"{key}.lock"

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _note(self, key: str) -> dict[str, Any]:
        """What this session noted of a run; nothing where there is no such note, or one that cannot be read."""
        try:
            note = json.loads(self._path(key).read_text())
        except (OSError, ValueError):
            return {}
        return dict(note) if isinstance(note, dict) and note.get("session") == self._session else {}

    def _write(self, key: str, note: dict[str, Any]) -> None:
        # Not made safe on disk: what half a file says is that nothing is known.
        self._path(key).write_text(json.dumps({"session": self._session, "process": os.getpid(), **note}))
