"""A record of training: what the network said of every row, epoch by epoch, and the scores made of it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcore import checks
from fastcore.files import read_stamped, write_atomic

_FORMAT = 1
_DTYPES = {
    "correct": torch.bool,
    "probability": torch.float32,
    "margin": torch.float32,
    "loss": torch.float32,
    "error_norm": torch.float32,
    "seen": torch.bool,
}


@dataclass(frozen=True, eq=False, repr=False)
class Dynamics:
    """What training said of n rows, over runs and epochs; all tensors are (runs, epochs, n) on the CPU.

    Where a row was not seen in an epoch the numbers are NaN and ``correct`` is False. Raises ValueError for
    tensors of other or different shapes, and for a NaN where a row was seen.

    Attributes:
        correct: bool, whether the label had the highest logit (the first of equal ones).
        probability: float32, softmax probability of the label.
        margin: float32, logit of the label minus the highest of the others.
        loss: float32, cross-entropy.
        error_norm: float32, ‖p - y‖₂.
        seen: bool, whether the row was trained on in that epoch.
    """

    correct: Tensor
    probability: Tensor
    margin: Tensor
    loss: Tensor
    error_norm: Tensor
    seen: Tensor

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            value = torch.as_tensor(getattr(self, name)).detach().to("cpu")
            if value.ndim != 3 or 0 in value.shape:
                raise ValueError(f"{name} must have shape (runs, epochs, rows), got {tuple(value.shape)}")
            if (value.dtype == torch.bool) != (dtype == torch.bool):
                raise TypeError(f"{name} must be {dtype}, got {value.dtype}")
            object.__setattr__(self, name, value.to(dtype))
        for name, dtype in _DTYPES.items():
            value = getattr(self, name)
            if value.shape != self.seen.shape:
                raise ValueError(
                    f"{name} must have shape {tuple(self.seen.shape)} like seen, got {tuple(value.shape)}"
                )
            if dtype == torch.float32 and bool((value.isnan() & self.seen).any()):
                run, epoch, row = (value.isnan() & self.seen).nonzero()[0].tolist()
                raise ValueError(f"{name} must not be NaN, got it in run {run}, epoch {epoch}, at row {row}")

    def __len__(self) -> int:
        return self.seen.shape[2]

    def __repr__(self) -> str:
        return f"Dynamics(runs={self.runs}, epochs={self.epochs}, n={self.n})"

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return self.seen.shape[0]

    @property
    def epochs(self) -> int:
        """Number of epochs of each run."""
        return self.seen.shape[1]

    def forgetting_events(self) -> Tensor:
        """How often each row turned from right to wrong between one epoch it was seen in and the next such epoch.

        (n,) float64, the mean over runs. A row that a run never got right counts as infinity, harder than any.
        Raises ValueError for a row that a run never saw. Toneva et al., "An empirical study of example
        forgetting during deep neural network learning", 2019.
        """
        self._check_seen(self.seen.any(1), "in no epoch")
        events = torch.zeros(self.runs, self.n, dtype=torch.float64)
        before = torch.zeros(self.runs, self.n, dtype=torch.bool)  # whether it was right when last seen
        for epoch in range(self.epochs):
            seen, correct = self.seen[:, epoch], self.correct[:, epoch]
            events += before & seen & ~correct
            before = torch.where(seen, correct, before)
        learned = (self.correct & self.seen).any(1)
        return events.masked_fill(~learned, torch.inf).mean(0)

    def error_norms(self, epoch: int | None = None) -> Tensor:
        """Length of the error vector, ‖p - y‖₂, at one epoch: the EL2N score, (n,) float64, the mean over runs.

        ``epoch`` counts from 0, or from the end where it is negative; None is the last one. Raises ValueError
        for an epoch that is not there, and for a row that was not seen in it. Paul, Ganguli and Dziugaite,
        "Deep learning on a data diet", 2021.
        """
        which = self.epochs - 1 if epoch is None else checks.whole("epoch", epoch, -self.epochs)
        if which >= self.epochs:
            raise ValueError(f"epoch must be below {self.epochs}, the epochs recorded, got {epoch}")
        self._check_seen(self.seen[:, which], f"in epoch {which % self.epochs}")
        return self.error_norm[:, which].double().mean(0)

    def area_under_margin(self) -> Tensor:
        """Mean margin over the epochs in which a row was seen: the AUM, (n,) float64, the mean over runs.

        Low values are likely wrong labels. Raises ValueError for a row that a run never saw. Pleiss et al.,
        "Identifying mislabeled data using the area under the margin ranking", 2020.
        """
        self._check_seen(self.seen.any(1), "in no epoch")
        # Epoch by epoch: the record in float64 would be a second one, twice as large.
        total = torch.zeros(self.runs, self.n, dtype=torch.float64)
        for epoch in range(self.epochs):
            total += torch.where(self.seen[:, epoch], self.margin[:, epoch].double(), 0.0)
        return (total / self.seen.sum(1)).mean(0)

    def _check_seen(self, seen: Tensor, where: str) -> None:
        if not bool(seen.all()):
            run, row = (~seen).nonzero()[0].tolist()
            verb = "was seen" if where.startswith("in no") else "was not seen"
            raise ValueError(f"every row must have been seen, but row {row} {verb} {where} of run {run}")

    @classmethod
    def merge(cls, parts: Iterable[Dynamics]) -> Dynamics:
        """The runs of several records as one. Raises ValueError when their epochs or rows differ."""
        parts = list(parts)
        if not parts or not all(isinstance(part, Dynamics) for part in parts):
            kinds = ", ".join(sorted({type(part).__name__ for part in parts})) or "none"
            raise TypeError(f"parts must be one Dynamics or more, got {kinds}")
        for part in parts:
            if (part.epochs, part.n) != (parts[0].epochs, parts[0].n):
                raise ValueError(
                    f"parts must have the same epochs and rows, got {parts[0].epochs} epochs of {parts[0].n} rows "
                    f"and {part.epochs} epochs of {part.n}"
                )
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in _DTYPES})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the record to ``path``: an .npz archive without pickles, whole or not at all. Raises OSError."""
        arrays: dict[str, Any] = {name: getattr(self, name).numpy() for name in _DTYPES}
        buffer = io.BytesIO()
        np.savez(buffer, fastcore_dynamics=np.asarray(_FORMAT), **arrays)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dynamics:
        """The record that ``save`` wrote. Raises OSError, or ValueError for another kind of file."""
        arrays = read_stamped(path, "fastcore_dynamics", _FORMAT, "record")
        if not _DTYPES.keys() <= arrays.keys():
            raise ValueError(f"{os.fspath(path)} is not a record saved by fastcore")
        return cls(**{name: torch.from_numpy(arrays[name]) for name in _DTYPES})


class DynamicsRecorder:
    """Records what a network says of every row while it is trained; a few lines in a training loop.

    Call ``update`` with the logits that each training batch got and ``end_epoch`` after each epoch; ``dynamics``
    is the record. 18 bytes a row and epoch, on the CPU; an update costs one pass over the batch of logits.

    Args:
        n: number of rows of the data set; their numbers are the ``index`` of ``update``.
        epochs: how many epochs to make room for; the record grows beyond that by doubling.
    """

    def __init__(self, n: int, epochs: int | None = None) -> None:
        self.n = checks.whole("n", n, 1)
        self._room = 1 if epochs is None else checks.whole("epochs", epochs, 1)
        self._epoch = 0
        self._open = 0  # rows in the epoch that has not ended
        self._arrays = {name: _blank(dtype, self._room, self.n) for name, dtype in _DTYPES.items()}

    def __repr__(self) -> str:
        return f"DynamicsRecorder(n={self.n}, epochs={self.epochs})"

    @property
    def epochs(self) -> int:
        """Number of epochs that have ended."""
        return self._epoch

    def update(self, index: Any, logits: Tensor, labels: Any) -> None:
        """Records the rows ``index`` (b,), their logits (b, C) on any device, and their labels (b,) in 0 .. C - 1.

        Nothing of it is kept, and no gradient flows. Raises ValueError or TypeError, and records nothing, for
        other shapes, rows outside 0 .. n - 1, a row that was recorded in this epoch already, labels outside
        0 .. C - 1, and NaN.
        """
        z = _as_logits(logits)
        rows, own = _whole("index", index, len(z), self.n), _whole("labels", labels, len(z), z.shape[1])
        if self._epoch == self._room:
            self._grow()
        seen = self._arrays["seen"][self._epoch]
        again = rows[seen[rows]]
        if len(again) == 0 and len(torch.unique(rows)) < len(rows):
            values, counts = torch.unique(rows, return_counts=True)
            again = values[counts > 1]
        if len(again):
            raise ValueError(
                f"row {int(again[0])} is recorded twice in epoch {self._epoch}: call end_epoch() after each epoch"
            )
        for name, values in _measured(z, own).items():
            self._arrays[name][self._epoch, rows] = values.to(_DTYPES[name])
        seen[rows] = True
        self._open += len(rows)

    def end_epoch(self) -> None:
        """Ends an epoch, in which not all rows need to have been recorded. Raises ValueError when none were."""
        if self._open == 0:
            raise ValueError(f"epoch {self._epoch} has no rows: call update() before end_epoch()")
        self._epoch += 1
        self._open = 0

    @property
    def dynamics(self) -> Dynamics:
        """A copy of the record of the epochs that have ended, as one run.

        Raises ValueError when there are none, or when rows were recorded since the last one ended.
        """
        if self._open or self._epoch == 0:
            raise ValueError(f"epoch {self._epoch} has not ended: call end_epoch() first")
        return Dynamics(**{name: array[: self._epoch].clone()[None] for name, array in self._arrays.items()})

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that is recorded, an epoch that has not ended included, for a checkpoint of training."""
        arrays = {
            name: array[: self._epoch + bool(self._open)].clone() for name, array in self._arrays.items()
        }
        return {"n": self.n, "epoch": self._epoch, "open": self._open, "arrays": arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what ``state_dict`` gave. Raises ValueError when it is of another number of rows."""
        if state["n"] != self.n:
            raise ValueError(f"state must be of {self.n} rows, got {state['n']}")
        arrays = state["arrays"]
        held = len(arrays["seen"])
        self._room = max(self._room, held)
        self._epoch, self._open = int(state["epoch"]), int(state["open"])
        for name, dtype in _DTYPES.items():
            self._arrays[name] = _blank(dtype, self._room, self.n)
            self._arrays[name][:held] = arrays[name]

    def _grow(self) -> None:
        for name, array in self._arrays.items():
            self._arrays[name] = torch.cat([array, _blank(_DTYPES[name], self._room, self.n)])
        self._room *= 2


def _blank(dtype: torch.dtype, epochs: int, n: int) -> Tensor:
    fill = False if dtype == torch.bool else torch.nan
    return torch.full((epochs, n), fill, dtype=dtype, device="cpu")


def _as_logits(logits: Any) -> Tensor:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a floating-point tensor, got {kind}")
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits must have shape (rows, 2 classes or more), got {tuple(logits.shape)}")
    z = logits.detach().to("cpu").double()
    if not bool(z.isfinite().all()):
        row, column = (~z.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"logits must be finite, got {float(z[row, column])} at row {row} of the batch, class {column}"
        )
    return z


def _whole(name: str, values: Any, size: int, limit: int) -> Tensor:
    """(size,) int64 on the CPU, in 0 .. limit - 1."""
    tensor = torch.as_tensor(values).detach().to("cpu")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {tensor.dtype}")
    if tensor.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},) like the logits, got {tuple(tensor.shape)}")
    bad = tensor[(tensor < 0) | (tensor >= limit)]
    if len(bad):
        raise ValueError(f"{name} must be between 0 and {limit - 1}, got {int(bad[0])}")
    return tensor.long()


def _measured(z: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What is recorded of logits (b, C) in float64."""
    own = labels.unsqueeze(1)
    mine = z.gather(1, own).squeeze(1)
    others = z.scatter(1, own, -torch.inf)
    log_p = torch.log_softmax(z, 1)
    p = log_p.exp()
    # 1 - p of the label is the sum of the others, without cancellation.
    wrong = p.scatter(1, own, 0.0)
    error = wrong.scatter(1, own, wrong.sum(1, keepdim=True))
    # numpy promises the first of equal values.
    first = torch.from_numpy(np.argmax(z.numpy(), axis=1))
    return {
        "correct": first == labels,
        "probability": p.gather(1, own).squeeze(1),
        "margin": mine - others.amax(1),
        "loss": -log_p.gather(1, own).squeeze(1),
        "error_norm": torch.linalg.vector_norm(error, dim=1),
    }
