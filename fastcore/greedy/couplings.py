"""Sums of factored gradients against each other, ground sets side by side, by whichever order is cheaper."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.greedy.batches import TILE_BYTES
from fastcore.memory import tiles


class Couplings:
    """The matrix 1 + <h_i, y_j> of embeddings h (G, n, D) and y (G, m, D), as an operator in float64.

    With gradients g_i = delta_i ⊗ [1; h_i] and v_j = e_j ⊗ [1; y_j], the sum over j of <g_i, v_j> is the inner
    product of delta_i with row i of this matrix times e.
    """

    def __init__(self, h: Tensor, y: Tensor) -> None:
        self.h, self.y = h, y
        self._table: Tensor | None = None

    def keep(self) -> Couplings:
        """Prepares for many products: 8 bytes for each entry, or for each number in h and y if those are fewer."""
        n, m, width = self.h.shape[1], self.y.shape[1], self.h.shape[2]
        self.h, self.y = self.h.double(), self.y.double()
        if n * m < (n + m) * width:
            self._table = (self.h @ self.y.mT).add_(1)
        return self

    def apply(self, e: Tensor) -> Tensor:
        """The matrix times e (G, m, C) float64: (G, n, C).

        Multiplications: n m C with a table; else the fewer of n m (C + D), through parts of the matrix, and
        (n + m) C D, through the (D, C) products of y and e.
        """
        if self._table is not None:
            return self._table @ e
        sets, n, width = self.h.shape
        m, classes = e.shape[1:]
        out = torch.empty(sets, n, classes, dtype=torch.float64, device=e.device)
        if n * m * (classes + width) < (n + m) * classes * width:
            y = self.y.double().mT
            for part in tiles(n, 8 * sets * (width + m), TILE_BYTES, e.device):
                out[:, part] = (self.h[:, part].double() @ y).add_(1) @ e
            return out
        constant = e.sum(1, keepdim=True)
        total = torch.zeros(sets, width, classes, dtype=torch.float64, device=e.device)
        for part in tiles(m, 8 * sets * width, TILE_BYTES, e.device):
            total += self.y[:, part].double().mT @ e[:, part]
        for part in tiles(n, 8 * sets * width, TILE_BYTES, e.device):
            out[:, part] = constant + self.h[:, part].double() @ total
        return out


def validation_rows(groups: Tensor, sets: Tensor) -> Tensor:
    """Row numbers (G, m) of the validation rows of some ground sets (G,), on the CPU, -1 for padding.

    `groups` (total,) int64 are the ground sets of all validation rows. Raises ValueError for one without any.
    """
    order = groups.argsort(stable=True)
    counts = torch.bincount(groups, minlength=int(sets.max()) + 1)
    first, counts = (counts.cumsum(0) - counts)[sets], counts[sets]
    if bool((counts == 0).any()):
        lacking = sets[counts == 0].sort().values.tolist()
        which = f"class {lacking[0]} (counted from 0 in the order of the labels)"
        raise ValueError(f"validation must have rows of every class with a budget, got none of {which}")
    within = torch.arange(int(counts.max()), device="cpu")
    at = (first[:, None] + within).clamp(max=len(order) - 1)
    return torch.where(within < counts[:, None], order[at], -1)


def taken_rows(values: Tensor, rows: Tensor) -> Tensor:
    """values (total, d) at rows (G, m): (G, m, d), zeros for padding."""
    inside = (rows >= 0).unsqueeze(2).to(values.device)
    return values[rows.clamp(min=0).to(values.device)].mul_(inside)
