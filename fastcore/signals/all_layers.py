"""Gradient norms by all parameters of a network, one for each row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from fastcore.memory import spare_bytes
from fastcore.numerics import full_precision
from fastcore.progress import Progress
from fastcore.signals import items, networks, outputs, tensors

_MOST_BYTES = 1 << 30
_COPIES = 3  # of a row's gradients that are alive at once: the gradient, what it is made of, and slack


def gradient_norms(
    model: nn.Module,
    dataset: Any,
    *,
    batch_size: int = 256,
    workers: int = 0,
    device: torch.device | str | None = None,
    keys: Sequence[Any] | None = None,
    progress: bool | None = None,
) -> Tensor:
    """Length of the gradient of each row's cross-entropy by all parameters of a network: the GraNd score.

    ‖∇_θ ℓ(x, y)‖₂ of every row by itself, never of a mean over a batch, so it does not depend on the batch size
    beyond rounding. θ are the parameters that require gradients. The model runs in eval mode, in float32, and is
    left as it was, gradients included; norms add up in float64. Per-sample gradients by ``torch.func``, as many
    rows at once as fit a third of the free memory, 1 GB at most; cost: one forward and one backward pass a row.
    A model that ``torch.func.vmap`` cannot take is run row by row, with one warning.

    Args:
        model: gives logits (b, C); see ``compute``.
        dataset: rows with labels; see ``fastcore.signals.items``.
        batch_size: rows read at once, and the most that are computed at once.
        workers: processes that load items.
        device: where the model runs; None means where it is. On another device a copy of it runs.
        keys: names of input and label in items that are dicts.
        progress: True, False, or None for a bar when it takes long.

    Returns:
        (n,) float64 on the CPU.

    Raises:
        ValueError, TypeError: for a data set without labels or order, labels outside 0 .. C - 1, a model without
            parameters that require gradients, and a loss or a gradient that is not finite (naming the row).

    Paul, Ganguli and Dziugaite, "Deep learning on a data diet", 2021.
    """
    model = networks.unwrapped(model)
    n = items.count(dataset)
    model, place, dtype = networks.placed(model, device)
    norms = torch.empty(n, dtype=torch.float64, device="cpu")
    read: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "keys": keys}
    batches = items.batches(dataset, **read, device=place, dtype=dtype)
    with full_precision(), networks.evaluating(model), Progress(n, "gradients", progress, unit="row") as bar:
        measure = _Measure(model, place)
        classes: int | None = None
        for batch in batches:
            if classes is None:
                classes = outputs.as_logits(model, networks.logits_of(model, batch.inputs), batch).shape[1]
            found = measure(batch.inputs, outputs.as_labels(batch, classes)).sqrt()
            outputs.check_finite("gradient norms", found, batch.start)
            norms[batch.rows] = found.cpu()
            bar.update(batch.size)
    return norms


class _Loss(nn.Module):
    """Cross-entropy of one row, without a batch dimension; float64, so that p - 1 keeps its digits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Any, label: Tensor) -> Tensor:
        logits = networks.logits_of(self.model, tensors.mapped(lambda part: part.unsqueeze(0), inputs))
        return functional.cross_entropy(logits.double(), label.unsqueeze(0))


class _Measure:
    """Squared norms of the gradients of a batch: side by side as long as that works, otherwise row by row."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._loss = _Loss(model)
        named = dict(self._loss.named_parameters())
        self._trained = {name: value for name, value in named.items() if value.requires_grad}
        if not self._trained:
            raise ValueError(
                f"{type(model).__name__} has no parameters that require gradients: model.requires_grad_(True)"
            )
        size = sum(value.numel() * value.element_size() for value in self._trained.values())
        self._chunk = max(1, min(spare_bytes(device), _MOST_BYTES) // (_COPIES * size))
        self._together = True

    def __call__(self, inputs: Any, labels: Tensor) -> Tensor:
        while self._together:
            try:
                return self._side_by_side(inputs, labels)
            except torch.OutOfMemoryError:
                if self._chunk == 1:
                    raise
                self._chunk //= 2
            except (
                Exception
            ) as error:  # whatever vmap has against it, the loop tells whether the model is at fault
                found = self._row_by_row(inputs, labels)
                self._together = False
                reason = str(error).partition("\n")[0] or type(error).__name__
                warnings.warn(
                    f"{type(self._loss.model).__name__} does not run under torch.func.vmap, so its gradients are "
                    f"taken row by row, which is slower: {reason}",
                    RuntimeWarning,
                    stacklevel=3,
                )
                return found
        return self._row_by_row(inputs, labels)

    def _side_by_side(self, inputs: Any, labels: Tensor) -> Tensor:
        fixed = {**dict(self._loss.named_parameters()), **dict(self._loss.named_buffers())}
        fixed = {name: value.detach() for name, value in fixed.items() if name not in self._trained}
        trained = {name: value.detach() for name, value in self._trained.items()}

        def loss(parameters: dict[str, Tensor], row: Any, label: Tensor) -> Any:
            return functional_call(self._loss, {**parameters, **fixed}, (row, label))

        def squared_norm(row: Any, label: Tensor) -> Tensor:
            parts, value = grad_and_value(loss)(trained, row, label)
            return _squared(parts.values(), value)

        result: Tensor = vmap(squared_norm, chunk_size=self._chunk)(inputs, labels)
        return result

    def _row_by_row(self, inputs: Any, labels: Tensor) -> Tensor:
        found = []
        for i, label in enumerate(labels):
            with torch.enable_grad():
                loss = self._loss(tensors.sliced(inputs, i), label)
                parts = torch.autograd.grad(loss, list(self._trained.values()), allow_unused=True)
            found.append(_squared((part for part in parts if part is not None), loss.detach()))
        return torch.stack(found)


def _squared(parts: Any, loss: Tensor) -> Tensor:
    """Sum of the squares of all entries, in float64; NaN where the loss is, which its gradient need not show."""
    norms = [torch.linalg.vector_norm(part.flatten(), dtype=torch.float64) for part in parts]
    return torch.where(loss.isfinite(), torch.stack(norms).square().sum(), torch.nan)
