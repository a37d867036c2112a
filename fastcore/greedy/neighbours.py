"""Exact nearest neighbours within every ground set, in tiles: never a matrix of all pairs.

Float32 products say which rows may be among the nearest; differences in float64 decide. Where float32 leaves
too many rows to decide between, float64 products choose first, and rows that even those cannot tell apart are
tied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.batches import Batch, batches, marked, pick
from fastcore.memory import tile_rows, tiles
from fastcore.numerics import UNIT, full_precision, product_error
from fastcore.ops.choice import TIE

SPARE = 8
"""Candidates beyond the number of neighbours that one search brings up."""

KEYS = 4096
QUERIES = 1024
_TILE_BYTES = 16 << 20


@full_precision()
def nearest_neighbours(features: Tensor, partition: Partition, count: int) -> Tensor:
    """The `count` Euclidean nearest neighbours of every row within its ground set, the row itself left out.

    Returns (n, count) int64 row numbers, nearest first, ties to the lowest row, -1 where the set has no more.
    Features are (n, d) float32. Cost: for a set of m rows m^2 d multiplications in float32; sets of similar
    size go side by side. Memory: 8 count bytes a row and tiles of about 16 MB.
    """
    found = torch.full((len(features), count), -1, dtype=torch.int64, device=features.device)
    everything = Partition(partition.rows, partition.offsets, partition.sizes)
    for batch in batches(everything, features.device, 4 * features.shape[1]):
        positions = _Search(features, batch, count).run()
        numbers = batch.numbers(positions.flatten(1)).view_as(positions)
        inside = batch.rows >= 0
        found[batch.rows[inside]] = numbers[inside]
    return found


class _Search:
    """The neighbours of all rows of the sets of one batch."""

    def __init__(self, features: Tensor, batch: Batch, count: int) -> None:
        self.x, self.count = batch.take(features), count
        self.padding = batch.rows < 0
        sets, n, width = self.x.shape
        self.keys = min(n, KEYS)
        self.queries = min(QUERIES, tile_rows(self.x.device, 4 * sets * self.keys, _TILE_BYTES, n))
        # Far from the origin products cancel, so all rows are seen from the middle of their set.
        total = torch.zeros(sets, 1, width, dtype=torch.float64, device=self.x.device)
        for part in tiles(n, 8 * sets * width, _TILE_BYTES, self.x.device):
            total += self.x[:, part].double().sum(1, keepdim=True)
        self.centre: Tensor = (total / batch.sizes.view(-1, 1, 1)).float()
        self.norms = torch.empty(sets, n, dtype=torch.float64, device=self.x.device)
        for part in tiles(n, 8 * sets * width, _TILE_BYTES, self.x.device):
            self.norms[:, part] = self._centred(self.x[:, part], torch.float64).square().sum(2)

    def run(self) -> Tensor:
        """(G, n, count) positions, -1 after the last."""
        sets, n = self.padding.shape
        out = torch.full((sets, n, self.count), -1, dtype=torch.int64, device=self.x.device)
        todo = ~self.padding
        for dtype in (torch.float32, torch.float64):
            waiting = torch.zeros_like(todo)
            for part in marked(todo).split(self.queries, 1):
                squared, at = self._least(part, self.count + SPARE, dtype)
                unsure = self._unsure(squared, part, dtype)
                if dtype == torch.float64 and bool(unsure.any()):
                    at = torch.where(unsure.unsqueeze(2), self._lowest_tied(part, squared, at), at)
                elif bool(unsure.any()):
                    g, q = unsure.nonzero(as_tuple=True)
                    waiting[g, part[g, q]] = True
                g, q = (part >= 0).nonzero(as_tuple=True)
                out[g, part[g, q]] = self._nearest(part, at)[g, q]
            todo = waiting
            if not bool(todo.any()):
                break
        return out

    def _centred(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        return rows.to(dtype) - self.centre.to(dtype)

    def _least(
        self, queries: Tensor, most: int, dtype: torch.dtype, tied: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The `most` least squared distances (G, Q, most) of rows at queries (G, Q), and whose they are.

        Entries after the last are inf, at -1. With `tied`, a lower and an upper bound (G, Q), every value in
        between counts as the position of its row, those below as -1, and those above as inf.
        """
        sets, n = self.padding.shape
        y = self._centred(pick(self.x, queries), dtype)
        own = pick(self.norms, queries).to(dtype).unsqueeze(2)
        best = torch.full((*queries.shape, most), torch.inf, dtype=dtype, device=y.device)
        at = torch.full(best.shape, -1, dtype=torch.int64, device=y.device)
        for start in range(0, n, self.keys):
            keys = torch.arange(start, min(start + self.keys, n), device=y.device)
            x = self._centred(self.x[:, start : start + self.keys], dtype)
            norms = self.norms[:, start : start + self.keys].to(dtype)
            norms = norms.masked_fill(self.padding[:, start : start + self.keys], torch.inf)
            squared = torch.baddbmm(norms.unsqueeze(1), y, x.mT, alpha=-2)
            g, q = ((queries >= start) & (queries < start + len(keys))).nonzero(as_tuple=True)
            squared[g, q, queries[g, q] - start] = torch.inf
            if tied is not None:
                low, high = (bound.unsqueeze(2) for bound in tied)
                squared += own
                inside = torch.where(squared < low, -1.0, keys.to(dtype))
                squared = torch.where(squared <= high, inside, torch.inf)
            values, columns = squared.topk(min(most, len(keys)), dim=2, largest=False)
            best, which = torch.cat([best, values], 2).topk(most, dim=2, largest=False)
            at = torch.cat([at, columns + start], 2).gather(2, which)
        at = torch.where(best < torch.inf, at, -1)
        return (best if tied is not None else (best + own).clamp_(min=0)), at

    def _error(self, squared: Tensor, queries: Tensor, dtype: torch.dtype) -> Tensor:
        # A squared distance errs by at most relative * (|x|^2 + |y|^2), and |y|^2 <= 2 |x|^2 + 2 distance.
        relative = product_error(self.x.shape[2]) + 8 * UNIT
        relative *= 1 if dtype == torch.float32 else 2.0**-29
        return relative * (3 * pick(self.norms, queries) + 2.1 * squared)

    def _unsure(self, squared: Tensor, queries: Tensor, dtype: torch.dtype) -> Tensor:
        """(G, Q) whether a row that was not brought up could be among the neighbours."""
        last, edge = squared[:, :, -1].double(), squared[:, :, self.count - 1].double()
        apart = last - self._error(last, queries, dtype) > edge + self._error(edge, queries, dtype)
        return ~apart & (last < torch.inf) & (queries >= 0)

    def _lowest_tied(self, queries: Tensor, squared: Tensor, at: Tensor) -> Tensor:
        """Candidates where more rows than there is room for are as near as the last neighbour."""
        edge = squared[:, :, self.count - 1]
        blur = 2 * self._error(edge, queries, torch.float64)
        _, lowest = self._least(queries, self.count, torch.float64, (edge - blur, edge + blur))
        return torch.nn.functional.pad(lowest, (0, SPARE), value=-1)

    def _nearest(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """(G, Q, count) of the candidates (G, Q, M), by squared distances from differences."""
        sets, _, width = self.x.shape
        most, parts = candidates.shape[2], []
        step = tile_rows(self.x.device, 8 * sets * most * width, _TILE_BYTES)
        for some, at in zip(queries.split(step, 1), candidates.split(step, 1)):
            at = at.sort(2).values
            x = pick(self.x, at.flatten(1)).view(*at.shape, width).double()
            squared = x.sub_(pick(self.x, some).double().unsqueeze(2)).square_().sum(3)
            squared.masked_fill_(at < 0, torch.inf)
            edge = squared.kthvalue(self.count, dim=2, keepdim=True).values
            tied = ((squared - edge).abs() <= TIE * edge) & (edge < torch.inf)
            squared = torch.where(tied, edge, squared)
            order = squared.argsort(dim=2, stable=True)[:, :, : self.count]
            parts.append(at.gather(2, order))
        return torch.cat(parts, 1)
