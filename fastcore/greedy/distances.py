"""Distances of rows to a growing coreset: float32 bounds for all rows, float64 for the few that matter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore.greedy.batches import Batch, mark, marked, pick
from fastcore.greedy.candidates import Candidates
from fastcore.memory import tile_rows
from fastcore.numerics import UNIT, product_error
from fastcore.ops.choice import TIE
from fastcore.ops.facility_location_block import SAME
from fastcore.ops.nearest_update import nearest_update
from fastcore.rows import each_tile, project, weighted_sum
from fastcore.similarity import FeatureSimilarity

PICKS_MULTIPLE = 16
CPU_TILE = 2048
"""Rows whose products with the new picks are made at once: they stay in the cache until they are folded."""


class FeatureDistances(Candidates):
    """Squared distances (2 - 2 cos under "cosine") from the rows of a batch to their coresets.

    Kept for every row: the float32 nearest and second nearest squared distance, and the owner, the number
    of the nearest coreset row in the order of folding (outside rows first).
    """

    def __init__(self, view: FeatureSimilarity, batch: Batch) -> None:
        self.x: Any = batch.take_rows(view.features)
        self.scale, self.norms64 = batch.take(view.scale), batch.take(view.norms)
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
        coreset, closed = torch.cat([self.coreset, positions], 1), self.closed.clone()
        mark(closed, positions)
        self._fold(y, pick(self.scale, positions), norms, self._folded())
        self.coreset, self.closed = coreset, closed

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
        sets, _, width = self.x.shape
        y = (y * y_scale.unsqueeze(2)).float() if self.cosine else y
        y = y - self.centre.unsqueeze(1) if self.centre is not None else y
        # Padding: rows of the products that start at a cache line are a third faster to make.
        missing = -y.shape[1] % PICKS_MULTIPLE
        y = torch.nn.functional.pad(y, (0, 0, 0, missing))
        y_norms = torch.nn.functional.pad(y_norms, (0, missing), value=torch.inf)
        y_norms = y_norms.contiguous()
        columns = max(y.shape[1], width if self.centre is not None else 1)
        buffer: list[Tensor] = []  # the same for all tiles of a size

        def fold(part: slice, x: Tensor) -> None:
            x = x if self.centre is None else x - self.centre.unsqueeze(1)
            if not buffer or buffer[0].shape[1] != x.shape[1]:
                buffer[:] = ()
                buffer.append(y.new_empty(sets, x.shape[1], y.shape[1]))
            products = torch.bmm(x, y.mT, out=buffer[0])
            if self.cosine:
                products *= self.scale[:, part].float().unsqueeze(2)
            state = (self.nearest[:, part], self.owner[:, part], self.second[:, part])
            nearest_update(products, self.norms[:, part], y_norms, *state, offset)

        most = CPU_TILE if y.device.type == "cpu" else None
        each_tile(fold, self.x, 4 * columns * sets, most=most)

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
        step = tile_rows(x.device, 8 * len(x) * x.shape[2], n=folded)
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
