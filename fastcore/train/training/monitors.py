"""What a user sees of a run: a progress bar and TensorBoard."""

from __future__ import annotations

import os
from typing import Any

from fastcore.progress import Progress
from fastcore.train.training.records import Ledger


class Monitor:
    """Shows a run on a bar with the time left, and writes its history for TensorBoard; a context manager.

    Args:
        epochs: of the run.
        log_dir: folder for TensorBoard, None for none. Raises ImportError where tensorboard is missing.
        show: of the bar; see ``fastcore.progress.Progress``.
    """

    def __init__(
        self, epochs: int, log_dir: str | os.PathLike[str] | None = None, show: bool | None = None
    ) -> None:
        self._epochs = epochs
        self._bar = _Bar(0, "train", show, unit="step")
        self._accuracy = ""
        self._writer: Any = None if log_dir is None else _writer(log_dir)

    def __enter__(self) -> Monitor:
        self._bar.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.__exit__(*exc)
        if self._writer is not None:
            self._writer.close()

    def begin(self, epoch: int, step: int, steps: int) -> None:
        """An epoch of so many steps begins, or goes on at a step."""
        self._bar.place(epoch * steps + step, self._epochs * steps)

    def step(self, ledger: Ledger | None) -> None:
        """A step is done; its losses are shown where they were just written."""
        self._bar.update(1)
        if ledger is not None:
            self._say(ledger.loss / ledger.rows)

    def epoch(self, line: dict[str, Any]) -> None:
        """An epoch ended with this line of history."""
        if line["accuracy"] is not None:
            self._accuracy = f", accuracy {line['accuracy']:.2%}"
        if line["loss"] is not None:
            self._say(line["loss"])
        if self._writer is not None:
            shown = {
                "train/loss": "loss",
                "train/learning_rate": "learning_rate",
                "test/accuracy": "accuracy",
            }
            for tag, name in shown.items():
                if line[name] is not None:
                    self._writer.add_scalar(tag, line[name], line["step"])
            self._writer.flush()

    def _say(self, loss: float) -> None:
        self._bar.say(f"loss {loss:.3g}{self._accuracy}")


class _Bar(Progress):
    """A bar whose length and place may change, as when training goes on or the number of rows does."""

    def place(self, done: int, total: int) -> None:
        """So much of so much is done."""
        if not self._bar.disable and (done, total) != (self._bar.n, self._bar.total):
            # What was done elsewhere says nothing of the speed here.
            self._bar.initial += done - self._bar.n
            self._bar.n, self._bar.total = done, total

    def say(self, text: str) -> None:
        """Shows a text behind the bar."""
        self._bar.set_postfix_str(text, refresh=False)


def _writer(log_dir: str | os.PathLike[str]) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            'log_dir needs tensorboard, which is not installed: pip install "fastcore-coreset[train]"'
        ) from error
    return SummaryWriter(os.fspath(log_dir))
