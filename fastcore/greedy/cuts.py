"""Graph-cut gains of all rows of a batch, kept up to date as rows are picked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore.greedy.batches import (
    Batch,
    FeatureSets,
    MatrixSets,
    marked,
    pick,
    top_block,
)
from fastcore.greedy.directions import seen_along_principal
from fastcore.ops.graph_cut_block import graph_cut_block
from fastcore.ops.linear_cut import linear_cut
from fastcore.rows import project, resident_only, weighted_sum
from fastcore.similarity import (
    DenseSimilarity,
    FeatureSimilarity,
    Outside,
    RowSimilarity,
)

BLOCK = 384
PICKS_A_PASS = {"cpu": 1024, "cuda": 250}
"""Longer passes save reads of the rows and measure more gains; on a GPU a pick meets all before it in its pass. On
a CPU the op itself takes all gains afresh in between."""

SUMS_BYTES = 64 << 20
"""What the sums after every pick of a pass may take: passes over wide rows are shorter."""

FLOOR = 1e-14
ROUNDING = 1e-14  # of squared lengths, relative

OUTSIDE = 'preselected: outside features need features, not metric="precomputed"'


class Cut:
    """Graph-cut gains of the rows of a batch.

    A subclass keeps them up to date under `add` and says in `pick` which rows come next.
    """

    def pick(self, fixed: Tensor, left: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
        """The next picks (G, P), at most left (G,) of each set, at least one where there is one, and gains.

        Rows where fixed (G, n) is true are out. -1 follows the last pick of a set. `block` sets the number of
        rows or picks a pass goes for.
        """
        raise NotImplementedError

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (G, P) into account; -1 is none."""
        raise NotImplementedError

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (G, n) is true into account."""
        self.add(marked(rows))

    def add_external(self, rows: Outside) -> None:
        """Takes m outside rows into account."""
        raise ValueError(OUTSIDE)


class InnerProductCut(Cut):
    """Gains under an inner product of rows that are seen along a few directions.

    cosine is kept without its shift, as cos / 2: under (1 + cos) / 2 every row adds 1/2 to a gain and every
    pick takes lambda, the same for all.

    Attributes:
        factor, shift: a similarity is shift + factor * <scaled rows>.
        offset: (G,) what the shift adds to a gain.
        coordinates, error: of the scaled rows, as `linear_cut` takes them.
    """

    lam: float
    factor: float
    shift: float
    scale: Tensor
    offset: Tensor
    coordinates: Tensor
    error: float

    def _lazily(
        self, x: Tensor, second: Tensor | None, values: Tensor, left: Tensor, most: int
    ) -> tuple[Tensor, Tensor]:
        """At most `most` picks and their gains, from gains (G, n) less the shift, -inf for rows that are out."""
        floor = FLOOR * values.masked_fill(values == -torch.inf, 0).abs().amax(1)
        budgets, penalty = left.clamp(max=most), 2 * self.lam * self.factor
        limits = (budgets, floor, penalty, self.error, most)
        picks, gains, _ = linear_cut(x, second, self.scale, self.coordinates, values, *limits)
        return picks, self._shifted(gains)

    def _shifted(self, gains: Tensor) -> Tensor:
        """Gains (G, P) of picks one after the other, with what the shift adds to each."""
        steps = torch.arange(gains.shape[1], device=gains.device).double()
        return gains + (self.offset.unsqueeze(1) - 2 * self.lam * self.shift * steps)


class LinearCut(InnerProductCut):
    """Gains of features: one product of all rows with (their sum - 2 lambda * sum of the picks)."""

    def __init__(self, view: FeatureSimilarity, batch: Batch, lam: float) -> None:
        self.lam, self.cosine = lam, view.metric == "cosine"
        self.x: Any = batch.take_rows(view.features)
        self.scale = batch.take(view.scale)
        self.factor = 0.5 if self.cosine else 1.0
        self.own = lam * batch.take(view.diagonal())
        total = self._sum(self.x, self.scale * (batch.rows >= 0))
        self.direction = total.clone()
        self._see(batch.take(view.norms) * self.scale.square(), total, batch)
        self.shift = 0.5 if self.cosine else 0.0
        self.offset = self.shift * batch.sizes.double()

    def _see(self, squares: Tensor, total: Tensor, batch: Batch) -> None:
        """Prepares to bound how gains change, from the squared lengths (G, n) of the scaled rows and their sum."""
        sizes = batch.sizes.double()
        self.coordinates, self.error = seen_along_principal(self.x, self.scale, squares, total, sizes)

    def _sum(self, rows: Tensor, weights: Tensor) -> Tensor:
        """(G, d) weighted sum over rows (G, P, d), of all processes where rows are spread over several."""
        return weighted_sum(rows, weights)

    def _values(self) -> Tensor:
        """(G, n) gains of all rows."""
        return self.factor * self.scale * project(self.x, self.direction) - self.own

    def pick(self, fixed: Tensor, left: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
        """The next picks (G, P) and their gains: see Cut."""
        values = self._values().masked_fill_(fixed, -torch.inf)
        most = min(fixed.shape[1], int(left.max()), block or self._most())
        return self._lazily(self.x, None, values, left, most)

    def _most(self) -> int:
        """Picks of a pass; on a CPU the op sees to the memory for their sums."""
        device = self.x.device.type
        usual, room = PICKS_A_PASS[device], max(16, SUMS_BYTES // (8 * self.x.shape[2]))
        return usual if device == "cpu" else min(usual, room)

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (G, P) into account; -1 is none."""
        weights = pick(self.scale, positions) * (positions >= 0)
        self._subtract(self._sum(pick(self.x, positions), weights), (positions >= 0).sum(1))

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (G, n) is true into account."""
        self._subtract(self._sum(self.x, self.scale * rows), rows.sum(1))

    def add_external(self, rows: Outside) -> None:
        """Takes outside rows (m, d) into account."""
        assert isinstance(rows, Tensor)
        x = rows.double()
        if self.cosine:
            x = torch.nn.functional.normalize(x, dim=1, eps=1e-300)
        self._subtract(x.sum(0), torch.full_like(self.offset, len(x)))

    def _subtract(self, rows: Tensor, count: Tensor) -> None:
        direction = self.direction - 2 * self.lam * rows
        self.offset = self.offset - 2 * self.lam * self.shift * count.double()
        self.direction = direction


class AxisCut(LinearCut):
    """LinearCut for rows that are elsewhere: every row is seen along the sum of all of them alone.

    Picks drift along the mean direction most of all; what each row has along it and apart from it bounds how its
    gain changes.

    Attributes:
        axis: (G, d) unit vectors; along, apart: (G, n) of every scaled row.
    """

    def _see(self, squares: Tensor, total: Tensor, batch: Batch) -> None:
        length = total.norm(dim=1, keepdim=True)
        self.axis = torch.where(length > 0, total / length, 0.0)
        self.along = self.scale * project(self.x, self.axis)
        self.apart = ((squares - self.along.square()).clamp_(min=0) + ROUNDING * squares).sqrt()


class BlockCut(Cut):
    """Gains that are kept as numbers, and picks made inside blocks of the largest of them.

    For similarities that are never negative: gains outside a block can only fall while picks are taken.

    Attributes:
        gains: (G, n) float64.
    """

    gains: Tensor

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) symmetric similarity of the rows at positions (G, B)."""
        raise NotImplementedError

    def size(self, block: int) -> int:
        """Rows of a block."""
        return block

    def __init__(self, lam: float) -> None:
        self.lam = lam

    def pick(self, fixed: Tensor, left: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
        """The next picks (G, P) and their gains: see Cut."""
        values = self.gains.masked_fill(fixed, -torch.inf)
        floor = FLOOR * values.masked_fill(fixed, 0).abs().amax(1)
        at, outside, outside_row = top_block(values, self.size(block or BLOCK), floor)
        most = min(at.shape[1], int(left.max()))
        limits = (left.clamp(max=most), outside, outside_row, floor)
        picks, gains = graph_cut_block(self.among(at), pick(values, at), at, *limits, 2 * self.lam, most)
        return torch.where(picks < 0, -1, at.gather(1, picks.clamp(min=0))), gains


class MatrixCut(BlockCut):
    """Gains under a given matrix. The block is all rows, so that negative entries need no bound."""

    def __init__(self, view: DenseSimilarity, batch: Batch, lam: float) -> None:
        super().__init__(lam)
        sets = MatrixSets(view, batch)
        matrix = sets.matrix
        # The function counts s_ij and s_ji of two picks alike.
        self.matrix = matrix if sets.symmetric() else (matrix.double() + matrix.mT.double()) / 2
        self.gains = matrix.sum(1, dtype=torch.float64) - lam * batch.take(view.diagonal())

    def among(self, positions: Tensor) -> Tensor:
        """(G, n, n) symmetric similarity of all rows."""
        return self.matrix

    def size(self, block: int) -> int:
        """Rows of a block."""
        return self.gains.shape[1]

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (G, P) into account; -1 is none."""
        gains = self.gains.clone()  # until all is done, so that it can be repeated
        for part in positions.split(64, dim=1):
            rows = pick(self.matrix, part).double() * (part >= 0).unsqueeze(2)
            gains -= 2 * self.lam * rows.sum(1)
        self.gains = gains


class PairwiseCut(BlockCut):
    """Gains under euclidean or rbf similarity: sums of whole columns, taken in tiles."""

    def __init__(self, view: FeatureSimilarity, batch: Batch, lam: float) -> None:
        super().__init__(lam)
        self.view: RowSimilarity = view
        self.sets = FeatureSets(view, batch)
        resident_only(self.sets.x, f"graph_cut with metric={view.metric!r}")
        self.gains = self.sets.sums() - lam * batch.take(view.diagonal())

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) similarity of the rows at positions (G, B)."""
        return self.sets.among(positions)

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (G, P) into account; -1 is none."""
        gains = self.gains.clone()  # until all is done, so that it can be repeated
        for part in positions.split(64, dim=1):
            columns = self.sets.columns(part)
            gains -= 2 * self.lam * (columns @ (part >= 0).double().unsqueeze(2)).squeeze(2)
        self.gains = gains

    def add_external(self, rows: Outside) -> None:
        """Takes m outside rows into account."""
        self.gains -= 2 * self.lam * self.view.external(rows).sum(1)
