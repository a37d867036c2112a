"""Similarities of candidates with all rows of a batch, as facility location needs them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fastcore.greedy.active_lists import ActiveLists
from fastcore.greedy.batches import Batch, FeatureSets, MatrixSets, marked, pick
from fastcore.memory import TILE_BYTES, block_rows, table_fits, tile_rows
from fastcore.numerics import UNIT, product_error
from fastcore.ops.coverage_gains import coverage_gains
from fastcore.ops.facility_location_block import facility_location_block
from fastcore.rows import project, weighted_sum
from fastcore.similarity import METRICS, DenseSimilarity, FeatureSimilarity, Outside, RowSimilarity

FLOOR = 1e-14

MATRIX_BYTES = 4.5
"""For each similarity that is kept: a float32, and a share of the lists of rows that it still counts for."""


def reached(coverage: Tensor, target: Tensor) -> Tensor:
    """Whether sums of the coverage reach a target, but for rounding."""
    return coverage >= target * (1 - 1e-12)


class Coverage:
    """How well every row of a batch is covered, and upper bounds on what each candidate would add.

    Attributes:
        coverage: (G, n) float64 similarity of every row to its best pick, 0 at first, inf for padding.
        bounds: (G, n) float64 upper bounds on the gains, -inf for rows that cannot be picked.
        floor: (G,) rounding of the gains.
        error: how far the float32 similarities are from the exact ones.
        matrix: (G, n, n) float32 similarities, a candidate a row, or None where only blocks are made.
        lists: what is kept of columns that were made once, where there is no matrix and room for it.
        computed: columns of n similarities made in blocks so far.
        sweeps: the greedy itself brings all bounds up to date behind the first pick.
    """

    error = 0.0
    matrix: Tensor | None = None
    lists: ActiveLists | None = None
    computed = 0
    sweeps = False

    def __init__(self, view: RowSimilarity | DenseSimilarity, batch: Batch) -> None:
        self.view = view
        inside = batch.rows >= 0
        self.coverage = torch.zeros(batch.rows.shape, dtype=torch.float64, device=batch.rows.device)
        self.coverage.masked_fill_(~inside, torch.inf)
        self.bounds = torch.full_like(self.coverage, torch.inf).masked_fill_(~inside, -torch.inf)
        self.diagonal = batch.take(view.diagonal())
        self.floor = FLOOR * self.diagonal.abs().amax(1)

    @property
    def n(self) -> int:
        """Rows of the longest set."""
        return self.coverage.shape[1]

    def block(self, at: Tensor) -> Tensor:
        """(G, B, n) float32 similarity of the candidates at positions (G, B) with all rows."""
        raise NotImplementedError

    def current(self, at: Tensor) -> Tensor:
        """The same; where it is not above the coverage, it may be -inf."""
        return self.block(at)

    def bound(self, at: Tensor) -> Tensor:
        """Upper bounds on the same, but for `error`."""
        return self.block(at)

    def counts(self) -> dict[str, int]:
        """What was made so far, for `info`."""
        return {"columns": self.computed}

    def columns(self, at: Tensor) -> Tensor:
        """(G, n, B) float64 similarity of all rows with those at positions (G, B)."""
        raise NotImplementedError

    def keep_lists(self, limit: int) -> None:
        """Keeps what still matters of columns once made, in at most `limit` bytes."""
        if self.matrix is None and len(self.coverage) == 1:
            self.lists = ActiveLists.within(limit, self.n, self.coverage.device)

    def keep(self, at: Tensor, similarity: Tensor) -> None:
        """Keeps what still matters of the similarities (G, B, n) of candidates, once the coverage has grown."""
        if self.lists is not None:
            self.lists.outdate()
            self.lists.keep(at[0], similarity[0], self.coverage[0], self.error)

    def tighten(self, block: int) -> None:
        """Brings bounds up to date that may be among the `block` largest, as far as no column must be made."""
        if self.lists is not None:
            self.lists.tighten(self.bounds[0], self.coverage[0], self.error, block)

    def similarities(self, at: Tensor) -> Tensor:
        """(G, B, n) float32 similarity of the candidates at positions (G, B), -inf where it matters no more."""
        if self.matrix is not None:
            return self.matrix
        if self.lists is None:
            return self.current(at)
        listed = self.lists.listed(at[0])
        if not bool(listed.any()):
            return self.current(at)
        out = self.coverage.new_empty(*at.shape, self.n, dtype=torch.float32)
        self.lists.similarity(at[0], listed, out[0])
        if not bool(listed.all()):
            out[0, ~listed] = self.current(at[:, ~listed])[0]
        return out

    def start(self) -> None:
        """Bounds on the gains of all candidates."""
        self.sweep()

    def full(self) -> Tensor:
        """(G,) the coverage when all rows are picked."""
        best = torch.zeros_like(self.coverage)
        for _, similarity in self.tiles(self.block):
            best = torch.maximum(best, similarity.amax(1).double())
        return (best * self.coverage.isfinite()).sum(1)

    def covered(self) -> Tensor:
        """(G,) the coverage reached."""
        return self.coverage.masked_fill(self.coverage.isinf(), 0).sum(1)

    def step(self) -> int:
        """Candidates whose similarities are made or read together in a sweep."""
        return tile_rows(self.coverage.device, 4 * self.coverage.numel(), 4 * TILE_BYTES, self.n)

    def candidates(self, wanted: int) -> int:
        """Candidates of a pass, at most `wanted`: all rows where the matrix is kept."""
        if self.matrix is not None:
            return self.n
        return block_rows(self.coverage.device, 4 * self.coverage.numel(), wanted)

    def tiles(self, make: Callable[[Tensor], Tensor]) -> Iterator[tuple[slice, Tensor]]:
        """Similarities of all candidates with all rows, (G, T, n) at a time, by `make` if they are not kept."""
        step = self.step()
        for start in range(0, self.n, step):
            part = slice(start, start + step)
            if self.matrix is not None:
                yield part, self.matrix[:, part]
            else:
                positions = torch.arange(self.n, device=self.coverage.device)[part]
                yield part, make(positions.expand(len(self.coverage), -1))

    def sweep(self) -> None:
        """Brings the bounds of all candidates up to date: n^2 similarities."""
        bounds = self.bounds.clone()
        for part, similarity in self.tiles(self.bound):
            bounds[:, part] = coverage_gains(similarity.contiguous(), self.coverage - self.error)
        self.bounds = bounds.masked_fill_(self.bounds == -torch.inf, -torch.inf)

    def add_mask(self, rows: Tensor) -> None:
        """Takes the rows where the mask (G, n) is true as picked."""
        for positions in marked(rows).split(64, dim=1) if bool(rows.any()) else ():
            columns = self.columns(positions).masked_fill_((positions < 0).unsqueeze(1), 0)
            self.coverage = torch.maximum(self.coverage, columns.amax(2))
        self.bounds.masked_fill_(rows, -torch.inf)

    def add_external(self, rows: Outside) -> None:
        """Takes m outside rows as picked, for the one set of the batch."""
        if not isinstance(self.view, RowSimilarity):
            raise ValueError('preselected: outside features need features, not metric="precomputed"')
        for start in range(0, len(rows), 64):
            some = rows[start : start + 64]
            self.coverage = torch.maximum(self.coverage, self.view.external(some).amax(1))

    def greedy(
        self, similarity: Tensor, at: Tensor, budgets: Tensor, outside: Tensor, outside_row: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Picks among the candidates at positions (G, B), whose similarities (G, B, n) are given.

        Returns picks, gains, evaluations, and the coverage and bounds behind them.
        """
        coverage, bounds = self.coverage.clone(), pick(self.bounds, at).contiguous()
        state = (at, coverage, bounds)
        limits = (at, budgets, outside, outside_row, self.floor)
        metric, parameter = self._metric()
        found = facility_location_block(
            similarity, *self._exact(), *state, *limits, self.error, metric, parameter, most
        )
        return *found, (coverage, self.bounds.scatter(1, at, bounds))

    def _exact(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        return None, None, None, None

    def _metric(self) -> tuple[int, float]:
        return METRICS["precomputed"], 0.0


class MatrixCoverage(Coverage):
    """Coverage under a given matrix, transposed once when it is not symmetric."""

    matrix: Tensor

    def __init__(self, view: DenseSimilarity, batch: Batch) -> None:
        super().__init__(view, batch)
        sets = MatrixSets(view, batch)
        self.matrix = sets.matrix if sets.symmetric() else sets.matrix.mT.contiguous()

    def block(self, at: Tensor) -> Tensor:
        """(G, B, n) float32 similarity of the candidates at positions (G, B) with all rows."""
        return pick(self.matrix, at)

    def columns(self, at: Tensor) -> Tensor:
        """(G, n, B) float64 similarity of all rows with those at positions (G, B)."""
        return self.block(at).double().mT


class FeatureCoverage(Coverage):
    """Coverage from features: float32 products as bounds, float64 where they cannot tell."""

    def __init__(self, view: FeatureSimilarity, batch: Batch, limit: int) -> None:
        super().__init__(view, batch)
        self.sets = FeatureSets(view, batch)
        self.metric = view.metric
        self.operand = self.sets.x
        width = self.operand.shape[2]
        longest = float(view.norms.max().sqrt())
        if view.metric == "cosine":
            self.operand = self._cosine_operand()
            self.error = 0.5 * product_error(width) + 4 * UNIT
        elif view.metric == "dot":
            self.error = product_error(width) * longest**2
        else:
            # The root of a small squared distance magnifies rounding: these products are float64.
            largest = view.parameter if view.metric == "euclidean" else 1.0
            self.error = 2 * UNIT * largest + 1e-7 * (longest if view.metric == "euclidean" else 0.0)
        if table_fits(view.device, int(MATRIX_BYTES * len(self.coverage) * self.n**2), limit):
            self.matrix = self._whole_matrix()

    def _cosine_operand(self) -> Tensor:
        # Rows are sqrt(1/2) (x / |x|, 1): their products are (1 + cos) / 2, at no further cost.
        sets, n, width = self.sets.x.shape
        operand = self.sets.x.new_zeros(sets, n, -(-(width + 1) // 16) * 16)
        scale = (math.sqrt(0.5) * self.sets.scale).float().unsqueeze(2)
        torch.mul(self.sets.x, scale, out=operand[:, :, :width])
        operand[:, :, width] = math.sqrt(0.5)
        return operand

    def _whole_matrix(self) -> Tensor:
        sets, n, _ = self.operand.shape
        if self.metric not in ("cosine", "dot"):
            return torch.cat([tile for _, tile in self.tiles(self.block)], 1)
        if sets > 1:
            return torch.bmm(self.operand, self.operand.mT)
        # Half of the products: the other triangle is its mirror image.
        out, x = self.operand.new_empty(n, n), self.operand[0]
        for start in range(0, n, 1024):
            stop = min(start + 1024, n)
            torch.mm(x[start:stop], x[start:].T, out=out[start:stop, start:])
            out[stop:, start:stop] = out[start:stop, stop:].T
        return out[None]

    def block(self, at: Tensor) -> Tensor:
        """(G, B, n) float32 similarity of the candidates at positions (G, B) with all rows."""
        self.computed += at.numel()
        if self.metric in ("cosine", "dot"):
            return torch.bmm(pick(self.operand, at), self.operand.mT)
        return self.sets.columns(at).mT.float().contiguous()

    def columns(self, at: Tensor) -> Tensor:
        """(G, n, B) float64 similarity of all rows with those at positions (G, B)."""
        return self.sets.columns(at)

    def start(self) -> None:
        """Bounds on the gains of all candidates."""
        if self.metric != "cosine" or float(self.covered().max()) > 0:
            return self.sweep()
        # No similarity is negative and nothing is covered: a gain is the sum of a column.
        inside = self.sets.inside.double()
        direction = weighted_sum(self.sets.x, self.sets.scale * inside)
        total = 0.5 * inside.sum(1, keepdim=True) + 0.5 * self.sets.scale * project(self.sets.x, direction)
        slack = FLOOR * self.n
        self.bounds = torch.where(self.bounds == -torch.inf, -torch.inf, total * (1 + 1e-12) + slack)

    def full(self) -> Tensor:
        """(G,) the coverage when all rows are picked."""
        if self.metric == "dot":
            return super().full()
        return self.diagonal.masked_fill(self.coverage.isinf(), 0).sum(
            1
        )  # nothing is more similar than itself

    def _exact(self) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        return self.sets.x, self.sets.scale, self.sets.norms, None

    def _metric(self) -> tuple[int, float]:
        return METRICS[self.metric], self.sets.parameter
