"""Graph-cut gains of all rows of a batch, kept up to date as rows are picked."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastcore.greedy.batches import TILE_BYTES, Batch, FeatureSets, MatrixSets, marked, pick
from fastcore.ops.project import project
from fastcore.ops.weighted_sum import weighted_sum
from fastcore.similarity import DenseSimilarity, FeatureSimilarity, SparseSimilarity


class LinearCut:
    """Gains under an inner product: one product of all rows with (their sum - 2 lambda * sum of the picks).

    cosine is kept without its shift, as cos / 2: the shift adds the same to every gain, see `offset`, but
    without it gains hardly grow outside a block while picks are taken.

    Attributes:
        rise: (G,) what one pick can add to the gain of another row at most.
        reach: (G,) the longest row.
    """

    def __init__(self, view: FeatureSimilarity, batch: Batch, lam: float) -> None:
        self.lam, self.view = lam, view
        self.x, self.scale = batch.take(view.features), batch.take(view.scale)
        self.factor = 0.5 if view.metric == "cosine" else 1.0
        self.inside = batch.rows >= 0
        self.own = lam * batch.take(view.diagonal())
        self.direction = weighted_sum(self.x, self.scale * self.inside)
        longest = (batch.take(view.norms).sqrt() * self.scale).amax(1)
        self.reach = math.sqrt(self.factor) * longest
        self.rise = 2 * lam * self.factor * self._most_negative(longest)
        # Under (1 + cos) / 2 every row adds 1/2 to a gain and every pick takes 2 lambda / 2.
        shift = 0.5 if view.metric == "cosine" else 0.0
        self.first_offset, self.step = shift * batch.sizes.double(), 2 * lam * shift

    def _most_negative(self, longest: Tensor) -> Tensor:
        # With x = x+ - x-, products are at least -(|x+||y-| + |x-||y+|): near 0 for rows that are nearly
        # non-negative, such as features behind a rectifier.
        if float(self.x.amin()) >= 0:
            return torch.zeros_like(longest)
        squares = torch.empty_like(self.scale)
        tile = max(1, TILE_BYTES // (4 * self.x.shape[2] * len(self.x)))
        for start in range(0, self.x.shape[1], tile):
            part = slice(start, start + tile)
            squares[:, part] = self.x[:, part].clamp(max=0).square_().sum(2)
        negative = (squares.sqrt() * self.scale).amax(1) * (1 + 1e-3)  # a float32 sum
        return torch.minimum(2 * longest * negative, longest.square())

    def block(self, wanted: int) -> int:
        """Rows to take into one pass."""
        return wanted

    def values(self) -> Tensor:
        """(G, n) float64 gains, less `offset`."""
        return self.factor * self.scale * project(self.x, self.direction) - self.own

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) float64 similarity, without the shift of cosine."""
        x = pick(self.x, positions).double() * pick(self.scale, positions).unsqueeze(2)
        return self.factor * (x @ x.mT)

    def offset(self, picks: Tensor) -> Tensor:
        """What the gains lack after a number of picks (G, P) without counting the preselected."""
        return self.first_offset.unsqueeze(1) - self.step * picks.double()

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (G, P) into account; -1 is none."""
        weights = pick(self.scale, positions) * (positions >= 0)
        self.direction -= 2 * self.lam * (weights.unsqueeze(1) @ pick(self.x, positions).double()).squeeze(1)

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (G, n) is true into account."""
        self.direction -= 2 * self.lam * weighted_sum(self.x, self.scale * rows)
        self.first_offset = self.first_offset - self.step * rows.sum(1).double()

    def add_external(self, features: Tensor) -> None:
        """Takes outside rows (m, d) into account."""
        x = features.double()
        if self.view.metric == "cosine":
            x = torch.nn.functional.normalize(x, dim=1, eps=1e-300)
        self.direction -= 2 * self.lam * x.sum(0)
        self.first_offset = self.first_offset - self.step * len(x)


class PairwiseCut:
    """Gains under any similarity: sums of whole columns, taken in tiles.

    Attributes:
        rise, reach: (G,) as in LinearCut; similarities below 0 let gains grow, and reach is inf.
    """

    def __init__(self, view: FeatureSimilarity | DenseSimilarity, batch: Batch, lam: float) -> None:
        self.lam, self.view = lam, view
        self.inside = batch.rows >= 0
        diagonal = batch.take(view.diagonal())
        zeros = torch.zeros_like(diagonal[:, 0])
        self.rise, self.reach = zeros, torch.full_like(zeros, torch.inf)
        if isinstance(view, DenseSimilarity):
            matrix = MatrixSets(view, batch).matrix
            totals = matrix.sum(1, dtype=torch.float64)
            # The function counts s_ij and s_ji of two picks alike.
            self.matrix = matrix if torch.equal(matrix, matrix.mT) else (matrix.double() + matrix.mT.double()) / 2
        else:
            self.sets = FeatureSets(view, batch)
            n = diagonal.shape[1]
            every = torch.arange(n, device=view.device).expand(len(diagonal), n)
            step = max(1, TILE_BYTES // (8 * n * len(diagonal)))
            totals = torch.cat([self.sets.columns(part).sum(1) for part in every.split(step, dim=1)], 1)
        self.gains = totals - lam * diagonal

    def block(self, wanted: int) -> int:
        """Rows to take into one pass: all of a given matrix."""
        return self.gains.shape[1] if isinstance(self.view, DenseSimilarity) else wanted

    def values(self) -> Tensor:
        """(G, n) float64 gains."""
        return self.gains

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) similarity."""
        return self.matrix if isinstance(self.view, DenseSimilarity) else self.sets.among(positions)

    def offset(self, picks: Tensor) -> Tensor:
        """Nothing: the gains are whole."""
        return torch.zeros_like(picks, dtype=torch.float64)

    def _columns(self, positions: Tensor) -> Tensor:
        if isinstance(self.view, DenseSimilarity):
            return pick(self.matrix, positions).double().mT
        return self.sets.columns(positions)

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (G, P) into account; -1 is none."""
        for part in positions.split(64, dim=1):
            self.gains -= 2 * self.lam * (self._columns(part) @ (part >= 0).double().unsqueeze(2)).squeeze(2)

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (G, n) is true into account."""
        self.add(marked(rows))

    def add_external(self, features: Tensor) -> None:
        """Takes outside rows (m, d) into account."""
        if isinstance(self.view, DenseSimilarity):
            raise ValueError('preselected: outside features need features, not metric="precomputed"')
        self.gains -= 2 * self.lam * self.view.external(features).sum(1)


class SparseCut:
    """Gains under a sparse similarity: one pick a pass, and a pick touches the entries of its column.

    Attributes:
        rise, reach: (G,) unused, as no second pick follows in a pass.
    """

    def __init__(self, view: SparseSimilarity, batch: Batch, lam: float) -> None:
        self.lam = lam
        width = batch.rows.shape[1]
        # Places in the flattened (G, n) gains; entries between two sets do not count.
        place = torch.full((view.n,), -1, device=view.device)
        inside = batch.rows >= 0
        place[batch.rows[inside]] = inside.flatten().nonzero()[:, 0]
        row, column = place[view.indices], place[torch.repeat_interleave(view.offsets.diff())]
        within = (row >= 0) & (column >= 0) & (row // width == column // width)
        row, column, value = row[within], column[within], view.values[within].double()
        totals = value.new_zeros(batch.rows.numel()).index_add_(0, column, value)
        self.gains = totals.view_as(batch.rows) - lam * batch.take(view.diagonal())
        # The function counts s_ij and s_ji of two picks alike.
        order = torch.cat([column, row]).argsort(stable=True)
        self.other = torch.cat([row, column])[order]
        self.weight = torch.cat([value, value])[order] / 2
        counts = torch.bincount(torch.cat([column, row]), minlength=batch.rows.numel())
        self.offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        self.rise = self.reach = value.new_zeros(len(batch.rows))

    def block(self, wanted: int) -> int:
        """Rows to take into one pass."""
        return 1

    def values(self) -> Tensor:
        """(G, n) float64 gains."""
        return self.gains

    def among(self, positions: Tensor) -> Tensor:
        """(G, 1, 1): with one row in the block nothing reads it."""
        return self.gains.new_zeros(*positions.shape, 1)

    def offset(self, picks: Tensor) -> Tensor:
        """Nothing: the gains are whole."""
        return torch.zeros_like(picks, dtype=torch.float64)

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (G, P) into account; -1 is none."""
        first = torch.arange(len(positions), device=positions.device).unsqueeze(1) * self.gains.shape[1]
        picks = (first + positions)[positions >= 0]
        lengths = self.offsets.diff()[picks]
        start = self.offsets[picks] - (lengths.cumsum(0) - lengths)
        entry = torch.repeat_interleave(start, lengths) + torch.arange(int(lengths.sum()), device=picks.device)
        self.gains.view(-1).index_add_(0, self.other[entry], self.weight[entry], alpha=-2 * self.lam)

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (G, n) is true into account."""
        self.add(marked(rows))

    def add_external(self, features: Tensor) -> None:
        """There are no features to compare with."""
        raise ValueError('preselected: outside features need features, not metric="precomputed"')
