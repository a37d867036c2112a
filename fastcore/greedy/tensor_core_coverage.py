"""Facility location without a matrix on a GPU: most products by tensor cores, the same picks.

Bounds on gains need not be tight: the sweep over all pairs takes upper bounds on similarities. A pass over a block
takes rounded ones with their error, which leaves a few more gains to float64. Where lists of what candidates still
add to find room, and where float64 had too much to do, it takes float32 products of the pairs that may matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fastcore.greedy import fastest
from fastcore.greedy.batches import Batch
from fastcore.greedy.coverage import FeatureCoverage
from fastcore.greedy.rounded_products import LONGEST, RoundedProducts
from fastcore.memory import TILE_BYTES, table_fits, tile_rows
from fastcore.ops import backend_of
from fastcore.ops.coverage_gains import coverage_gains
from fastcore.similarity import FeatureSimilarity

WORTH_A_LIST = 2
"""Where candidates may still add to this many times the room of a list, on average, few lists would fit."""

REFINED = 1 / 32
"""Where a larger share of the pairs may matter, float32 products of all of them take less time."""

MEASURED = 16
"""Gains of all rows in float64 that take as long as the float32 product of a pass."""

PAUSE = 16
"""Passes with float32 products, once rounded ones left more than that to float64."""

TOGETHER = 4096
"""Candidates of a sweep whose gains are summed inside the products: 9 MB of 528 numbers, which stay in a cache."""

WAYS = ("written", "fused", "half")
"""To gains of a sweep: products are written and read again, or summed where they are made, in TF32 or float16."""

Gains = Callable[[Tensor, Tensor], Tensor]


class TensorCoreCoverage(FeatureCoverage):
    """Coverage from features, where TF32 products are several times as fast as float32 ones.

    Attributes:
        rounded: what makes them; None where a matrix is kept, for metrics of distances, without room for a copy.
    """

    rounded: RoundedProducts | None = None

    def __init__(self, view: FeatureSimilarity, batch: Batch, limit: int) -> None:
        super().__init__(view, batch, limit)
        self._margin = 0.0  # error of the last block, beyond that of float32
        self._active, self._pause = 0.0, 0
        self._fused, self._spare = 0, limit // 4
        self._longest = float(view.norms.max().sqrt()) if view.metric == "dot" else 1.0
        if self.matrix is not None or self.metric not in ("cosine", "dot"):
            return
        sets, n, width = self.sets.x.shape
        if self._longest > LONGEST:
            return
        if table_fits(view.device, 4 * sets * n * RoundedProducts.padded(width), limit // 4):
            rounded = RoundedProducts(self.operand, width, halves=self.metric == "cosine")
            if rounded.hold(self.operand):
                self.rounded, self.error = rounded, self.error + rounded.underflow

    def bound(self, at: Tensor) -> Tensor:
        """(G, B, n) float32 upper bounds on similarities of candidates at positions (G, B), but for `error`."""
        if self.rounded is None:
            return self.block(at)
        self.computed += at.numel()
        return self.rounded.bounds(at)

    def sweep(self) -> None:
        """Brings the bounds of all candidates up to date: n^2 products, the fastest way that there is for them."""
        if self.rounded is None:
            return super().sweep()
        bounds, ways, start = self.bounds.clone(), self._ways(), 0
        kind = "sweep", len(self.coverage), self.n.bit_length(), self.operand.shape[2]
        race = fastest.Race(kind, ways, self.coverage.device)
        everyone = torch.arange(self.n, device=self.coverage.device).expand(len(self.coverage), -1)
        while start < self.n:
            name = race.way()
            count, gains = ways[name]
            part = slice(start, start + count)
            at = everyone[:, part]
            bounds[:, part] = race.run(name, at.shape[1], partial(gains, at, self.coverage - self.error))
            start += count
        self.bounds = bounds.masked_fill_(self.bounds == -torch.inf, -torch.inf)

    def _ways(self) -> dict[str, tuple[int, Gains]]:
        """Those of `WAYS` that there are, with the candidates that each takes together."""
        assert self.rounded is not None
        ways: dict[str, tuple[int, Gains]] = {"written": (self.step(), self._written)}
        device = self.coverage.device
        if backend_of("product_gains", device) == "reference" and fastest.asked() is None:
            return ways
        (sets, n, width), made = self.sets.x.shape, {"fused": self.rounded}
        row_bytes = 4 * sets * RoundedProducts.padded(width)
        if table_fits(device, n * row_bytes // 2, self._spare):
            halves = self.metric == "cosine"
            made["half"] = RoundedProducts(self.operand, width, halves, half=True, longest=self._longest)
        partial_bytes = 4 * sets * -(-n // 256)
        count = min(TOGETHER, tile_rows(device, row_bytes + partial_bytes, 4 * TILE_BYTES, n))
        for name, products in made.items():
            if products.sums_hold(self.operand):
                ways[name] = count, partial(self._summed, products)
        return ways

    def _written(self, at: Tensor, coverage: Tensor) -> Tensor:
        return coverage_gains(self.bound(at).contiguous(), coverage)

    def _summed(self, products: RoundedProducts, at: Tensor, coverage: Tensor) -> Tensor:
        assert self.rounded is not None
        self.computed += at.numel()
        self.rounded.columns += at.numel()
        self._fused += at.numel()
        return products.gains(at, coverage)

    def similarities(self, at: Tensor) -> Tensor:
        """(G, B, n) similarity of the candidates at positions (G, B), -inf where it matters no more."""
        self._margin = 0.0
        return super().similarities(at)

    def current(self, at: Tensor) -> Tensor:
        """The same for candidates without a list."""
        if self.rounded is None:
            return self.block(at)
        self._pause -= self._pause > 0
        least = self.rounded.least(self.coverage, self.error)
        self._active = self.rounded.active(at, least)
        lists = self.lists is not None and self._active * self.n <= WORTH_A_LIST * self.lists.room
        if not lists and self._pause == 0:
            found, self._margin = self.rounded.near(at)
        elif self._active <= REFINED:
            found = self.rounded.refined(at, self.operand, least)
        else:
            return self.block(at)
        self.computed += at.numel()
        return found

    def greedy(
        self, similarity: Tensor, at: Tensor, budgets: Tensor, outside: Tensor, outside_row: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Picks among the candidates at positions (G, B), whose similarities (G, B, n) are given."""
        error = self.error
        self.error += self._margin
        try:
            found = super().greedy(similarity, at, budgets, outside, outside_row, most)
        finally:
            self.error = error
        if self._margin > 0 and int(found[2][:, 1].sum()) * self._active > MEASURED:
            self._pause = PAUSE
        return found

    def keep(self, at: Tensor, similarity: Tensor) -> None:
        """Keeps what still matters of the similarities (G, B, n) of candidates, if they are float32 products."""
        if self._margin == 0:
            super().keep(at, similarity)
        elif self.lists is not None:
            self.lists.outdate()

    def counts(self) -> dict[str, int]:
        """What was made so far, for `info`."""
        if self.rounded is None:
            return super().counts()
        made = {"tensor_core_columns": self.rounded.columns, "fused_columns": self._fused}
        made["refined_pairs"] = self.rounded.pairs
        return super().counts() | made
