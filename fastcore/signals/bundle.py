"""What a network says of every row of a data set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from fastcore.gradients import LastLayerGradients, check_classes
from fastcore.inputs import as_features, as_values
from fastcore.memory import tiles


@dataclass(frozen=True, eq=False, repr=False)
class Signals:
    """Outputs of a network for n rows, as ``compute`` collects them or from arrays of any kind.

    What is not there is None. Raises ValueError and TypeError for wrong shapes, different numbers of rows, NaN,
    infinity, and labels outside 0 .. C - 1.

    Attributes:
        embeddings: (n, D) float32, the input of the last linear layer.
        logits: (n, C) float32; for probabilities p, their logarithm will do.
        labels: (n,) int64 in 0 .. C - 1.
        losses: (n,) float32 cross-entropy of each row.
    """

    embeddings: Tensor | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None
    losses: Tensor | None = None

    def __post_init__(self) -> None:
        held = {name: getattr(self, name) for name in self._names() if getattr(self, name) is not None}
        if not held:
            raise ValueError(f"Signals needs at least one of {', '.join(self._names())}")
        for name, value in held.items():
            held[name] = _coerced(name, value)
            object.__setattr__(self, name, held[name])
        if len({len(value) for value in held.values()}) > 1:
            named = ", ".join(f"{len(value)} {name}" for name, value in held.items())
            raise ValueError(f"Signals must have the same number of rows throughout, got {named}")
        if "labels" in held and "logits" in held:
            check_classes(held["labels"], held["logits"].shape[1])

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    @property
    def n(self) -> int:
        """Number of rows."""
        return next(len(value) for name in self._names() if (value := getattr(self, name)) is not None)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: Any) -> Signals:
        """The signals of some rows, by a slice, a mask or row numbers; of none for a rank without rows."""
        some = object.__new__(Signals)
        for name in self._names():
            value = getattr(self, name)
            object.__setattr__(some, name, None if value is None else value[rows])
        return some

    def __repr__(self) -> str:
        held = (f"{name}={tuple(getattr(self, name).shape)}" for name in self._names() if self.has(name))
        return f"Signals({', '.join(held)})"

    @property
    def device(self) -> torch.device:
        """Where the first of the tensors is."""
        device: torch.device = next(getattr(self, name) for name in self._names() if self.has(name)).device
        return device

    @property
    def probabilities(self) -> Tensor:
        """(n, C) float32 softmax of the logits, computed in float64."""
        logits = self.require("logits")
        out = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
        for part in tiles(len(logits), 8 * logits.shape[1], device=logits.device):
            out[part] = torch.softmax(logits[part].double(), 1)
        return out

    @property
    def gradients(self) -> LastLayerGradients:
        """Gradients of the cross-entropy of every row by the last layer."""
        parts = [self.require(name) for name in ("logits", "labels", "embeddings")]
        return LastLayerGradients.from_logits(*parts)

    def has(self, *names: str) -> bool:
        """Whether all these fields are there."""
        return all(getattr(self, name) is not None for name in names)

    def require(self, name: str) -> Tensor:
        """A field that must be there. Raises ValueError when it is None."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            there = ", ".join(other for other in self._names() if self.has(other))
            raise ValueError(f"the signals have no {name}: they hold {there}")
        return value


def _coerced(name: str, value: Any) -> Tensor:
    if name in ("embeddings", "logits"):
        return as_features(value, name=name)
    if name == "losses":
        return as_values(value, name=name).float()
    labels = torch.as_tensor(value)
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(
            f"labels must be (n,) integers, one class a row, got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    return labels.long()
