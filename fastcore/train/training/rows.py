"""Which rows of a data set a network is trained on, and how much each counts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fastcore.signals.dynamics import DynamicsRecorder


@dataclass(frozen=True, eq=False)
class Rows:
    """Row numbers of a data set and their weights in the loss.

    Attributes:
        indices: (k,) int64 on the CPU. A row may come twice: it is then trained on twice an epoch.
        weights: (k,) float32 on the CPU, not negative, or None where all rows count the same.

    Raises ValueError or TypeError for no rows, other shapes, weights that are negative, not finite or all 0.
    """

    indices: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", _as_indices(self.indices))
        if self.weights is not None:
            object.__setattr__(self, "weights", _as_weights(self.weights, len(self.indices)))

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def of(cls, indices: Any, weights: Any, n: int) -> Rows | None:
        """The rows of a data set of n that the arguments name, None for all of them. Raises like ``Rows``."""
        if indices is None and weights is None:
            return None
        return cls(torch.arange(n) if indices is None else indices, weights).within(n)

    def within(self, n: int) -> Rows:
        """These rows. Raises ValueError when one of them is not a row of n."""
        low, high = int(self.indices.min()), int(self.indices.max())
        if low < 0 or high >= n:
            raise ValueError(f"indices must be between 0 and {n - 1}, got {low if low < 0 else high}")
        return self

    @property
    def repeated(self) -> int | None:
        """A row that comes more than once, or None."""
        values, counts = self.indices.unique(return_counts=True)
        return int(values[counts > 1][0]) if bool((counts > 1).any()) else None

    def state_dict(self) -> dict[str, Any]:
        """The rows for a checkpoint."""
        return {"indices": self.indices, "weights": self.weights}

    def fingerprint(self) -> str:
        """A text that other rows, weights or orders do not have."""
        digest = hashlib.sha256(self.indices.numpy().tobytes())
        if self.weights is not None:
            digest.update(self.weights.numpy().tobytes())
        return digest.hexdigest()[:16]


class RowChooser(Protocol):
    """What may change the rows while a network is trained on them."""

    def choose(self, epoch: int, network: nn.Module, recorder: DynamicsRecorder | None) -> Rows | None:
        """Rows for an epoch, counted from 0, or None for those of the epoch before (at first: all).

        ``recorder`` holds the epochs so far, where they are recorded. Called once before every epoch.
        """

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on: dicts, lists, texts, numbers and tensors only."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what ``state_dict`` gave."""


def _as_indices(values: Any) -> Tensor:
    found = _as_tensor("indices", values)
    if found.dtype == torch.bool or found.is_floating_point() or found.is_complex():
        if found.numel():
            raise TypeError(f"indices must be integers, got {found.dtype}")
    if found.ndim != 1 or len(found) == 0:
        raise ValueError(f"indices must have shape (rows,) with a row or more, got {tuple(found.shape)}")
    return found.to(torch.int64).contiguous()


def _as_weights(values: Any, size: int) -> Tensor:
    found = _as_tensor("weights", values)
    if found.dtype == torch.bool or found.is_complex():
        raise TypeError(f"weights must be numbers, got {found.dtype}")
    if found.shape != (size,):
        raise ValueError(f"weights must have shape ({size},) like the indices, got {tuple(found.shape)}")
    found = found.to(torch.float32).contiguous()
    bad = found[~(found.isfinite() & (found >= 0))]
    if len(bad):
        raise ValueError(f"weights must be finite and not negative, got {float(bad[0])}")
    if not bool(found.any()):
        raise ValueError("weights must not all be 0")
    return found


def _as_tensor(name: str, values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().to("cpu")
    try:
        # np.array copies: read-only arrays make no tensors.
        return torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {type(values).__name__}") from error
