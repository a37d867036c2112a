"""Progress of long selections."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

_QUIET_SECONDS = 2.0


class Progress:
    """A bar on standard error that counts picks, or what ``unit`` says.

    ``show`` is True for a bar at once, False for none, or None for a bar that appears when the work takes
    longer than two seconds and standard error is a terminal. Use it as a context manager.
    """

    def __init__(self, total: int, label: str, show: bool | None = None, unit: str = "pick") -> None:
        hidden = None if show is None else not show
        delay = _QUIET_SECONDS if show is None else 0.0
        self._bar: Any = tqdm(
            total=total, desc=label, unit=unit, disable=hidden, delay=delay, leave=bool(show)
        )

    def update(self, count: int) -> None:
        """Adds to the count."""
        self._bar.update(count)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()
