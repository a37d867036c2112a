"""Distances of rows to a growing coreset: float32 bounds for all rows, float64 for the few that matter."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.greedy.batches import TILE_BYTES, Batch, FeatureSets, MatrixSets, mark, marked, pick
from fastcore.greedy.candidates import Candidates
from fastcore.numerics import UNIT, product_error
from fastcore.ops.choice import TIE
from fastcore.ops.facility_location_block import SAME
from fastcore.ops.nearest_update import nearest_update
from fastcore.ops.project import project
from fastcore.ops.weighted_sum import weighted_sum
from fastcore.similarity import DenseSimilarity, FeatureSimilarity, Outside, RowSimilarity

PICKS_MULTIPLE = 16
CPU_TILE = 2048
"""Rows whose products with the new picks are made at once: they stay in the cache until they are folded."""


class FeatureDistances(Candidates):
    """Squared distances (2 - 2 cos under "cosine") from the rows of a batch to their coresets.

    Kept for every row: the float32 nearest and second nearest squared distance, and the owner, the number
    of the nearest coreset row in the order of folding (outside rows first).
    """

    def __init__(self, view: FeatureSimilarity, batch: Batch) -> None:
        self.x, self.scale, self.norms64 = (batch.take(v) for v in (view.features, view.scale, view.norms))
        self.cosine = view.metric == "cosine"
        self.closed = batch.rows < 0
        share = (~self.closed).double() / batch.sizes.unsqueeze(1)
        self.mean = self._total(weighted_sum(self.x, share * self.scale))
        self.centre: Tensor | None = None
        norms = torch.ones_like(self.norms64) if self.cosine else self.norms64
        offset = self.mean.square().sum(1, keepdim=True)
        if not self.cosine and bool((offset[:, 0] > 0.5 * self._total((share * norms).sum(1))).any()):
            # Far from the origin products cancel: the rows are centred, tile by tile.
            self.centre = self.mean.float()
            offset = self.centre.double().square().sum(1, keepdim=True)
            norms = (norms - 2 * project(self.x, self.centre.double()) + offset).clamp(min=0)
        self.norms = norms.float()
        self.longest = self._largest(self.norms.masked_fill(self.closed, 0).amax(1, keepdim=True))
        self.nearest = torch.full_like(self.norms, torch.inf)
        self.second = torch.full_like(self.norms, torch.inf)
        self.owner = torch.zeros_like(batch.rows)
        self.external: Tensor | None = None
        self.coreset = batch.rows.new_empty(len(batch.rows), 0)

    def first(self, start: str | int, draws: Tensor) -> Tensor:
        """(G,) positions of the first picks; draws (G,) in [0, 1) decide the random ones."""
        if isinstance(start, int):
            return torch.full_like(self.owner[:, 0], start)
        if start == "random":
            return random_open(self.closed, draws)
        return nearest_of(self._towards_mean())

    def _towards_mean(self) -> Tensor:
        """(G, n) the larger, the nearer a row is to the mean; -inf for closed rows."""
        towards = 2 * project(self.x, self.mean)
        near = self.scale * towards if self.cosine else towards - self.norms64
        return near.masked_fill(self.closed, -torch.inf)

    def fold(self, positions: Tensor) -> None:
        """Adds the rows at positions (G, P) to the coresets (-1: none) and closes them."""
        valid = positions >= 0
        y = pick(self.x, positions)
        norms = torch.where(valid, pick(self.norms, positions), torch.inf)
        self._fold(y, pick(self.scale, positions), norms, self._folded())
        self.coreset = torch.cat([self.coreset, positions], 1)
        mark(self.closed, positions)

    def fold_mask(self, rows: Tensor) -> None:
        """Adds the rows where the mask (G, n) is true to the coresets and closes them."""
        for part in marked(rows).split(512, dim=1):
            self.fold(part)

    def fold_external(self, features: Tensor) -> None:
        """Adds outside rows (m, d) to the coreset of the one set of the batch."""
        self.external = features
        norms = features.double().square().sum(1)
        self.external_scale = torch.where(norms > 0, norms.rsqrt(), 0.0)
        if self.centre is not None:
            norms = (features.double() - self.centre.double()).square().sum(1)
        elif self.cosine:
            norms = torch.ones_like(norms)
        self.longest = torch.maximum(self.longest, norms.max().float())
        for start in range(0, len(features), 512):
            part = slice(start, start + 512)
            self._fold(
                features[None, part], self.external_scale[None, part], norms[None, part].float(), start
            )

    def _folded(self) -> int:
        return self.coreset.shape[1] + (0 if self.external is None else len(self.external))

    def _fold(self, y: Tensor, y_scale: Tensor, y_norms: Tensor, offset: int) -> None:
        sets, n, width = self.x.shape
        y = (y * y_scale.unsqueeze(2)).float() if self.cosine else y
        y = y - self.centre.unsqueeze(1) if self.centre is not None else y
        # Padding: rows of the products that start at a cache line are a third faster to make.
        missing = -y.shape[1] % PICKS_MULTIPLE
        y = torch.nn.functional.pad(y, (0, 0, 0, missing))
        y_norms = torch.nn.functional.pad(y_norms, (0, missing), value=torch.inf)
        columns = max(y.shape[1], width if self.centre is not None else 1)
        tile = max(1, TILE_BYTES // (4 * columns * sets))
        tile = min(tile, CPU_TILE) if self.x.device.type == "cpu" else tile
        out = y.new_empty(sets, min(tile, n), y.shape[1])
        for start in range(0, n, tile):
            part = slice(start, start + tile)
            x = self.x[:, part] if self.centre is None else self.x[:, part] - self.centre.unsqueeze(1)
            products = torch.bmm(x, y.mT, out=out if x.shape[1] == out.shape[1] else None)
            if self.cosine:
                products *= self.scale[:, part].float().unsqueeze(2)
            state = (self.nearest[:, part], self.owner[:, part], self.second[:, part])
            nearest_update(products, self.norms[:, part], y_norms.contiguous(), *state, offset)

    def _error(self, distance: Tensor, norms: Tensor, longest: Tensor) -> Tensor:
        # A product errs by at most relative * (|x|^2 + |y|^2) / 2, and the nearest y has
        # |y|^2 <= 2 |x|^2 + 2 distance: one far outlier does not spoil the bounds of all other rows.
        relative = product_error(self.x.shape[2]) + 8 * UNIT
        return relative * torch.minimum(norms + longest, 3 * norms + 2.1 * distance)

    def upper(self) -> Tensor:
        """(G, n) float32 upper bounds on the distances, -inf for closed rows."""
        bound = self.nearest + self._error(self.nearest, self.norms, self.longest)
        return bound.masked_fill_(self.closed, -torch.inf)

    def exact(self, positions: Tensor, sets: slice = slice(None)) -> Tensor:
        """(G, B) float64 distances to the coreset of the rows at positions (G, B) of some sets."""
        x = pick(self.x[sets], positions).double()
        scale = pick(self.scale[sets], positions)
        owner = pick(self.owner[sets], positions)
        y, y_scale = self._coreset_rows(owner, sets)
        if self.cosine:
            distance = snap(2 - 2 * (x * y).sum(2) * scale * y_scale)
        else:
            distance = (x - y).square_().sum(2)
        # Where another coreset row is within the error of the owner, all of them are measured.
        near, second = pick(self.nearest[sets], positions), pick(self.second[sets], positions)
        error = self._error(
            torch.where(second < torch.inf, second, near),
            pick(self.norms[sets], positions),
            self.longest[sets],
        )
        closed = pick(self.closed[sets], positions)
        unsure = (second - near <= 2 * error) & ~closed
        if bool(unsure.any()):
            order = marked(unsure)
            every = self._nearest_of_all(pick(x, order), pick(scale, order), sets)
            g, b = (order >= 0).nonzero(as_tuple=True)
            distance[g, order[g, b]] = every[g, b]
        return distance.masked_fill_(closed, -torch.inf)

    def _coreset_rows(self, owner: Tensor, sets: slice) -> tuple[Tensor, Tensor]:
        if self.external is None:
            at = pick(self.coreset[sets], owner)
            return pick(self.x[sets], at).double(), pick(self.scale[sets], at)
        outside = len(self.external)
        inner, outer = owner < outside, owner.clamp(max=outside - 1)
        if self.coreset.shape[1] == 0:
            return self.external[outer].double(), self.external_scale[outer]
        at = pick(self.coreset[sets], owner - outside)
        rows = torch.where(inner.unsqueeze(2), self.external[outer], pick(self.x[sets], at))
        return rows.double(), torch.where(inner, self.external_scale[outer], pick(self.scale[sets], at))

    def _nearest_of_all(self, x: Tensor, scale: Tensor, sets: slice) -> Tensor:
        folded = self._folded()
        nearest = torch.full_like(scale, torch.inf)
        origin = x[:, :1]  # a row, not a mean: differences of rows are exact
        step = max(1, TILE_BYTES // (8 * len(x) * x.shape[2]))
        for start in range(0, folded, step):
            number = torch.arange(start, min(start + step, folded), device=x.device).expand(len(x), -1)
            y, y_scale = self._coreset_rows(number, sets)
            distance = self._pairwise(x, scale, y, y_scale, origin)
            if self.external is None:
                distance.masked_fill_((self.coreset[sets, start : start + step] < 0).unsqueeze(1), torch.inf)
            nearest = torch.minimum(nearest, distance.amin(2))
        return nearest

    def _pairwise(self, x: Tensor, x_scale: Tensor, y: Tensor, y_scale: Tensor, origin: Tensor) -> Tensor:
        if self.cosine:
            return snap(2 - 2 * (x @ y.mT) * x_scale.unsqueeze(2) * y_scale.unsqueeze(1))
        x, y = x - origin, y - origin
        sums = x.square().sum(2).unsqueeze(2) + y.square().sum(2).unsqueeze(1)
        squared = sums - 2 * (x @ y.mT)
        return torch.where(squared < SAME * sums, 0.0, squared)

    def among(self, positions: Tensor) -> Tensor:
        """(G, B, B) float64 distances of the rows at positions (G, B) to each other."""
        x, scale = pick(self.x, positions).double(), pick(self.scale, positions)
        return self._pairwise(x, scale, x, scale, x[:, :1])

    def distance(self, values: Tensor) -> Tensor:
        """The distances that the kept values stand for."""
        return values / 2 if self.cosine else values.sqrt()


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
        for part in positions.split(max(1, 4 * TILE_BYTES // (8 * self.nearest.numel())), 1):
            distance = self.columns(part).masked_fill_((part < 0).unsqueeze(1), torch.inf)
            self.nearest = torch.minimum(self.nearest, distance.amin(2))
        mark(self.closed, positions)

    def fold_mask(self, rows: Tensor) -> None:
        """Adds the rows where the mask (G, n) is true to the coresets and closes them."""
        self.fold(marked(rows))

    def fold_external(self, outside: Outside) -> None:
        """Adds outside rows to the coreset of the one set of the batch."""
        step = max(1, 4 * TILE_BYTES // (8 * self.nearest.numel()))
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


def snap(distance: Tensor) -> Tensor:
    """2 - 2 cos, with what is below its rounding taken as 0."""
    return torch.where(distance < 4 * SAME, 0.0, distance)


def random_open(closed: Tensor, draws: Tensor) -> Tensor:
    """(G,) one open position of every set, by draws (G,) in [0, 1)."""
    rank = (~closed).cumsum(1)
    wanted = (draws * rank[:, -1]).long().clamp(max=rank[:, -1] - 1)
    return (rank <= wanted.unsqueeze(1)).sum(1)


def nearest_of(near: Tensor) -> Tensor:
    """(G,) the position of the largest of near (G, n), ties to the lowest."""
    best = near.amax(1, keepdim=True)
    return (near >= best - TIE * best.abs()).byte().argmax(1)
