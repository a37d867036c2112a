"""Sums of factored gradients against each other, ground sets side by side, by whichever order is cheaper."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fastcore.memory import TILE_BYTES, tiles


class Couplings:
    """The matrix 1 + <h_i, y_j> of embeddings h (G, n, D) and y (G, m, D), as an operator in float64.

    With gradients g_i = delta_i ⊗ [1; h_i] and v_j = e_j ⊗ [1; y_j], the sum over j of <g_i, v_j> is the inner
    product of delta_i with row i of this matrix times e. No float64 copy of h, delta or e is made, but of tiles.
    """

    def __init__(self, h: Tensor, y: Tensor) -> None:
        self.h, self.y = h, y
        self._table: Tensor | None = None

    def keep(self) -> Couplings:
        """Prepares for many products: keeps the matrix where it has fewer numbers than h and y, 8 bytes each."""
        sets, n, width = self.h.shape
        m = self.y.shape[1]
        if n * m < (n + m) * width:
            self._table = torch.empty(sets, n, m, dtype=torch.float64, device=self.h.device)
            y = self.y.double().mT
            for part in tiles(n, 8 * sets * (width + m), TILE_BYTES, self.h.device):
                self._table[:, part] = (self.h[:, part].double() @ y).add_(1)
        return self

    def apply(self, e: Tensor) -> Tensor:
        """The matrix times e (G, m, C): (G, n, C) float64.

        Multiplications: the fewer of n m (C + D), through parts of the matrix, and (n + m) C D, through the (D, C)
        products of y and e; n m C with a table.
        """
        sets, n, width = self.h.shape
        m, classes = e.shape[1:]
        out = torch.empty(sets, n, classes, dtype=torch.float64, device=e.device)
        if self._in_parts(classes):
            other = e.double()
            for part, coupling in self._parts(m + classes):
                out[:, part] = coupling @ other
            return out
        constant, total = self._totals(e)
        for part in tiles(n, 8 * sets * (width + classes), TILE_BYTES, e.device):
            out[:, part] = constant + self.h[:, part].double() @ total
        return out

    def against(self, e: Tensor, delta: Tensor) -> Tensor:
        """(G, n) float64 sums over j of <g_i, v_j>, of e (G, m, C) and delta (G, n, C).

        Multiplications as for `apply`, and nothing of n C float64 numbers is made.
        """
        sets, n, width = self.h.shape
        m, classes = e.shape[1:]
        out = torch.empty(sets, n, dtype=torch.float64, device=e.device)
        if self._in_parts(classes):
            # m products of delta a row, where row i of the matrix times e would be C numbers.
            other = e.double().mT
            for part, coupling in self._parts(classes + 2 * m):
                out[:, part] = (delta[:, part].double() @ other).mul_(coupling).sum(2)
            return out
        constant, total = self._totals(e)
        for part in tiles(n, 8 * sets * (width + 2 * classes), TILE_BYTES, self.h.device):
            row = (self.h[:, part].double() @ total).add_(constant)
            out[:, part] = row.mul_(delta[:, part]).sum(2)
        return out

    def _in_parts(self, classes: int) -> bool:
        n, m, width = self.h.shape[1], self.y.shape[1], self.h.shape[2]
        return self._table is not None or n * m * (classes + width) < (n + m) * classes * width

    def _parts(self, numbers: int) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the matrix (G, T, m), of tiles in which a row takes that many float64 numbers more."""
        sets, n, width = self.h.shape
        if self._table is not None:
            for part in tiles(n, 8 * sets * numbers, TILE_BYTES, self.h.device):
                yield part, self._table[:, part]
            return
        y = self.y.double().mT
        for part in tiles(n, 8 * sets * (width + numbers), TILE_BYTES, self.h.device):
            yield part, (self.h[:, part].double() @ y).add_(1)

    def _totals(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """The sums over j of e_j (G, 1, C) and of y_j ⊗ e_j (G, D, C)."""
        sets, m, width = self.y.shape
        total = torch.zeros(sets, width, e.shape[2], dtype=torch.float64, device=e.device)
        constant = torch.zeros_like(total[:, :1])
        for part in tiles(m, 8 * sets * (width + e.shape[2]), TILE_BYTES, self.h.device):
            some = e[:, part].double()
            constant += some.sum(1, keepdim=True)
            total.baddbmm_(self.y[:, part].double().mT, some)
        return constant, total


class ValidationRows:
    """Which validation rows belong to each ground set: sorted once, then looked up for every batch.

    `groups` (total,) int64 are the ground sets of all validation rows, out of `sets`.
    """

    def __init__(self, groups: Tensor, sets: int) -> None:
        self._order = groups.argsort(stable=True)
        self.counts = torch.bincount(groups, minlength=sets)
        self._first = self.counts.cumsum(0) - self.counts

    def of(self, sets: Tensor) -> Tensor:
        """Row numbers (G, m) of the validation rows of some ground sets (G,), on the CPU, -1 for padding.

        Raises ValueError for a set without any.
        """
        first, counts = self._first[sets], self.counts[sets]
        if bool((counts == 0).any()):
            lacking = sets[counts == 0].sort().values.tolist()
            which = f"class {lacking[0]} (counted from 0 in the order of the labels)"
            raise ValueError(f"validation must have rows of every class with a budget, got none of {which}")
        within = torch.arange(int(counts.max()), device="cpu")
        at = (first[:, None] + within).clamp(max=len(self._order) - 1)
        return torch.where(within < counts[:, None], self._order[at], -1)


def taken_rows(values: Tensor, rows: Tensor) -> Tensor:
    """values (total, d) at rows (G, m): (G, m, d), zeros for padding."""
    inside = (rows >= 0).unsqueeze(2).to(values.device)
    return values[rows.clamp(min=0).to(values.device)].mul_(inside)
