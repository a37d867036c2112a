"""Nearest neighbours over rows on several ranks, and how far predictions differ from theirs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fastcore.distributed.shards import Shards
from fastcore.divergence import mean_divergence
from fastcore.greedy import neighbours
from fastcore.greedy.batches import marked, pick
from fastcore.greedy.neighbours import Leaders, Search, nearest
from fastcore.memory import TILE_BYTES, tiles
from fastcore.numerics import full_precision

FETCHED = 1 << 21
"""Probabilities of neighbours that a rank asks for at once."""


@full_precision()
def divergence_from_neighbours(shards: Shards, features: Tensor, probabilities: Tensor, count: int) -> Tensor:
    """(n,) float64, on all ranks: `mean_divergence` from the `count` nearest neighbours of every row of all ranks.

    Features (m, d) and probabilities (m, C) are those of one rank, or one row of padding. The features of all
    ranks come by twice, in tiles, and once or twice more where float32 products leave rows undecided; of the
    probabilities a rank asks for those of the neighbours of its rows. n m d multiplications; memory: some 500
    bytes for each row of the rank, and tiles.
    """
    found = SearchOverRanks(shards, features, count).run()[0]
    step, parts = max(1, FETCHED // (count * probabilities.shape[1])), []
    for start in range(0, max(shards.counts), step):  # as often on every rank
        rows = slice(start, min(start + step, shards.count))
        own = probabilities[rows]
        others, at = shards.fetch(probabilities, found[rows])
        parts.append(mean_divergence(own, at, others if len(others) else own))
    return shards.ranks.gather_rows(torch.cat(parts), shards.counts)


class SearchOverRanks(Search):
    """The neighbours of the rows of this rank among those of all ranks. What is found are global row numbers."""

    def __init__(self, shards: Shards, features: Tensor, count: int) -> None:
        self.shards = shards
        super().__init__(features, shards.batch(features.device), count)
        self._candidates = self.found.new_full((*self.padding.shape, count + neighbours.SPARE), -1)

    def run(self) -> Tensor:
        """(1, m, count) row numbers, -1 after the last."""
        super().run()
        squared = self.norms.new_full(self._candidates.shape, torch.inf)
        for start, rows in self._every_row():
            at = self._candidates[0] - start
            queries, places = ((at >= 0) & (at < len(rows))).nonzero(as_tuple=True)
            for part in tiles(len(queries), 16 * rows.shape[1], TILE_BYTES, rows.device):
                q, c = queries[part], places[part]
                difference = rows[at[q, c]].double().sub_(self.x[0, q].double())
                squared[0, q, c] = difference.square_().sum(1)
        for part in tiles(len(self.x[0]), 32 * squared.shape[2], TILE_BYTES, squared.device):
            self.found[:, part] = nearest(squared[:, part], self._candidates[:, part], self.count)
        return self.found

    def _every_row(self) -> Iterator[tuple[int, Tensor]]:
        """The rows (T, d) of all ranks, some at a time, and the number of the first of them."""
        start = 0
        for _, _, rows in self.shards.every(self.x, neighbours.KEYS):
            yield start, rows
            start += len(rows)

    def _total(self, total: Tensor) -> Tensor:
        return self.shards.ranks.sum(total)

    def _any(self, rows: Tensor) -> bool:
        return any(self.shards.ranks.exchange(super()._any(rows)))

    def _number(self, positions: Tensor) -> Tensor:
        return positions + self.shards.start

    def _least(
        self, todo: Tensor, most: int, dtype: torch.dtype, edges: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        # A tile comes by once: it meets all queries.
        parts = marked(todo).split(self.queries, 1)
        every = [Leaders(self, part, most, dtype, edges) for part in parts if part.shape[1]]
        for start, rows in self._every_row():
            norms, x = self._norms(rows[None]), self.centred(rows[None], dtype)
            for leaders in every:
                leaders.meet(self.centred(pick(self.x, leaders.queries), dtype), start, x, norms)
        yield from (leaders.result() for leaders in every)

    def _settle(self, queries: Tensor, candidates: Tensor) -> None:
        # Their features are not here. They are measured together.
        self._candidates[0, queries[0]] = candidates[0].sort(1).values
