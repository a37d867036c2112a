"""Views of the pairwise similarity of rows: computed on demand, never n x n unless it was given so."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops.facility_location_block import (
    COSINE,
    DOT,
    EUCLIDEAN,
    PRECOMPUTED,
    RBF,
    SAME,
    similarity_of_products,
)
from fastcore.ops.project import project
from fastcore.ops.squared_norms import squared_norms
from fastcore.ops.weighted_sum import weighted_sum

METRICS = {"cosine": COSINE, "dot": DOT, "euclidean": EUCLIDEAN, "rbf": RBF, "precomputed": PRECOMPUTED}


class FeatureSimilarity:
    """Similarity of feature rows under a metric, in float64 where it is asked for.

    cosine is (1 + cos) / 2, where a zero row has cos = 0 with every row; dot the inner product; euclidean
    c - distance with c = 2 * the largest distance to the mean; rbf exp(-gamma * distance^2), where 1 / gamma
    is the mean squared distance of two rows unless it is given.

    Attributes:
        features: (n, d) float32, contiguous.
        norms: (n,) float64 squared norms.
        scale: (n,) float64 factors that make rows unit vectors (cosine; 0 for a zero row), otherwise ones.
        parameter: c of euclidean, gamma of rbf, otherwise 0.
    """

    def __init__(self, features: Tensor, metric: str = "cosine", gamma: float | None = None) -> None:
        self.features, self.metric = features, metric
        self.norms = squared_norms(features[None])[0]
        self.scale = torch.ones_like(self.norms)
        if metric == "cosine":
            self.scale = torch.where(self.norms > 0, self.norms.rsqrt(), 0.0)
        self.parameter = 0.0
        if metric in ("euclidean", "rbf"):
            mean = weighted_sum(features[None], torch.full_like(self.norms, 1 / self.n)[None])
            if metric == "euclidean":
                # No two rows are farther apart than twice the largest distance to the mean.
                sums = self.norms + mean.square().sum()
                squared = sums - 2 * project(features[None], mean)[0]
                self.parameter = 2.0 * float(torch.where(squared < SAME * sums, 0.0, squared).max().sqrt())
            else:
                spread = 2.0 * float(self.norms.mean() - mean.square().sum())
                self.parameter = gamma if gamma is not None else 1.0 / spread if spread > 0 else 1.0

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.features)

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return self.features.device

    def diagonal(self) -> Tensor:
        """(n,) float64 similarity of every row with itself."""
        if self.metric == "dot":
            return self.norms
        if self.metric == "cosine":
            return torch.where(self.norms > 0, 1.0, 0.5).to(torch.float64)
        return torch.full_like(self.norms, self.parameter if self.metric == "euclidean" else 1.0)

    def columns(self, picks: Tensor, rows: Tensor | None = None) -> Tensor:
        """Similarity (rows, picks) in float64 of `rows` (all by default) with `picks`, both row numbers."""
        side = self.features[picks].double(), self.scale[picks], self.norms[picks]
        return self._against(*side, rows)

    def external(self, features: Tensor, rows: Tensor | None = None) -> Tensor:
        """Similarity (rows, m) in float64 of `rows` (all by default) with m outside rows (m, d)."""
        x = features.to(self.device, torch.float64)
        norms = x.square().sum(-1)
        scale = (
            torch.where(norms > 0, norms.rsqrt(), 0.0) if self.metric == "cosine" else torch.ones_like(norms)
        )
        return self._against(x, scale, norms, rows)

    def _against(self, x: Tensor, scale: Tensor, norms: Tensor, rows: Tensor | None) -> Tensor:
        mine = (self.features, self.scale, self.norms)
        ours, our_scale, our_norms = mine if rows is None else (part[rows] for part in mine)
        out = torch.empty(len(ours), len(x), dtype=torch.float64, device=self.device)
        tile = max(1, (16 << 20) // (8 * ours.shape[1]))
        for start in range(0, len(ours), tile):
            stop = start + tile
            sides = (our_scale[start:stop], our_norms[start:stop]), (scale, norms)
            products = ours[start:stop].double() @ x.T
            out[start:stop] = similarity_of_products(products, *sides, METRICS[self.metric], self.parameter)
        return out


class DenseSimilarity:
    """A similarity (or, for k-center, distance) matrix as the user gave it, symmetric or not.

    Entry [i, j] says how well row j represents row i. matrix is (n, n) float32.
    """

    metric = "precomputed"

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

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
    """A sparse similarity matrix, held by columns on the CPU; entries that are not stored are 0.

    Entry [i, j] says how well row j represents row i. Made from any torch sparse matrix (n, n); duplicate
    entries are added up.
    """

    metric = "precomputed"

    def __init__(self, matrix: Tensor) -> None:
        entries = matrix.cpu().to_sparse_coo().coalesce()
        self.n = matrix.shape[0]
        self.device = torch.device("cpu")
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
        on = column == self.indices
        out[column[on]] = self.values[on].double()
        return out

    def columns(self, picks: Tensor, rows: Tensor | None = None) -> Tensor:
        """Similarity (rows, picks) in float64 of `rows` (all by default) with `picks`, both row numbers."""
        lengths = self.offsets.diff()[picks]
        slot = torch.repeat_interleave(lengths)
        step = torch.arange(len(slot), device=self.device) - (lengths.cumsum(0) - lengths)[slot]
        entry = self.offsets[picks][slot] + step
        out = torch.zeros(self.n, len(picks), dtype=torch.float64, device=self.device)
        out[self.indices[entry], slot] = self.values[entry].double()
        return out if rows is None else out[rows]


Similarity = FeatureSimilarity | DenseSimilarity | SparseSimilarity


def view(data: Tensor, metric: str = "cosine", gamma: float | None = None) -> Similarity:
    """The view of `data` under `metric`: features (n, d), or an n x n matrix when metric is "precomputed"."""
    if metric != "precomputed":
        return FeatureSimilarity(data, metric, gamma)
    return DenseSimilarity(data) if data.layout == torch.strided else SparseSimilarity(data)
