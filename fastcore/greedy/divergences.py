"""Symmetric divergences of rows to a growing coreset: products bound them for all rows, sums decide the few.

Half of KL(p || q) + KL(q || p) is half of (sum p log p + sum q log q - sum p log q - sum q log p): one product
of 2 C numbers a pair, in float64. It cancels where p and q are near, so what is compared inside a block is the
sum of (p - q) (log p - log q) / 2, whose terms are all positive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fastcore.divergence import SAME_ROW, Divergence, symmetric_divergence, with_logs
from fastcore.greedy.batches import TILE_BYTES, Batch, mark, marked, pick
from fastcore.greedy.distances import PairwiseDistances, nearest_of
from fastcore.memory import tiles
from fastcore.numerics import product_error
from fastcore.similarity import Outside


class DivergenceDistances(PairwiseDistances):
    """Divergences from the rows of a batch to their coresets.

    Kept for every row: the nearest and second nearest divergence by products, and the owner, the number of
    the nearest coreset row in the order of folding.
    """

    def __init__(self, view: Divergence, batch: Batch) -> None:
        super().__init__(batch)
        self.p = batch.take(view.probabilities)
        self.second = torch.full_like(self.nearest, torch.inf)
        self.owner = torch.zeros_like(batch.rows)
        self.coreset = self.p[:, :0]
        self.absent = self.closed[:, :0]

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
        for part in positions.split(512, 1):
            self._fold(pick(self.p, part), part < 0)
        mark(self.closed, positions)

    def fold_external(self, outside: Outside) -> None:
        """Adds outside rows (m, C) to the coreset of the one set of the batch."""
        assert isinstance(outside, Tensor)
        for part in outside.to(self.p.dtype).split(512):
            self._fold(part[None], torch.zeros(1, len(part), dtype=torch.bool, device=self.p.device))

    def _fold(self, picked: Tensor, absent: Tensor) -> None:
        q, log_q = with_logs(picked)
        others = torch.cat([log_q, q], 2).mT.contiguous()
        inner = (q * log_q).sum(2).masked_fill(absent, torch.inf).unsqueeze(1)
        for part in self._tiles(4 * self.p.shape[2] + 2 * picked.shape[1]):
            p, log_p = with_logs(self.p[:, part])
            cross = torch.cat([p, log_p], 2) @ others
            divergence = (
                cross.neg_().add_(inner).add_((p * log_p).sum(2, keepdim=True)).mul_(0.5).clamp_(min=0)
            )
            best, owner = divergence.min(2)
            rest = divergence.scatter_(2, owner.unsqueeze(2), torch.inf).amin(2)
            nearest, second = self.nearest[:, part], self.second[:, part]
            self.second[:, part] = torch.minimum(torch.minimum(second, rest), torch.maximum(nearest, best))
            self.owner[:, part] = torch.where(
                best < nearest, owner + self.coreset.shape[1], self.owner[:, part]
            )
            self.nearest[:, part] = torch.minimum(nearest, best)
        self.coreset = torch.cat([self.coreset, picked], 1)
        self.absent = torch.cat([self.absent, absent], 1)

    def _tiles(self, numbers: int) -> Iterator[slice]:
        sets, n, _ = self.p.shape
        return tiles(n, 8 * sets * numbers, TILE_BYTES)

    def _error(self, divergence: Tensor) -> Tensor:
        # The terms of the two products add up to twice the divergence and the two entropies, each at most log C.
        classes = self.p.shape[2]
        relative = 2.0**-29 * product_error(2 * classes) + 2.0**-50
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
        # Where another coreset row is within the error of the owner, all of them are measured.
        near, second = pick(self.nearest[sets], positions), pick(self.second[sets], positions)
        unsure = second - near <= 2 * self._error(torch.where(second < torch.inf, second, near))
        closed = pick(self.closed[sets], positions)
        unsure &= ~closed & (second + self._error(second) >= SAME_ROW)
        if bool(unsure.any()):
            order = marked(unsure)
            every = self._pairs(pick(x, order), self.coreset[sets], self.absent[sets])
            g, b = (order >= 0).nonzero(as_tuple=True)
            divergence[g, order[g, b]] = every[g, b]
        return divergence.masked_fill_(closed, -torch.inf)

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) divergences of the rows at positions (G, B) to each other."""
        return self._among(pick(self.p, positions))

    def _among(self, rows: Tensor) -> Tensor:
        """(G, B, B) divergences of rows (G, B, C) to each other."""
        x = with_logs(rows)
        parts = zip(*(each.unsqueeze(2).split(self._step(each), 1) for each in x), strict=True)
        others = x[0].unsqueeze(1), x[1].unsqueeze(1)
        return torch.cat([symmetric_divergence(part, others) for part in parts], 1)

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
        return max(1, TILE_BYTES // (8 * others.numel()))
