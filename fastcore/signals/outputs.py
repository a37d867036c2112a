"""Checks of what a model gave for a batch, and of the labels that go with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastcore.signals import items


def as_logits(model: nn.Module, logits: Tensor, batch: items.Batch) -> Tensor:
    """Logits of a batch as (b, C) float32. Raises ValueError, naming the model, for another shape."""
    if logits.ndim != 2 or len(logits) != batch.size or logits.shape[1] < 2:
        raise ValueError(
            f"model must return logits of shape ({batch.size}, classes) with two classes or more, but "
            f"{type(model).__name__} returned shape {tuple(logits.shape)}"
        )
    return logits.float()


def check_finite(name: str, values: Tensor, start: int) -> None:
    """Raises ValueError, naming the row, unless all values (b, ...) of the rows from ``start`` on are finite."""
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        row, *column = place = (~finite).nonzero()[0].tolist()
        where = "".join(f", column {each}" for each in column)
        raise ValueError(
            f"{name} must be finite, got {float(values[tuple(place)])} at row {start + row}{where}"
        )


def as_labels(batch: items.Batch, classes: int | None) -> Tensor:
    """Labels of a batch. Raises ValueError where there are none, or where one is not in 0 .. classes - 1.

    None for ``classes`` means that there is no telling: the outputs of the model may be anything.
    """
    if batch.labels is None:
        raise ValueError(
            "dataset has no labels, which labels, losses and gradients need: its items must be (input, label), "
            'or ask compute for ("embeddings", "logits") only'
        )
    bad = (batch.labels < 0) if classes is None else (batch.labels < 0) | (batch.labels >= classes)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        takes = "at least 0" if classes is None else f"between 0 and {classes - 1}, the classes of the logits"
        raise ValueError(f"labels must be {takes}, got {int(batch.labels[row])} at row {batch.start + row}")
    return batch.labels
