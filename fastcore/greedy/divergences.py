"""Symmetric divergences of rows to a growing coreset: products bound them for all rows, sums decide the few.

Half of KL(p || q) + KL(q || p) is half of (sum p log p + sum q log q - sum p log q - sum q log p): one product
of 2 C numbers a pair. It cancels where p and q are near, so what is compared inside a block is the sum of
(p - q) (log p - log q) / 2, whose terms are all positive. Products are float32 for as long as their errors are
small beside the differences of the rows that are farthest, and float64 from then on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fastcore.divergence import LEAST, SAME_ROW, Divergence, symmetric_divergence, with_logs
from fastcore.greedy.batches import Batch, mark, marked, pick
from fastcore.greedy.distances import nearest_of
from fastcore.greedy.pairwise import PairwiseDistances
from fastcore.memory import TILE_BYTES, tile_rows, tiles
from fastcore.numerics import product_error
from fastcore.similarity import Outside

ALIKE = 2.0**-3
"""Below this share of the cross entropies the product form has lost three bits: not all that ties may lose."""

TOGETHER = 512
"""Coreset rows in one product."""

COARSE = 16
"""Errors of float32 products that a block of the largest divergences must span at least."""


def half_sum(p: Tensor, logs: Tensor) -> Tensor:
    """Half of the sum of p log p of rows `with_logs`."""
    return (p * logs).sum(2) / 2


class _Others:
    """Coreset rows (G, P, C), some of them absent, ready for products in a precision."""

    def __init__(self, rows: Tensor, absent: Tensor, dtype: torch.dtype) -> None:
        q, logs = with_logs(rows)
        self.absent, self.dtype = absent, dtype
        self.inner = half_sum(q, logs).masked_fill(absent, torch.inf).unsqueeze(1).to(dtype)
        self.q, self.logs = (side.div(-2).to(dtype).mT for side in (q, logs))

    def merge(
        self, kept: tuple[Tensor, Tensor, Tensor], rows: Tensor, own: Tensor, number: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The nearest and second nearest divergence and the owner (G, T) of rows (G, T, C).

        As `kept` has them of earlier coreset rows, and with these, which are numbered from `number`. `own` (G, T)
        is half of the sum of p log p of each row.
        """
        p = rows.to(self.dtype).clamp(min=LEAST)
        products = torch.baddbmm(self.inner, p, self.logs).baddbmm_(p.log(), self.q)
        best, owner = products.min(2, keepdim=True)
        rest = products.scatter_(2, owner, torch.inf).amin(2)
        best, rest = ((each + own).clamp_(min=0) for each in (best[:, :, 0], rest))
        nearest, second, owners = kept
        return (
            torch.minimum(nearest, best),
            torch.minimum(torch.minimum(second, rest), torch.maximum(nearest, best)),
            torch.where(best < nearest, owner[:, :, 0] + number, owners),
        )


class DivergenceDistances(PairwiseDistances):
    """Divergences from the rows of a batch to their coresets.

    Kept for every row: the nearest and second nearest divergence by products, and the owner, the number of
    the nearest coreset row in the order of folding.
    """

    def __init__(self, view: Divergence, batch: Batch) -> None:
        super().__init__(batch)
        self.p = batch.take(view.probabilities)
        self.dtype = torch.float32
        self.second = torch.full_like(self.nearest, torch.inf)
        self.owner = torch.zeros_like(batch.rows)
        self.coreset = self.p[:, :0]
        self.absent = self.closed[:, :0]
        self.own = torch.empty_like(self.nearest)
        for part in self._tiles(3 * self.p.shape[2]):
            self.own[:, part] = half_sum(*with_logs(self.p[:, part]))

    def central(self) -> Tensor:
        """(G,) positions of the rows nearest to the mean of each set."""
        return nearest_of(self._towards_mean())

    def _towards_mean(self) -> Tensor:
        """(G, n) the larger, the nearer a row is to the mean; -inf for closed rows."""
        total = self._total(self.p.sum(1, keepdim=True, dtype=torch.float64))
        mean = with_logs(total / self.batch.sizes.view(-1, 1, 1))
        near = torch.empty_like(self.nearest)
        for part in self._tiles(3 * self.p.shape[2]):
            near[:, part] = -symmetric_divergence(with_logs(self.p[:, part]), mean)
        return near.masked_fill_(self.closed, -torch.inf)

    def fold(self, positions: Tensor) -> None:
        """Adds the rows at positions (G, P) to the coresets (-1: none) and closes them."""
        closed = self.closed.clone()
        mark(closed, positions)
        for part in positions.split(TOGETHER, 1):
            self._fold(pick(self.p, part), part < 0)
        self.closed = closed

    def fold_external(self, outside: Outside) -> None:
        """Adds outside rows (m, C) to the coreset of the one set of the batch."""
        assert isinstance(outside, Tensor)
        for part in outside.to(self.p.dtype).split(TOGETHER):
            self._fold(part[None], torch.zeros(1, len(part), dtype=torch.bool, device=self.p.device))

    def _fold(self, picked: Tensor, absent: Tensor) -> None:
        self._compare(picked, absent, self.coreset.shape[1])
        self.coreset = torch.cat([self.coreset, picked], 1)
        self.absent = torch.cat([self.absent, absent], 1)

    def _compare(self, picked: Tensor, absent: Tensor, number: int) -> None:
        """Takes the rows picked (G, P, C), of which some are absent, into the distances of all rows."""
        others = _Others(picked, absent, self.dtype)
        for part in self._tiles(3 * self.p.shape[2] + 2 * picked.shape[1]):
            kept = self.nearest[:, part], self.second[:, part], self.owner[:, part]
            merged = others.merge(kept, self.p[:, part], self.own[:, part], number)
            for old, new in zip(kept, merged, strict=True):
                old.copy_(new)

    def _refine(self) -> None:
        """Takes all distances again in float64."""
        self.dtype = torch.float64
        self.nearest.fill_(torch.inf)
        self.second.fill_(torch.inf)
        for start in range(0, self.coreset.shape[1], TOGETHER):
            part = slice(start, start + TOGETHER)
            self._compare(self.coreset[:, part], self.absent[:, part], start)

    def _tiles(self, numbers: int) -> Iterator[slice]:
        sets, n, _ = self.p.shape
        return tiles(n, 8 * sets * numbers, TILE_BYTES, self.p.device)

    def _error(self, divergence: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        # The terms of the two products add up to twice the divergence and the two entropies, each at most log C.
        # All terms of a product have one sign, so that what it errs by is a share of it, not of |p| |log q|. The
        # logarithm of a rounded p adds a unit of the largest sum of q, which is 1.
        classes, exact = self.p.shape[2], (dtype or self.dtype) == torch.float64
        relative = (2.0**-29 if exact else 1) * product_error(2 * classes) + 2.0**-50
        return relative * (2 * divergence + 2 * math.log(classes) + 1)

    def upper(self) -> Tensor:
        """(G, n) upper bounds on the divergences, -inf for closed rows."""
        bound = self.nearest + self._error(self.nearest)
        return bound.masked_fill_(bound < SAME_ROW, 0).masked_fill_(self.closed, -torch.inf)

    def exact(self, positions: Tensor, sets: slice = slice(None)) -> Tensor:
        """(G, B) divergences to the coreset of the rows at positions (G, B) of some sets."""
        x = pick(self.p[sets], positions)
        owners = pick(self.coreset[sets], pick(self.owner[sets], positions))
        divergence = symmetric_divergence(with_logs(x), with_logs(owners))
        # Where another coreset row is within the error of the owner, more of them are measured.
        near, second = pick(self.nearest[sets], positions), pick(self.second[sets], positions)
        closed = pick(self.closed[sets], positions)
        unsure = self._unsure(near, second, self.dtype) & ~closed
        if bool(unsure.any()):
            self._settle(divergence, x, unsure, sets)
        if self.dtype == torch.float32 and sets == slice(None) and positions.shape[1] < self.p.shape[1]:
            self._watch(near.masked_fill(closed, -torch.inf))
        return divergence.masked_fill_(closed, -torch.inf)

    def _unsure(self, near: Tensor, second: Tensor, dtype: torch.dtype) -> Tensor:
        error = self._error(torch.where(second < torch.inf, second, near), dtype)
        return (second - near <= 2 * error) & (second + error >= SAME_ROW)

    def _settle(self, divergence: Tensor, x: Tensor, unsure: Tensor, sets: slice) -> None:
        """Puts right the divergences (G, B) of those rows (G, B, C) that are unsure."""
        order = marked(unsure)
        rows, coreset, absent = pick(x, order), self.coreset[sets], self.absent[sets]
        found = torch.full(rows.shape[:2], torch.inf, dtype=torch.float64, device=x.device)
        if self.dtype == torch.float32:
            # Float64 products with the whole coreset leave few rows to measure against all of it.
            kept, own = (found, found.clone(), torch.zeros_like(order)), half_sum(*with_logs(rows))
            for start in range(0, coreset.shape[1], TOGETHER):
                part = slice(start, start + TOGETHER)
                some = _Others(coreset[:, part], absent[:, part], torch.float64)
                kept = some.merge(kept, rows, own, start)
            found = symmetric_divergence(with_logs(rows), with_logs(pick(coreset, kept[2])))
            still = marked(self._unsure(kept[0], kept[1], torch.float64) & (order >= 0))
            rows = pick(rows, still)
        else:
            still = torch.arange(order.shape[1], device=order.device).expand_as(order)
            still = torch.where(order < 0, -1, still)
        g, u = (still >= 0).nonzero(as_tuple=True)
        if len(g):
            found[g, still[g, u]] = self._pairs(rows, coreset, absent)[g, u]
        g, b = (order >= 0).nonzero(as_tuple=True)
        divergence[g, order[g, b]] = found[g, b]

    def _watch(self, near: Tensor) -> None:
        """Goes over to float64 where the largest divergences (G, B) hardly differ by more than they may err.

        Float32 would end each pass after few picks. A block with a closed row, at -inf, holds all open ones.
        """
        top = near.amax(1)
        if bool((top - near.amin(1) < COARSE * self._error(top)).any()):
            self._refine()

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) divergences of the rows at positions (G, B) to each other."""
        return self._among(pick(self.p, positions))

    def _among(self, rows: Tensor) -> Tensor:
        """(G, B, B) divergences of rows (G, B, C) to each other."""
        p, logs = x = with_logs(rows)
        cross = p @ logs.mT
        cross = cross.add_(cross.mT.clone()).neg_()
        negentropy = (p * logs).sum(2)
        divergence = (cross + (negentropy.unsqueeze(2) + negentropy.unsqueeze(1))).div_(2)
        # Rounding is a share of the cross entropies: where rows are alike, differences decide.
        g, i, j = (divergence <= ALIKE * cross).triu_().nonzero(as_tuple=True)
        if 4 * len(g) > divergence.numel():
            parts = zip(*(each.unsqueeze(2).split(self._step(each), 1) for each in x), strict=True)
            others = p.unsqueeze(1), logs.unsqueeze(1)
            return torch.cat([symmetric_divergence(part, others) for part in parts], 1)
        for part in tiles(len(g), 32 * p.shape[2], TILE_BYTES, p.device):
            sides = ((p[g[part], at[part]], logs[g[part], at[part]]) for at in (i, j))
            divergence[g[part], i[part], j[part]] = symmetric_divergence(*sides)
        divergence[g, j, i] = divergence[g, i, j]
        return divergence

    def _pairs(self, rows: Tensor, coreset: Tensor, absent: Tensor) -> Tensor:
        """(G, U) least divergence of rows (G, U, C) to a row of the coreset."""
        p, nearest = with_logs(rows), torch.full_like(rows[:, :, 0], torch.inf, dtype=torch.float64)
        own = p[0].unsqueeze(2), p[1].unsqueeze(2)
        step = self._step(rows)
        for some, none in zip(coreset.split(step, 1), absent.split(step, 1), strict=True):
            q, log_q = with_logs(some)
            divergence = symmetric_divergence(own, (q.unsqueeze(1), log_q.unsqueeze(1)))
            divergence.masked_fill_(none.unsqueeze(1), torch.inf)
            nearest = torch.minimum(nearest, divergence.amin(2))
        return nearest

    def _step(self, others: Tensor) -> int:
        """How many rows of each set to compare with the others (G, B, C) at once."""
        return tile_rows(others.device, 8 * others.numel(), TILE_BYTES, self.p.shape[1])
