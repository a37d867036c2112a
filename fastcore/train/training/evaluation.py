"""Accuracy of a network on a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastcore import checks
from fastcore.signals import items, networks

AMP = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Dtypes of mixed precision by their names."""


def evaluate(
    network: nn.Module,
    dataset: Any,
    *,
    batch_size: int = 1024,
    device: Any = None,
    amp: str | None = None,
    workers: int = 0,
) -> float:
    """The share of rows whose label has the highest logit, in [0, 1].

    The network runs in eval mode without gradients and is left as it was. Cost: one pass over the data.

    Args:
        network: gives logits (b, C), or a tuple, dict or object that holds them.
        dataset: a data set of ``fastcore.train.datasets``, or any that ``fastcore.signals`` takes, with labels.
            One in memory is fastest on the device where the network runs: ``dataset.to(device)``.
        batch_size: rows at once.
        device: where it runs; None means where the network is. On another device a copy of it runs.
        amp: "bfloat16" or "float16" for mixed precision.
        workers: processes that read images which are not in memory.

    Raises ValueError for a data set without labels, and for a label that the network has no logit for.
    """
    batch_size = checks.whole("batch_size", batch_size, 1)
    checks.choice("amp", amp, (None, *AMP))
    network, place, _ = networks.placed(networks.unwrapped(network), device)
    right = torch.zeros((), dtype=torch.int64, device=place)
    top = torch.full((), -1, dtype=torch.int64, device=place)
    count = classes = 0
    with torch.no_grad(), networks.evaluating(network), autocast(place, amp):
        for images, labels in _batches(dataset, batch_size, place, workers):
            logits = networks.logits_of(network, images)
            right += (logits.argmax(1) == labels).sum()
            top = torch.maximum(top, labels.max())
            count, classes = count + len(labels), logits.shape[1]
    if int(top) >= classes:
        raise ValueError(f"labels must be below {classes}, the logits of the network, got {int(top)}")
    return int(right) / count


def autocast(device: torch.device, amp: str | None) -> torch.autocast:
    """Mixed precision of that name on a device; None means full precision, whatever surrounds it."""
    return torch.autocast(device.type, dtype=AMP.get(amp or "bfloat16"), enabled=amp is not None)


def _batches(
    dataset: Any, batch_size: int, device: torch.device, workers: int
) -> Iterator[tuple[Any, Tensor]]:
    if hasattr(dataset, "sequential"):
        for images, labels in dataset.sequential(batch_size, workers=workers):
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        return
    for batch in items.batches(dataset, batch_size=batch_size, device=device, workers=workers):
        if batch.labels is None:
            raise ValueError("dataset must have labels to be tested on, its items have none")
        yield batch.inputs, batch.labels
