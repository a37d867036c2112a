"""What a training run gives back, and what it writes down step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastcore.signals.dynamics import Dynamics, DynamicsRecorder

_HELD_STEPS = 32


@dataclass(frozen=True)
class TrainingResult:
    """What came of training a network.

    Attributes:
        accuracy_last: share of the test rows that are right after the last epoch, in [0, 1]; None without test.
        accuracy_best: the highest of those tested, None without test.
        best_epoch: epochs done when it was reached first, 0 for an untrained network, None without test.
        history: one dict for each epoch: ``epoch`` (epochs done, from 1), ``step`` (steps done), the
            ``learning_rate`` of its last step, mean ``loss`` of its steps, ``accuracy`` on the test rows (None
            where it was not tested) and ``seconds`` of training so far. Without epochs, one of epoch 0.
        dynamics: the record of training where it was asked for; None without epochs.
        seconds: training time; that of tests and selections is apart.
        evaluation_seconds: time of all tests.
        selection_seconds: time of choosing rows while training.
        peak_bytes: highest memory so far: resident in the process on a CPU, allocated by torch on a GPU.
        steps: steps done.
        rows: rows trained on, all epochs together.
    """

    accuracy_last: float | None
    accuracy_best: float | None
    best_epoch: int | None
    history: list[dict[str, Any]]
    dynamics: Dynamics | None
    seconds: float
    evaluation_seconds: float
    selection_seconds: float
    peak_bytes: int
    steps: int
    rows: int


Place = tuple[int, int, float]
"""Epoch and step, counted from 0, and learning rate of a step."""


class _Step(NamedTuple):
    where: Place
    numbers: Tensor
    labels: Tensor
    loss: Tensor
    logits: Tensor | None


@dataclass
class Ledger:
    """The losses and logits of the steps of an epoch, written down a few steps at a time.

    Reading a loss waits for the device, and recording a small batch costs nearly as much as a large one: both
    are done for ``_HELD_STEPS`` steps at once. The sums do not depend on when that is.
    """

    recorder: DynamicsRecorder | None = None
    loss: float = 0.0
    """Sum of the losses of this epoch times their rows."""
    rows: int = 0
    """Rows of this epoch so far."""
    _held: list[_Step] = field(default_factory=list)

    def add(self, where: Place, index: Tensor, labels: Tensor, loss: Tensor, logits: Tensor) -> bool:
        """Takes down a step; True when so many are held that they were written."""
        kept = logits.detach() if self.recorder is not None else None
        self._held.append(_Step(where, index, labels, loss.detach(), kept))
        if len(self._held) < _HELD_STEPS:
            return False
        self.write()
        return True

    def write(self) -> None:
        """Adds up and records what is held. Raises FloatingPointError for a loss that is not finite."""
        if not self._held:
            return
        held, self._held = self._held, []
        losses = torch.stack([each.loss for each in held]).tolist()
        for each, loss in zip(held, losses, strict=True):
            if not math.isfinite(loss):
                epoch, step, rate = each.where
                raise FloatingPointError(
                    f"the loss is {loss} in epoch {epoch + 1}, step {step + 1}, at learning rate {rate:.4g}: a "
                    "lower one or clip_norm may help"
                )
            self.loss += loss * len(each.numbers)
            self.rows += len(each.numbers)
        if self.recorder is not None:
            logits = torch.cat([each.logits for each in held if each.logits is not None])
            labels = torch.cat([each.labels for each in held])
            self.recorder.update(torch.cat([each.numbers for each in held]), logits, labels)

    def end_epoch(self) -> float:
        """The mean loss of the epoch, all of which is written; the next one begins."""
        mean = self.loss / self.rows
        self.loss, self.rows = 0.0, 0
        if self.recorder is not None:
            self.recorder.end_epoch()
        return mean

    def state_dict(self) -> dict[str, Any]:
        """All that is written, for a checkpoint."""
        recorded = None if self.recorder is None else self.recorder.state_dict()
        return {"loss": self.loss, "rows": self.rows, "recorder": recorded}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what ``state_dict`` gave."""
        self.loss, self.rows = state["loss"], state["rows"]
        if self.recorder is not None:
            self.recorder.load_state_dict(state["recorder"])
