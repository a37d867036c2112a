"""Set functions in float64, one gain at a time: what the general optimizers of ``lazy`` maximize."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fastcore.memory import TILE_BYTES, tile_rows
from fastcore.ops.choice import TIE
from fastcore.similarity import DenseSimilarity, Outside, RowSimilarity, Similarity, SparseSimilarity

_FLOOR = 1e-14
_INDEFINITE = 1e4
"""A pivot this many floors below 0 is no rounding error."""


class Objective:
    """A set function over one ground set and the rows chosen so far.

    Candidates are positions in ``rows``, the row numbers of the ground set. Similarities are read in tiles of
    at most 32 MB on a CPU, so that no n x n matrix is ever formed.

    Attributes:
        floor: what a gain may be off by where it should be 0; part of the rule for ties.
        shrinks: whether no gain ever grows when a row is added. Only then is an old gain an upper bound.

    Arrays of (held,) numbers are those of all rows; of the rows of one process where they are spread over several.
    """

    floor: float = 0.0
    shrinks: bool = True

    def __init__(self, view: Similarity, rows: Tensor) -> None:
        self.view = view
        self.rows = rows.to(view.device)
        self._among: Tensor | None = None if len(rows) == view.n else self.rows

    def gains(self, candidates: Tensor) -> Tensor:
        """(m,) float64: by how much the function would grow with each of the m candidates alone."""
        raise NotImplementedError

    def add(self, candidate: int) -> None:
        """Adds one row to the chosen ones."""
        raise NotImplementedError

    def condition(self, features: Outside) -> None:
        """Adds outside rows, (m, d) features or m gradients, which are no candidates, to the chosen ones."""
        raise NotImplementedError

    def bar(self, best: float) -> float:
        """The smallest gain that is tied with the best one."""
        return best - (TIE * abs(best) + self.floor)

    def diagonal(self) -> Tensor:
        """(held,) float64 similarity of every row with itself."""
        return self.view.diagonal()[self.rows]

    def outside(self, features: Outside) -> Tensor:
        """(held, m) float64 similarity with outside rows."""
        return self.view.external(features, self._among)  # type: ignore[union-attr, arg-type]

    def largest(self, values: Tensor) -> float:
        """The largest of values (held,)."""
        return float(values.max())

    def total(self, sums: Tensor) -> Tensor:
        """Sums over all rows, from those over the rows that are held."""
        return sums

    def everywhere(self, values: Tensor) -> Tensor:
        """values (rows,) of all rows, from those (held,) of the rows that are held."""
        return values

    def take(self, values: Tensor, candidates: Tensor) -> Tensor:
        """(m, ...) of values (held, ...), of any candidates."""
        return values[candidates]

    def place(self, candidate: int) -> Tensor:
        """Where the candidate is among the rows that are held: (1,), or nowhere, (0,)."""
        return torch.tensor([candidate], device=self.rows.device)

    def columns(self, candidates: Tensor) -> Tensor:
        """(held, m) float64 similarity of the ground set with the candidates."""
        return self.view.columns(self.rows[candidates], self._among)

    def column(self, candidate: int) -> Tensor:
        """(held,) float64 similarity of the ground set with one candidate."""
        return self.columns(torch.tensor([candidate], device=self.rows.device))[:, 0]

    def tiles(self, candidates: Tensor) -> Iterator[Tensor]:
        """The columns of the candidates, a few at a time."""
        for some in candidates.split(self.few()):
            yield self.columns(some)

    def few(self) -> int:
        """Columns in a tile."""
        # A sparse view spreads each column over all its rows before it takes those of the ground set.
        return tile_rows(self.view.device, 8 * self.view.n, 4 * TILE_BYTES)


class FacilityLocation(Objective):
    """Sum over the rows i of max(0, the largest s_ij of a chosen j). A gain costs one column."""

    def __init__(self, view: Similarity, rows: Tensor) -> None:
        super().__init__(view, rows)
        diagonal = self.diagonal()
        self.floor, self.coverage = _FLOOR * self.largest(diagonal.abs()), torch.zeros_like(diagonal)

    def gains(self, candidates: Tensor) -> Tensor:
        parts = [(tile - self.coverage[:, None]).clamp(min=0).sum(0) for tile in self.tiles(candidates)]
        return self.total(torch.cat(parts))

    def add(self, candidate: int) -> None:
        self.coverage = self.coverage.maximum(self.column(candidate))

    def condition(self, features: Outside) -> None:
        if len(features):
            self.coverage = self.coverage.maximum(self.outside(features).amax(1))


class GraphCut(Objective):
    """Sum of s_ij over all rows i and chosen j, less lam times the sum over chosen i and j.

    All gains are kept: n columns once, then one column a pick (two of a given matrix). A pick lowers the
    gain of j by lam * (s_ij + s_ji), so gains shrink for any lam >= 0 unless a similarity is negative.
    """

    _mirror: DenseSimilarity | SparseSimilarity | None = None

    def __init__(self, view: Similarity, rows: Tensor, lam: float = 1.0) -> None:
        super().__init__(view, rows)
        self.lam = lam
        totals, least = [], 0.0
        for tile in self.tiles(torch.arange(len(rows), device=view.device)):
            totals.append(tile.sum(0))
            least = min(least, float(tile.min()))
        self.value = self.total(torch.cat(totals))
        self.floor = _FLOOR * float(self.value.abs().max())
        self.shrinks = lam >= 0 and -self.largest(self.value.new_tensor([-least])) >= -self.floor
        self.value -= lam * self.everywhere(self.diagonal())

    def gains(self, candidates: Tensor) -> Tensor:
        return self.value[candidates]

    def add(self, candidate: int) -> None:
        there = back = self.everywhere(self.column(candidate))
        if not isinstance(self.view, RowSimilarity):
            back = self.back(candidate)
        self.value -= self.lam * (there + back)

    def back(self, candidate: int) -> Tensor:
        """(rows,) float64 similarity of one candidate with the ground set: a row of the matrix."""
        if self._mirror is None:
            assert isinstance(self.view, DenseSimilarity | SparseSimilarity)
            self._mirror = transposed(self.view)
        return self._mirror.columns(self.rows[[candidate]], self._among)[:, 0]

    def condition(self, features: Outside) -> None:
        self.value -= 2 * self.lam * self.everywhere(self.outside(features).sum(1))


class LogDet(Objective):
    """log det of the similarity of the chosen rows plus ridge * I; a gain is the log of a Cholesky pivot.

    All pivots are kept: one column and one product with the t factor rows a pick, (n, k) float64 of memory. A
    similarity that is not positive semidefinite, or a row that depends on the chosen ones, raises ValueError.
    """

    def __init__(self, view: Similarity, rows: Tensor, ridge: float) -> None:
        super().__init__(view, rows)
        self.ridge = ridge
        diagonal = self.diagonal()
        self.floor = _FLOOR * self.largest(diagonal.abs())
        self.pivots = diagonal + ridge
        self.factor = self.pivots.new_empty((0, len(diagonal)))
        self._used = 0

    def gains(self, candidates: Tensor) -> Tensor:
        return self.take(self.pivots, candidates).clamp(min=0).log()

    def bar(self, best: float) -> float:
        pivot = torch.tensor(best, dtype=torch.float64).exp()
        return float((pivot - (TIE * pivot + self.floor)).clamp(min=0).log())

    def add(self, candidate: int) -> None:
        at = torch.tensor([candidate], device=self.rows.device)
        pivot = float(self.take(self.pivots, at))
        if pivot <= self.floor:
            raise ValueError(
                f"log_det: row {int(self.rows[candidate])} depends on the {self._used} rows chosen before it "
                f"(ridge={self.ridge:g}): take fewer picks or a larger ridge"
            )
        known = self.factor[: self._used]
        row = self.column(candidate) - self.take(known.mT, at)[0] @ known
        row[self.place(candidate)] = pivot
        self._append((row / pivot**0.5)[None])

    def condition(self, features: Outside) -> None:
        outside = self.outside(features)
        others = self.view.of(features)  # type: ignore[union-attr, arg-type]
        own = others.columns(torch.arange(len(features), device=self.view.device))
        own.diagonal().add_(self.ridge)
        self._append(torch.linalg.solve_triangular(torch.linalg.cholesky(own), outside.T, upper=False))

    def _append(self, rows: Tensor) -> None:
        """Takes factor rows in; the storage doubles, so that k picks copy it log k times."""
        end = self._used + len(rows)
        if end > len(self.factor):
            grown = self.factor.new_empty((max(end, 2 * len(self.factor), 16), self.factor.shape[1]))
            grown[: self._used] = self.factor[: self._used]
            self.factor = grown
        self.factor[self._used : end] = rows
        self._used = end
        self.pivots -= rows.square().sum(0)
        least = float(self.pivots.min())
        if least < -_INDEFINITE * self.floor:
            raise ValueError(f"log_det needs a positive semidefinite similarity, got a pivot of {least:.3g}")


def transposed(view: DenseSimilarity | SparseSimilarity) -> DenseSimilarity | SparseSimilarity:
    """The view with the two sides of its matrix exchanged; a dense one shares the storage."""
    if isinstance(view, DenseSimilarity):
        return DenseSimilarity(view.matrix.T)
    places = torch.stack([torch.repeat_interleave(view.offsets.diff()), view.indices])
    size = (view.n, view.n)
    matrix = torch.sparse_coo_tensor(places, view.values, size, is_coalesced=True, check_invariants=False)
    return SparseSimilarity(matrix)
