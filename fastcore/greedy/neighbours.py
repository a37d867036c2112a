"""Exact nearest neighbours within every ground set, in tiles: never a matrix of all pairs.

Float32 products say which rows may be among the nearest; differences in float64 decide. Where float32 leaves
too many rows to decide between, float64 products choose first, and rows that even those cannot tell apart are
tied.
"""

from __future__ import annotations

from collections.abc import Iterator

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
        positions = Search(features, batch, count).run()
        numbers = batch.numbers(positions.flatten(1)).view_as(positions)
        inside = batch.rows >= 0
        found[batch.rows[inside]] = numbers[inside]
    return found


class Search:
    """The neighbours of all rows of the sets of one batch. Queries are positions (G, Q), -1 for none.

    Attributes:
        found: (G, n, count) positions, nearest first, -1 after the last.
    """

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
        self.centre: Tensor = (self._total(total) / batch.sizes.view(-1, 1, 1)).float()
        self.norms = self._norms(self.x)
        self.found = torch.full((sets, n, count), -1, dtype=torch.int64, device=self.x.device)

    def run(self) -> Tensor:
        """(G, n, count) positions, -1 after the last."""
        todo = ~self.padding
        edges = torch.empty(todo.shape, dtype=torch.float64, device=todo.device)
        for dtype in (torch.float32, torch.float64):
            waiting = torch.zeros_like(todo)
            for part, squared, at in self._least(todo, self.count + SPARE, dtype):
                g, q = self._unsure(squared, part, dtype).nonzero(as_tuple=True)
                waiting[g, part[g, q]] = True
                edges[g, part[g, q]] = squared[g, q, self.count - 1].double()
                self._settle(part, at)
            todo = waiting
            if not self._any(todo):
                return self.found
        # More rows than there is room for are as near as the last neighbour: the lowest of them.
        for part, _, at in self._least(todo, self.count, torch.float64, edges):
            self._settle(part, torch.nn.functional.pad(at, (0, SPARE), value=-1))
        return self.found

    def _total(self, total: Tensor) -> Tensor:
        """The sum of all rows of each set."""
        return total

    def _number(self, positions: Tensor) -> Tensor:
        """The numbers that rows at positions have among those they are compared with."""
        return positions

    def _any(self, rows: Tensor) -> bool:
        return bool(rows.any())

    def _norms(self, rows: Tensor) -> Tensor:
        """(G, T) float64 squared norms of rows (G, T, d), seen from the middle."""
        norms = torch.empty(rows.shape[:2], dtype=torch.float64, device=rows.device)
        for part in tiles(rows.shape[1], 8 * len(rows) * rows.shape[2], _TILE_BYTES, rows.device):
            norms[:, part] = self.centred(rows[:, part], torch.float64).square().sum(2)
        return norms

    def _settle(self, queries: Tensor, candidates: Tensor) -> None:
        """Takes the nearest of the candidates (G, Q, M) as the neighbours of queries."""
        sets, _, width = self.x.shape
        step = tile_rows(self.x.device, 8 * sets * candidates.shape[2] * width, _TILE_BYTES)
        for some, at in zip(queries.split(step, 1), candidates.split(step, 1), strict=True):
            at = at.sort(2).values
            x = pick(self.x, at.flatten(1)).view(*at.shape, width).double()
            squared = x.sub_(pick(self.x, some).double().unsqueeze(2)).square_().sum(3)
            g, q = (some >= 0).nonzero(as_tuple=True)
            self.found[g, some[g, q]] = nearest(squared, at, self.count)[g, q]

    def centred(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows (G, T, d) as seen from the middle of their set."""
        return rows.to(dtype) - self.centre.to(dtype)

    def _least(
        self, todo: Tensor, most: int, dtype: torch.dtype, edges: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of rows `todo` (G, n), some queries (G, Q) at a time: them, and what `Leaders` finds.

        `edges` (G, n) are squared distances with which others tie, see there.
        """
        for part in marked(todo).split(self.queries, 1):
            leaders = Leaders(self, part, most, dtype, edges)
            y = self.centred(pick(self.x, part), dtype)
            for start in range(0, self.x.shape[1], self.keys):
                keys = slice(start, start + self.keys)
                norms = self.norms[:, keys].masked_fill(self.padding[:, keys], torch.inf)
                leaders.meet(y, start, self.centred(self.x[:, keys], dtype), norms)
            yield leaders.result()

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


class Leaders:
    """The `most` least squared distances of rows at queries (G, Q), as other rows come in.

    With `edges` (G, n), every row whose distance is that far but for rounding counts by its number, nearer rows
    come before them, and others are left out.
    """

    def __init__(
        self, search: Search, queries: Tensor, most: int, dtype: torch.dtype, edges: Tensor | None = None
    ) -> None:
        self._search, self.queries, self._most, self._dtype = search, queries, most, dtype
        self._own = pick(search.norms, queries).to(dtype).unsqueeze(2)
        self._best = torch.full((*queries.shape, most), torch.inf, dtype=dtype, device=queries.device)
        self._at = torch.full(self._best.shape, -1, dtype=torch.int64, device=queries.device)
        self._edge: Tensor | None = None
        if edges is not None:
            edge = pick(edges, queries)
            self._edge = edge.unsqueeze(2)
            self._blur = 2 * search._error(edge, queries, dtype).unsqueeze(2)

    def meet(self, y: Tensor, start: int, x: Tensor, norms: Tensor) -> None:
        """Compares the queries, y (G, Q, d), with rows x (G, T, d), both centred and in the type of the search.

        The rows are numbered from `start`; norms (G, T) are float64, inf for padding.
        """
        dtype = self._dtype
        squared = torch.baddbmm(norms.to(dtype).unsqueeze(1), y, x.mT, alpha=-2)
        own = self._search._number(self.queries) - start
        g, q = ((own >= 0) & (own < x.shape[1])).nonzero(as_tuple=True)
        squared[g, q, own[g, q]] = torch.inf
        if self._edge is not None:
            squared += self._own
            numbers = torch.arange(start, start + x.shape[1], dtype=dtype, device=x.device)
            inside = torch.where(squared < self._edge - self._blur, -1.0, numbers)
            squared = torch.where(squared <= self._edge + self._blur, inside, torch.inf)
        values, columns = squared.topk(min(self._most, x.shape[1]), dim=2, largest=False)
        best, which = torch.cat([self._best, values], 2).topk(self._most, dim=2, largest=False)
        self._at = torch.cat([self._at, columns + start], 2).gather(2, which)
        self._best = best

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """The queries (G, Q), the least squared distances (G, Q, most) and whose they are, inf and -1 for none."""
        at = torch.where(self._best < torch.inf, self._at, -1)
        squared = (self._best + self._own).clamp_(min=0) if self._edge is None else self._best
        return self.queries, squared, at


def nearest(squared: Tensor, candidates: Tensor, count: int) -> Tensor:
    """(G, Q, count) of the candidates (G, Q, M), ascending, those with the least squared distances (G, Q, M).

    Nearest first, ties to the lowest row; -1 is no candidate.
    """
    squared = squared.masked_fill(candidates < 0, torch.inf)
    edge = squared.kthvalue(count, dim=2, keepdim=True).values
    tied = ((squared - edge).abs() <= TIE * edge) & (edge < torch.inf)
    squared = torch.where(tied, edge, squared)
    order = squared.argsort(dim=2, stable=True)[:, :, :count]
    return candidates.gather(2, order)
