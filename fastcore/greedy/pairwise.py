"""Distances of rows to a growing coreset in float64, from any source of pairs: matrices, inner products."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.greedy.batches import Batch, FeatureSets, MatrixSets, mark, marked, pick
from fastcore.greedy.candidates import Candidates
from fastcore.greedy.distances import nearest_of, random_open, snap
from fastcore.memory import TILE_BYTES, tile_rows
from fastcore.similarity import DenseSimilarity, Outside, RowSimilarity


class PairwiseDistances(Candidates):
    """Distances from the rows of a batch to their coresets, in float64, from any source of pairs.

    Folds take one column of distances a pick; what is kept is final, so no row is measured twice. A source
    says what the columns are.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch, self.closed = batch, batch.rows < 0
        self.nearest = torch.full(batch.rows.shape, torch.inf, dtype=torch.float64, device=batch.rows.device)

    def columns(self, positions: Tensor) -> Tensor:
        """(G, n, P) distances from all rows to the rows at positions (G, P)."""
        raise NotImplementedError

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) distances of the rows at positions (G, B) to each other, row p those to p."""
        raise NotImplementedError

    def external(self, outside: Outside) -> Tensor:
        """(G, n, m) distances from all rows to m outside rows."""
        raise NotImplementedError

    def central(self) -> Tensor:
        """(G,) positions of the rows nearest to the mean of each set."""
        raise NotImplementedError

    def first(self, start: str | int, draws: Tensor) -> Tensor:
        """(G,) positions of the first picks; draws (G,) in [0, 1) decide the random ones."""
        if isinstance(start, int):
            return torch.full_like(draws, start).long()
        return random_open(self.closed, draws) if start == "random" else self.central()

    def fold(self, positions: Tensor) -> None:
        """Adds the rows at positions (G, P) to the coresets (-1: none) and closes them."""
        closed = self.closed.clone()
        mark(closed, positions)
        for part in positions.split(self._at_once(positions.shape[1]), 1):
            distance = self.columns(part).masked_fill_((part < 0).unsqueeze(1), torch.inf)
            self.nearest = torch.minimum(self.nearest, distance.amin(2))
        self.closed = closed

    def _at_once(self, most: int) -> int:
        """Columns of distances to take at once."""
        return tile_rows(self.nearest.device, 8 * self.nearest.numel(), 4 * TILE_BYTES, max(1, most))

    def fold_mask(self, rows: Tensor) -> None:
        """Adds the rows where the mask (G, n) is true to the coresets and closes them."""
        self.fold(marked(rows))

    def fold_external(self, outside: Outside) -> None:
        """Adds outside rows to the coreset of the one set of the batch."""
        step = self._at_once(len(outside))
        for start in range(0, len(outside), step):
            distance = self.external(outside[start : start + step])
            self.nearest = torch.minimum(self.nearest, distance.amin(2))

    def upper(self) -> Tensor:
        """(G, n) upper bounds on the distances, -inf for closed rows."""
        return self.nearest.masked_fill(self.closed, -torch.inf)

    def exact(self, positions: Tensor, sets: slice = slice(None)) -> Tensor:
        """(G, B) float64 distances to the coreset of the rows at positions (G, B) of some sets."""
        return pick(self.upper()[sets], positions)

    def distance(self, values: Tensor) -> Tensor:
        """The distances that the kept values stand for."""
        return values


class MatrixDistances(PairwiseDistances):
    """Distances from a given matrix of them, entry [i, j] from row i to pick j."""

    def __init__(self, view: DenseSimilarity, batch: Batch) -> None:
        super().__init__(batch)
        rows = MatrixSets(view, batch).matrix.mT
        self.rows = rows if rows.is_contiguous() else rows.contiguous()

    def block(self, wanted: int) -> int:
        """All rows: the block reads the given matrix, so there is nothing to gain from smaller ones."""
        return self.nearest.shape[1]

    def columns(self, positions: Tensor) -> Tensor:
        """(G, n, P) distances from all rows to the rows at positions (G, P)."""
        return pick(self.rows, positions).double().mT

    def among(self, positions: Tensor) -> Tensor:
        """(G, n, n) distances of all rows (the block is all rows) to each other."""
        return self.rows

    def external(self, outside: Outside) -> Tensor:
        """There are no features to compare with."""
        raise ValueError('preselected: outside features need features, not metric="precomputed"')

    def central(self) -> Tensor:
        """There is no mean."""
        raise ValueError(
            'start="mean" needs features; with metric="precomputed" take "random" or a row number'
        )


class ProductDistances(PairwiseDistances):
    """Distances of rows that have inner products but no features of their own, such as gradients.

    Euclidean sqrt(|x|^2 + |y|^2 - 2 <x, y>), or 1 - cos under "cosine".
    """

    def __init__(self, view: RowSimilarity, batch: Batch) -> None:
        super().__init__(batch)
        self.view, self.sets = view, FeatureSets(view, batch)

    def columns(self, positions: Tensor) -> Tensor:
        """(G, n, P) distances from all rows to the rows at positions (G, P)."""
        return self._distance(self.sets.columns(positions))

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) distances of the rows at positions (G, B) to each other."""
        return self._distance(self.sets.among(positions))

    def external(self, outside: Outside) -> Tensor:
        """(1, n, m) distances from all rows to m outside rows."""
        return self._distance(self.view.external(outside)[None])

    def central(self) -> Tensor:
        """(G,) positions of the rows nearest to the mean of each set."""
        near = torch.full_like(self.nearest, -torch.inf)
        for g, size in enumerate(self.batch.sizes.tolist()):
            rows = self.batch.rows[g, :size]
            part, scale = self.view.gradients[rows], self.view.scale[rows]  # type: ignore[attr-defined]
            towards = 2 * scale * part.project(part.weighted_sum(scale / size))
            near[g, :size] = towards - (0 if self.view.metric == "cosine" else self.view.norms[rows])
        return nearest_of(near)

    def _distance(self, similarity: Tensor) -> Tensor:
        if self.view.metric == "cosine":
            return snap(4 - 4 * similarity) / 2
        return (self.view.parameter - similarity).clamp_(min=0)
