"""Facility location and graph cut on last-layer gradients, from their factors.

With x = delta and y = h, <g_i, g_j> = <x_i, x_j> (1 + <y_i, y_j>): two narrow products and one pass over their
entries stand for one product of width C (D + 1). The sum of the gradients is one C x (D + 1) matrix.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from fastcore.gradients import LastLayerGradients, products_of_factors, sum_of_factors
from fastcore.greedy.batches import Batch, FeatureSets, pick
from fastcore.greedy.coverage import FLOOR, MATRIX_BYTES, Coverage
from fastcore.greedy.cuts import BlockCut, InnerProductCut, PairwiseCut
from fastcore.greedy.directions import seen_along_factors
from fastcore.memory import TILE_BYTES, table_fits, tile_rows, tiles
from fastcore.numerics import UNIT, product_error
from fastcore.ops.euclidean_tile import euclidean_tile
from fastcore.ops.facility_location_block import SAME, inner_products, similarity_of_products
from fastcore.ops.factored_columns import factored_columns
from fastcore.similarity import METRICS, GradientSimilarity, Outside

PICKS_A_PASS = {"cpu": 1024, "cuda": 170}  # on a CPU the op itself takes gains afresh in between
PICKS_TOGETHER = 170  # that are taken off gains
TRIANGLE = 256  # rows of a matrix that are made together
PAIRS_BYTES = 1 << 20  # of float32 products that are made together: they stay in cache
APART = 2.0**-20  # what distances from float32 products may be off by, of the parameter


class GradientSets(FeatureSets):
    """Similarities of gradients within the sets of one batch.

    Attributes:
        linear: similarities are shift + factor * <unit or plain rows>: cosine and dot.
    """

    def __init__(self, view: GradientSimilarity, batch: Batch) -> None:
        super().__init__(view, batch)
        self.linear = view.metric in ("cosine", "dot")
        self.shift, self.factor = (0.5, 0.5) if view.metric == "cosine" else (0.0, 1.0)
        self.sizes = batch.sizes.double()

    def totals(self) -> Tensor:
        """(G, n) inner product of every scaled row with the sum of them all: cosine and dot.

        n C D multiplications, or n^2 (C + D) in small sets.
        """
        delta, h = self.factors
        n, classes, width = *delta.shape[1:], h.shape[2]
        if n * (classes + width) >= classes * width:
            total = sum_of_factors(delta, h, self.scale * self.inside)
            return self.scale * products_of_factors(delta, h, total)
        return (self.sums() - self.shift * self.sizes.unsqueeze(1)) / self.factor

    def scaled_products(self, positions: Tensor) -> Tensor:
        """(G, n, P) inner products of every scaled row with those at positions (G, P): cosine and dot."""
        out = self.scale.new_empty(*self.scale.shape, positions.shape[1])
        others = [pick(factor, positions) for factor in self.factors]
        scale = pick(self.scale, positions).unsqueeze(1)
        numbers = 2 * positions.shape[1]
        if self.x.device.type != "cpu":
            numbers += self.x.shape[2] + self.factors[1].shape[2]  # a copy of the rows in float64
        for part in tiles(out.shape[1], 8 * len(out) * numbers, 2 * TILE_BYTES, out.device):
            rows = [factor[:, part].contiguous() for factor in self.factors]
            own = self.scale[:, part] * self.inside[:, part]
            out[:, part] = factored_columns(*rows, *others).mul_(own.unsqueeze(2)).mul_(scale)
        return out

    def onto(self, positions: Tensor) -> Tensor:
        """(G, n) inner product of every scaled row with the sum of those at positions (G, P); -1 is none.

        n P (C + D) multiplications, or (n + P) C D by the sum as a matrix, whichever are fewer.
        """
        delta, h = self.factors
        n, classes, width = *delta.shape[1:], h.shape[2]
        count = positions.shape[1]
        if n * count * (classes + width) <= (n + count) * classes * width:
            columns = self.scaled_products(positions)
            return (columns @ (positions >= 0).double().unsqueeze(2)).squeeze(2)
        x, y = pick(delta, positions).double(), pick(h, positions).double()
        x *= (pick(self.scale, positions) * (positions >= 0)).unsqueeze(2)
        return self.scale * products_of_factors(delta, h, torch.cat([x.sum(1).unsqueeze(2), x.mT @ y], 2))


class GradientCoverage(Coverage):
    """Coverage from gradients: float32 products as bounds, float64 where they cannot tell.

    What a product of the two factors may be off by: with relative errors e and f of theirs,
    |x'y' - xy| <= (e + f + e f) |x| |y|, and both are computed as inner products.

    Attributes:
        apart: what distances from float32 products may be off by, or None where all products are float64.
        dtype: in which a root of a float64 square is taken.
    """

    apart: float | None = None
    dtype = torch.float32

    def __init__(self, view: GradientSimilarity, batch: Batch, limit: int) -> None:
        super().__init__(view, batch)
        self.view: GradientSimilarity = view
        self.sets, self.metric = GradientSets(view, batch), view.metric
        classes, width = view.gradients.classes, view.gradients.width
        longest = float(view.norms.max().sqrt())
        if self.sets.linear:
            self.delta = self._scaled_delta()
            # The 1 of 1 + <h, h'> is one more column; the last product and sum round once each.
            e, f = product_error(classes), product_error(width + 1)
            length = 0.5 if view.metric == "cosine" else longest**2
            self.error = (e + f + e * f + 2 * UNIT) * length + (2 * UNIT if view.metric == "cosine" else 0.0)
        else:
            # The root of a small squared distance magnifies rounding: these products are float64. Two
            # results for one pair may lie on either side of SAME; then they differ by its root.
            largest = view.parameter if view.metric == "euclidean" else 1.0
            near = 5e-7 * longest if view.metric == "euclidean" else 3e-13 * view.parameter * longest**2
            self.error = 4 * UNIT * largest + near
            self.dtype = torch.float32 if 1e-12 < longest < 1e18 else torch.float64
            if view.metric == "euclidean" and view.device.type == "cpu" and view.parameter > 0:
                self.apart = APART * view.parameter
                self.error += self.apart
        self.keep_matrix(limit)

    def keep_matrix(self, limit: int) -> None:
        """Makes all similarities, where `limit` bytes have room for them."""
        if table_fits(self.view.device, int(MATRIX_BYTES * len(self.coverage) * self.n**2), limit):
            self.matrix = self._whole_matrix()

    def _scaled_delta(self) -> Tensor:
        # Under cosine delta takes the scale of the row and the factor 1/2, so that products need neither.
        if self.metric == "dot":
            return self.sets.x
        delta = torch.empty_like(self.sets.x)
        scale = (math.sqrt(0.5) * self.sets.scale).unsqueeze(2)
        for part in tiles(self.n, 8 * len(delta) * delta.shape[2], TILE_BYTES, delta.device):
            delta[:, part] = self.sets.x[:, part].double() * scale[:, part]
        return delta

    def _whole_matrix(self) -> Tensor:
        # Half of the products: the other triangle is its mirror image.
        out = self.sets.x.new_empty(len(self.coverage), self.n, self.n)
        every = torch.arange(self.n, device=out.device).expand(len(out), -1)
        for start in range(0, self.n, TRIANGLE):
            stop = min(start + TRIANGLE, self.n)
            if not self._fill_apart(out, every[:, start:stop].contiguous(), start):
                self._fill(out[:, start:stop, start:], every[:, start:stop], start)
                out[:, stop:, start:stop] = out[:, start:stop, stop:].mT
        return out

    @cached_property
    def _largest(self) -> float:
        """The largest number of h."""
        return float(torch.linalg.vector_norm(self.view.gradients.h, torch.inf))

    def _fill_apart(self, out: Tensor, at: Tensor, first: int | None) -> bool:
        """Writes what `_fill` does from float32 products: see `euclidean_tile`; False where they are of no use.

        With `first`, out is the whole matrix, and both of its triangles are written.
        """
        if self.apart is None:
            return False
        x, h = self.sets.factors
        classes, width = x.shape[2], h.shape[2]
        e, f = product_error(classes), product_error(width + 1)
        # A product of x that underflows is off by 2^-149 a term, and is multiplied by one of h.
        absolute = (classes + 2) * 2.0**-147 * (1 + width * self._largest**2)
        bounds = 2 * (e + f + e * f + 2 * UNIT), absolute, self.apart, self.sets.parameter
        rows, others = pick(x, at), pick(h, at)
        step = tile_rows(out.device, 8 * at.numel(), PAIRS_BYTES, n=self.n)
        for start in range(first or 0, self.n, step):
            part = slice(start, min(start + step, self.n))
            products, factors = torch.bmm(rows, x[:, part].mT), torch.bmm(others, h[:, part].mT)
            pairs = products, factors, x, h, self.sets.norms, at, out
            if int(euclidean_tile(*pairs, start, first is not None, *bounds)):
                self.apart = None  # too many rows are near each other, and so are others
                return False
        return True

    def _fill(self, out: Tensor, at: Tensor, first: int) -> None:
        """Writes the similarity of the rows at positions (G, B) with all rows from `first` into out."""
        sets = self.sets
        h = pick(sets.factors[1], at)
        if sets.linear:
            delta = pick(self.delta, at)
            one = h.new_ones(1, 1, 1)
            numbers = at.shape[1]
        else:
            rows = [pick(sets.x, at).double(), h.double()]
            side = pick(sets.scale, at), pick(sets.norms, at)
            numbers = sets.x.shape[2] + h.shape[2] + 3 * at.shape[1]
        step = tile_rows(out.device, 8 * len(out) * numbers, n=self.n)
        for start in range(first, self.n, step):
            part = slice(start, min(start + step, self.n))
            here = out[:, :, start - first : part.stop - first]
            if sets.linear:
                products = torch.baddbmm(one, h, sets.factors[1][:, part].mT)
                torch.mul(products, torch.bmm(delta, self.delta[:, part].mT), out=products)
                torch.add(products, sets.shift, out=here)
            else:
                products = inner_products(rows, [factor[:, part].double() for factor in sets.factors])
                other = sets.scale[:, part], sets.norms[:, part]
                if self.metric == "euclidean":
                    # The formula of similarity_of_products with fewer copies, and the root in float32 where
                    # squares are numbers there.
                    sums = side[1].unsqueeze(2) + other[1].unsqueeze(1)
                    squared = products.mul_(-2).add_(sums)
                    squared.masked_fill_(squared < sums.mul_(SAME), 0.0)
                    here.copy_(squared.to(self.dtype).sqrt_().neg_().add_(sets.parameter))
                else:
                    here.copy_(
                        similarity_of_products(products, side, other, METRICS[self.metric], sets.parameter)
                    )

    def step(self) -> int:
        """Candidates whose similarities are made or read together in a sweep."""
        # Where they are made, the candidates are copied, too, and in float64.
        copies = 0 if self.matrix is not None else 3 * self.view.width
        row_bytes = 4 * (self.n + copies) * len(self.coverage)
        return tile_rows(self.coverage.device, row_bytes, n=self.n)

    def block(self, at: Tensor) -> Tensor:
        """(G, B, n) float32 similarity of the candidates at positions (G, B) with all rows."""
        self.computed += at.numel()
        out = self.sets.x.new_empty(*at.shape, self.n)
        if not self._fill_apart(out, at.contiguous(), None):
            self._fill(out, at, 0)
        return out

    def columns(self, at: Tensor) -> Tensor:
        """(G, n, B) float64 similarity of all rows with those at positions (G, B)."""
        return self.sets.columns(at)

    def start(self) -> None:
        """Bounds on the gains of all candidates."""
        if self.metric != "cosine" or float(self.covered().max()) > 0:
            return self.sweep()
        # No similarity is negative and nothing is covered: a gain is the sum of a column.
        total = 0.5 * self.sets.sizes.unsqueeze(1) + 0.5 * self.sets.totals()
        self.bounds = torch.where(self.bounds == -torch.inf, -torch.inf, total * (1 + 1e-12) + FLOOR * self.n)

    def full(self) -> Tensor:
        """(G,) the coverage when all rows are picked."""
        if self.metric == "dot":
            return super().full()
        # Nothing is more similar to a row than itself.
        return self.diagonal.masked_fill(self.coverage.isinf(), 0).sum(1)

    def _exact(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        return self.sets.x, self.sets.scale, self.sets.norms, self.sets.factors[1]

    def _metric(self) -> tuple[int, float]:
        return METRICS[self.metric], self.sets.parameter


class GradientPairwiseCut(PairwiseCut):
    """Graph-cut gains under euclidean or rbf similarity of gradients."""

    def __init__(self, view: GradientSimilarity, batch: Batch, lam: float) -> None:
        BlockCut.__init__(self, lam)
        self.view, self.sets = view, GradientSets(view, batch)
        self.gains = self.sets.sums() - lam * batch.take(view.diagonal())


class GradientCut(InnerProductCut):
    """Graph-cut gains under an inner product of gradients, cosine or dot, from their factors.

    The gains of all rows are kept as numbers, and all picks of a pass are folded in together.

    Attributes:
        gains: (G, n) float64, less the shift of the cosine.
    """

    def __init__(self, view: GradientSimilarity, batch: Batch, lam: float) -> None:
        self.lam, self.view, self.sets = lam, view, GradientSets(view, batch)
        sets = self.sets
        self.factor, self.shift, self.scale = sets.factor, sets.shift, sets.scale
        self.gains = sets.factor * (sets.totals() * sets.inside) - lam * batch.take(view.diagonal())
        self.offset = sets.shift * sets.sizes
        self.coordinates, self.error = self._coordinates(batch)

    def pick(self, fixed: Tensor, left: Tensor, block: int | None) -> tuple[Tensor, Tensor]:
        """The next picks (G, P) and their gains: see Cut."""
        values = self.gains.masked_fill(fixed, -torch.inf)
        delta, h = self.sets.factors
        most = min(fixed.shape[1], int(left.max()), block or PICKS_A_PASS[delta.device.type])
        return self._lazily(delta, h, values, left, most)

    def add(self, positions: Tensor) -> None:
        """Takes the picks at positions (G, P) into account; -1 is none."""
        # Nothing changes before all is done, so that it can be repeated.
        similarity = torch.zeros_like(self.gains)
        for part in positions.split(PICKS_TOGETHER, dim=1):
            similarity += self.sets.factor * self.sets.onto(part)
        self._subtract(similarity, (positions >= 0).sum(1))

    def add_external(self, rows: Outside) -> None:
        """Takes m outside rows into account."""
        assert isinstance(rows, LastLayerGradients)
        similarity = self.view.external(rows).sum(1)
        self._subtract(similarity - self.sets.shift * len(rows), torch.full_like(self.offset, len(rows)))

    def _subtract(self, similarity: Tensor, count: Tensor) -> None:
        # Both or none, so that it can be repeated.
        offset = self.offset - 2 * self.lam * self.shift * count.double()
        self.gains, self.offset = self.gains - 2 * self.lam * similarity, offset

    def _coordinates(self, batch: Batch) -> tuple[Tensor, float]:
        """Every scaled row (G, r + 1, n) along a few directions, as `linear_cut` takes it, and the error."""
        sets = self.sets
        lengths = sets.norms.sqrt() * sets.inside
        shares = torch.where(lengths > 0, 1 / lengths, 0.0).unsqueeze(2)
        delta, h = sets.factors
        return seen_along_factors((delta * shares).float(), h, lengths * sets.scale, sets.sizes)
