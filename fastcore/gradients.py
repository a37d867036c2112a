"""Gradients of the last layer, one for each row, in factored form: their products are exact and cheap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastcore.inputs import as_features
from fastcore.memory import TILE_BYTES, tiles
from fastcore.ops.factored_project import factored_project, factored_project_reference
from fastcore.ops.factored_sum import factored_sum, factored_sum_reference
from fastcore.ops.squared_norms import squared_norms

CACHE_BYTES = 1 << 19


class LastLayerGradients:
    """Gradient of the cross-entropy of every row by the weights and the bias of the last linear layer.

    With h the input of that layer and delta = softmax(logits) - onehot(label), the gradient of a row is
    g = delta ⊗ [1; h], a C x (D + 1) matrix. It is never formed: C + D numbers stand for C (D + 1), since
    <g_i, g_j> = <delta_i, delta_j> (1 + <h_i, h_j>). What is computed from it is float64.

    Args:
        delta: (n, C) array of any kind; read as float32.
        h: (n, D) array of any kind; read as float32, on the device of ``delta``.

    Raises:
        ValueError, TypeError: for other shapes, different numbers of rows, NaN and infinity.
    """

    def __init__(self, delta: Any, h: Any) -> None:
        self.delta: Tensor = as_features(delta, name="delta")
        self.h: Tensor = as_features(h, self.delta.device, name="h")
        if len(self.delta) != len(self.h):
            raise ValueError(
                f"delta and h must have the same number of rows, got {len(self.delta)} and {len(self.h)}"
            )

    @classmethod
    def from_logits(cls, logits: Tensor, labels: Tensor, h: Tensor) -> LastLayerGradients:
        """From logits (n, C), labels (n,) in 0 .. C - 1 and embeddings (n, D).

        delta is computed in float64 before it is rounded: p - 1 of a row that the network is sure of keeps
        all its digits.
        """
        classes = logits.shape[1]
        check_classes(labels, classes)
        delta = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
        for part in tiles(len(logits), 8 * classes, device=logits.device):
            p = torch.softmax(logits[part].double(), 1)
            own = labels[part].to(p.device).unsqueeze(1)
            p.scatter_(1, own, 0.0)
            # 1 - p of the own class is the sum of the others, without cancellation.
            delta[part] = p.scatter_(1, own, -p.sum(1, keepdim=True)).float()
        return cls(delta, h)

    @classmethod
    def of_factors(cls, delta: Tensor, h: Tensor) -> LastLayerGradients:
        """From float32 factors that were checked before: parts or copies of those of other gradients."""
        made = object.__new__(cls)
        made.delta, made.h = delta.contiguous(), h.contiguous()
        return made

    def __len__(self) -> int:
        return len(self.delta)

    def __getitem__(self, rows: Any) -> LastLayerGradients:
        """The gradients of some rows, by a slice, a mask or row numbers."""
        return self.of_factors(self.delta[rows], self.h[rows])

    def __repr__(self) -> str:
        return f"LastLayerGradients(n={self.n}, classes={self.classes}, width={self.width})"

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.delta)

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.delta.shape[1]

    @property
    def width(self) -> int:
        """Width D of the embeddings."""
        return self.h.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the factors are."""
        return self.delta.device

    def to(self, device: torch.device | str) -> LastLayerGradients:
        """The same gradients on another device."""
        return self.of_factors(self.delta.to(device), self.h.to(device))

    def labels(self) -> Tensor:
        """(n,) int64 class of every row, as delta tells it: p - 1 is its only negative entry."""
        return self.delta.argmin(1)

    def squared_norms(self) -> Tensor:
        """(n,) squared lengths of the gradients."""
        norms = torch.empty(self.n, dtype=torch.float64, device=self.device)
        for part in self._parts(self.classes + self.width):
            delta, h = self.delta[None, part], self.h[None, part]
            norms[part] = (squared_norms(delta) * (1 + squared_norms(h)))[0]
        return norms

    def products(self, rows: Tensor | None = None, others: Tensor | None = None) -> Tensor:
        """(a, b) inner products of the gradients of `rows` with those of `others`; None means all rows.

        a b (C + D) multiplications.
        """
        left, right = (self if some is None else self[some] for some in (rows, others))
        delta, h = right.delta.double().T, right.h.double().T
        out = torch.empty(left.n, right.n, dtype=torch.float64, device=self.device)
        for part in left._parts(left.classes + left.width + right.n):
            torch.mm(left.h[part].double(), h, out=out[part])
            out[part].add_(1).mul_(left.delta[part].double() @ delta)
        return out

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """(C, D + 1) sum of the gradients times weights (n,); column 0 is the bias. n C D multiplications."""
        return sum_of_factors(self.delta[None], self.h[None], weights.to(self.device, torch.float64)[None])[0]

    def project(self, direction: Tensor) -> Tensor:
        """(n,) inner products of every gradient with a direction (C, D + 1). n C D multiplications."""
        direction = direction.to(self.device, torch.float64)
        return products_of_factors(self.delta[None], self.h[None], direction[None])[0]

    def materialise(self) -> Tensor:
        """(n, C (D + 1)) float32, the gradients themselves: for checks on small data."""
        ones = torch.ones(self.n, 1, device=self.device)
        return (self.delta.unsqueeze(2) * torch.cat([ones, self.h], 1).unsqueeze(1)).flatten(1)

    def _parts(self, numbers: int) -> Iterator[slice]:
        return tiles(self.n, 8 * numbers, device=self.device)


def sum_of_factors(delta: Tensor, h: Tensor, weights: Tensor) -> Tensor:
    """(G, C, D + 1) float64 sums of the gradients of G sets, delta (G, n, C) and h (G, n, D), times weights."""
    if _narrow(delta, h):
        return factored_sum(delta, h, weights.contiguous())
    total = weights.new_zeros(len(h), delta.shape[2], 1 + h.shape[2])
    for part in _parts(delta, h):
        total += factored_sum_reference(delta[:, part], h[:, part], weights[:, part])
    return total


def products_of_factors(delta: Tensor, h: Tensor, direction: Tensor) -> Tensor:
    """(G, n) float64 inner products of the gradients of G sets with directions (G, C, D + 1) float64."""
    if _narrow(delta, h):
        return factored_project(delta, h, direction.contiguous())
    parts = [factored_project_reference(delta[:, p], h[:, p], direction) for p in _parts(delta, h)]
    return torch.cat(parts, 1)


def _narrow(delta: Tensor, h: Tensor) -> bool:
    """Whether a sum of gradients fits the cache of a processor; else products of matrices are faster."""
    return delta.device.type == "cpu" and 8 * delta.shape[2] * (1 + h.shape[2]) <= CACHE_BYTES


def _parts(delta: Tensor, h: Tensor) -> Iterator[slice]:
    sets, n, classes = delta.shape
    return tiles(n, 8 * sets * (2 * classes + h.shape[2]), TILE_BYTES, delta.device)


def check_classes(labels: Tensor, classes: int) -> None:
    """Raises ValueError unless all labels are in 0 .. classes - 1."""
    bad = ((labels < 0) | (labels >= classes)).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"labels must be between 0 and {classes - 1}, the classes of the logits, got {int(labels[row])} "
            f"at row {row}"
        )
