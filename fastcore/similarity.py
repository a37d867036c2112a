"""Views of the pairwise similarity of rows: computed on demand, never n x n unless it was given so."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastcore.gradients import LastLayerGradients
from fastcore.memory import tiles
from fastcore.ops.facility_location_block import (
    COSINE,
    DOT,
    EUCLIDEAN,
    PRECOMPUTED,
    RBF,
    SAME,
    inner_products,
    similarity_of_products,
)
from fastcore.reduced_gradients import ReducedGradients
from fastcore.rows import StoredRows, Streamed, project, squared_norms, weighted_sum

Outside = Tensor | LastLayerGradients
"""Rows outside the data: features (m, d), or m gradients."""

METRICS = {"cosine": COSINE, "dot": DOT, "euclidean": EUCLIDEAN, "rbf": RBF, "precomputed": PRECOMPUTED}


class RowSimilarity:
    """Similarity of rows with an inner product under a metric, in float64 where it is asked for.

    cosine is (1 + cos) / 2, where a zero row has cos = 0 with every row; dot the inner product; euclidean
    c - distance with c = 2 * the largest distance to the mean; rbf exp(-gamma * distance^2), where 1 / gamma
    is the mean squared distance of two rows unless it is given.

    Attributes:
        factors: the arrays (n, width) float32, contiguous, that `inner_products` reads; or one of StoredRows.
        norms: (n,) float64 squared norms.
        scale: (n,) float64 factors that make rows unit vectors (cosine; 0 for a zero row), otherwise ones.
        parameter: c of euclidean, gamma of rbf, otherwise 0.
    """

    def __init__(self, factors: tuple[Any, ...], norms: Tensor, metric: str, gamma: float | None) -> None:
        self.factors: tuple[Tensor, ...] = factors
        self.norms, self.metric = norms, metric
        self.scale = self._scale(norms)
        self.parameter = 0.0
        if metric in ("euclidean", "rbf"):
            length, along = self._mean()
            if metric == "euclidean":
                # No two rows are farther apart than twice the largest distance to the mean.
                sums = self.norms + length
                squared = sums - 2 * along
                self.parameter = 2.0 * float(torch.where(squared < SAME * sums, 0.0, squared).max().sqrt())
            else:
                spread = 2.0 * float(self.norms.mean() - length)
                self.parameter = gamma if gamma is not None else 1.0 / spread if spread > 0 else 1.0

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.norms)

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.norms.device

    @property
    def width(self) -> int:
        """Numbers that a row is made of."""
        return sum(factor.shape[1] for factor in self.factors)

    def diagonal(self) -> Tensor:
        """(n,) float64 similarity of every row with itself."""
        if self.metric == "dot":
            return self.norms
        if self.metric == "cosine":
            return torch.where(self.norms > 0, 1.0, 0.5).to(torch.float64)
        return torch.full_like(self.norms, self.parameter if self.metric == "euclidean" else 1.0)

    def products(self, picks: Tensor, rows: Tensor | None = None) -> Tensor:
        """Inner products (rows, picks) in float64 of `rows` (all by default) with `picks`, both row numbers."""
        return self._against([factor[picks].double() for factor in self.factors], None, rows)

    def columns(self, picks: Tensor, rows: Tensor | None = None) -> Tensor:
        """Similarity (rows, picks) in float64 of `rows` (all by default) with `picks`, both row numbers."""
        others = [factor[picks].double() for factor in self.factors]
        return self._against(others, (self.scale[picks], self.norms[picks]), rows)

    def external(self, rows: Any, among: Tensor | None = None) -> Tensor:
        """Similarity (rows, m) in float64 of the rows `among` (all by default) with m outside `rows`."""
        raise NotImplementedError

    def of(self, rows: Any) -> RowSimilarity:
        """A view of outside rows with the metric and the parameter of this one."""
        raise NotImplementedError

    def _mean(self) -> tuple[Tensor, Tensor]:
        """The squared norm of the mean row, and the inner products (n,) of all rows with it."""
        raise NotImplementedError

    def _scale(self, norms: Tensor) -> Tensor:
        return (
            torch.where(norms > 0, norms.rsqrt(), 0.0) if self.metric == "cosine" else torch.ones_like(norms)
        )

    def _external(self, others: list[Tensor], norms: Tensor, rows: Tensor | None) -> Tensor:
        return self._against(others, (self._scale(norms), norms), rows)

    def _against(
        self, others: list[Tensor], side: tuple[Tensor, Tensor] | None, rows: Tensor | None
    ) -> Tensor:
        """Similarity of `rows` with rows of these factors, scales and norms; inner products without a side."""
        ours, scale, norms = self.factors, self.scale, self.norms
        if rows is not None:
            ours, scale, norms = tuple(factor[rows] for factor in ours), scale[rows], norms[rows]
        out = torch.empty(len(norms), len(others[0]), dtype=torch.float64, device=self.device)
        for part in tiles(len(out), 8 * self.width, device=self.device):
            products = inner_products([factor[part].double() for factor in ours], others)
            if side is not None:
                own = scale[part], norms[part]
                products = similarity_of_products(products, own, side, METRICS[self.metric], self.parameter)
            out[part] = products
        return out


class FeatureSimilarity(RowSimilarity):
    """Similarity of feature rows: see RowSimilarity.

    Attributes:
        features: (n, d) float32, contiguous, or StoredRows.
    """

    def __init__(
        self,
        features: Tensor | StoredRows,
        metric: str = "cosine",
        gamma: float | None = None,
        norms: Tensor | None = None,
    ) -> None:
        self.features = features
        self._rows = Streamed(features) if isinstance(features, StoredRows) else features[None]
        norms = squared_norms(self._rows)[0] if norms is None else norms
        super().__init__((features,), norms, metric, gamma)

    def _mean(self) -> tuple[Tensor, Tensor]:
        mean = weighted_sum(self._rows, torch.full_like(self.norms, 1 / self.n)[None])
        return mean.square().sum(), project(self._rows, mean)[0]

    def external(self, rows: Tensor, among: Tensor | None = None) -> Tensor:
        """Similarity (rows, m) in float64 of rows `among` (all by default) with m outside `rows` (m, d)."""
        x = rows.to(self.device, torch.float64)
        return self._external([x], x.square().sum(-1), among)

    def of(self, rows: Tensor) -> FeatureSimilarity:
        """A view of outside rows (m, d) with the metric and the parameter of this one."""
        return _alike(self, FeatureSimilarity(rows.to(self.device).float().contiguous(), self.metric))


class GradientSimilarity(RowSimilarity):
    """Similarity of last-layer gradients, from their factors: see RowSimilarity and LastLayerGradients.

    <g_i, g_j> = <delta_i, delta_j> (1 + <h_i, h_j>) is all that is computed of a pair. The mean of the
    gradients is one C x (D + 1) matrix.
    """

    def __init__(
        self, gradients: LastLayerGradients, metric: str = "cosine", gamma: float | None = None
    ) -> None:
        self.gradients = gradients
        super().__init__((gradients.delta, gradients.h), gradients.squared_norms(), metric, gamma)

    def _mean(self) -> tuple[Tensor, Tensor]:
        mean = self.gradients.weighted_sum(torch.full_like(self.norms, 1 / self.n))
        return mean.square().sum(), self.gradients.project(mean)

    @property
    def reducible(self) -> bool:
        """Whether bounds from few dimensions help: distances, on a CPU, whose squares are numbers in float32."""
        if self.metric not in ("euclidean", "rbf") or self.device.type != "cpu":
            return False
        return 1e-12 < float(self.norms.max().sqrt()) < 1e18

    @cached_property
    def reduced(self) -> ReducedGradients:
        """Their coordinates in few dimensions: n r D multiplications, once."""
        return ReducedGradients(self.gradients)

    def external(self, rows: LastLayerGradients, among: Tensor | None = None) -> Tensor:
        """Similarity (rows, m) in float64 of rows `among` (all by default) with m outside gradients."""
        others = rows.to(self.device)
        return self._external([others.delta.double(), others.h.double()], others.squared_norms(), among)

    def of(self, rows: LastLayerGradients) -> GradientSimilarity:
        """A view of outside gradients with the metric and the parameter of this one."""
        return _alike(self, GradientSimilarity(rows.to(self.device), self.metric))


_View = TypeVar("_View", bound=RowSimilarity)


def _alike(view: RowSimilarity, other: _View) -> _View:
    other.parameter = view.parameter
    return other


class DenseSimilarity:
    """A similarity (or, for k-center, distance) matrix as the user gave it, symmetric or not.

    Entry [i, j] says how well row j represents row i.

    Attributes:
        matrix: (n, n) float32.
        symmetric: it is known to be.
    """

    metric = "precomputed"

    def __init__(self, matrix: Tensor, symmetric: bool = False) -> None:
        self.matrix, self.symmetric = matrix, symmetric

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.matrix)

    @property
    def device(self) -> torch.device:
        """Where the matrix is."""
        return self.matrix.device

    def diagonal(self) -> Tensor:
        """(n,) float64 similarity of every row with itself."""
        return self.matrix.diagonal().double()

    def columns(self, picks: Tensor, rows: Tensor | None = None) -> Tensor:
        """Similarity (rows, picks) in float64 of `rows` (all by default) with `picks`, both row numbers."""
        part = self.matrix if rows is None else self.matrix[rows]
        return part[:, picks].double()


class SparseSimilarity:
    """A sparse similarity matrix, held by columns where it was given; entries that are not stored are 0.

    Entry [i, j] says how well row j represents row i. Made from any torch sparse matrix (n, n); duplicate
    entries are added up.
    """

    metric = "precomputed"

    def __init__(self, matrix: Tensor) -> None:
        entries = matrix.to_sparse_coo().coalesce()
        self.n, self.device = matrix.shape[0], matrix.device
        row, column = entries.indices()
        order = column.argsort(stable=True)
        counts = torch.bincount(column, minlength=self.n)
        self.offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        self.indices = row[order]
        self.values = entries.values()[order].float()

    def diagonal(self) -> Tensor:
        """(n,) float64 similarity of every row with itself."""
        out = torch.zeros(self.n, dtype=torch.float64, device=self.device)
        column = torch.repeat_interleave(self.offsets.diff())
        on = (column == self.indices).nonzero()[:, 0]
        out[column[on]] = self.values[on].double()
        return out

    def columns(self, picks: Tensor, rows: Tensor | None = None) -> Tensor:
        """Similarity (rows, picks) in float64 of `rows` (all by default) with `picks`, both row numbers."""
        slot, entry = self.entries(picks)
        out = torch.zeros(self.n, len(picks), dtype=torch.float64, device=self.device)
        out[self.indices[entry], slot] = self.values[entry].double()
        return out if rows is None else out[rows]

    def entries(self, picks: Tensor) -> tuple[Tensor, Tensor]:
        """The stored entries of the columns `picks`, one column after the other.

        Returns for each its position in `picks`, and its place in `indices` and `values`.
        """
        lengths = self.offsets.diff()[picks]
        slot = torch.repeat_interleave(lengths)
        start = self.offsets[picks] - (lengths.cumsum(0) - lengths)
        return slot, start.index_select(0, slot).add_(torch.arange(len(slot), device=self.device))


Similarity = FeatureSimilarity | GradientSimilarity | DenseSimilarity | SparseSimilarity


def view(
    data: Tensor | StoredRows | LastLayerGradients,
    metric: str = "cosine",
    gamma: float | None = None,
    norms: Tensor | None = None,
    symmetric: bool = False,
) -> Similarity:
    """The view of `data` under `metric`: features (n, d), gradients, or an n x n matrix for "precomputed".

    `norms` are the squared norms (n,) of features, where they are known; `symmetric` says that a dense matrix is
    known to be.
    """
    if isinstance(data, LastLayerGradients):
        return GradientSimilarity(data, metric, gamma)
    if metric != "precomputed" or isinstance(data, StoredRows):
        return FeatureSimilarity(data, metric, gamma, norms)
    return DenseSimilarity(data, symmetric) if data.layout == torch.strided else SparseSimilarity(data)
