"""Ground sets side by side: many small classes go through an engine together, one large set alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.picks import Counter, Tally
from fastcore.memory import BATCH_BYTES, TILE_BYTES, current, retried, tile_rows
from fastcore.ops.asymmetry import asymmetry
from fastcore.ops.choice import TIE
from fastcore.ops.facility_location_block import inner_products, similarity_of_products
from fastcore.rows import Rows, StoredRows, Streamed, fits, row_tiles
from fastcore.similarity import METRICS, DenseSimilarity, Outside, RowSimilarity


@dataclass
class Batch:
    """Some of the ground sets of a partition, padded to the longest.

    Attributes:
        sets: (G,) numbers of the ground sets, on the CPU.
        rows: (G, n) row numbers on the device, ascending within a set, -1 for padding.
        sizes: (G,) rows of each set, on the device.
        budgets: (G,) picks of each set, on the device.
        whole: the one set is all rows in order: no copy is needed.
    """

    sets: Tensor
    rows: Tensor
    sizes: Tensor
    budgets: Tensor
    whole: bool

    def streams(self, values: Tensor | StoredRows) -> bool:
        """Whether the rows of the one set of this batch are read in tiles, without room for them in float32."""
        if not isinstance(values, StoredRows) or len(self.rows) > 1:  # several make a batch that fits
            return False
        size = 4 * self.rows.numel() * values.shape[1]
        if values.asked and values.local:
            return self.whole or size > current().count("batch", values.device, 1, BATCH_BYTES)
        return not fits(size, values.device, values.local)

    def take_rows(self, values: Tensor | StoredRows) -> Any:
        """`take` of features: (G, n, d), or Streamed where they do not fit on the device."""
        if isinstance(values, Tensor):
            return self.take(values)
        if self.streams(values):
            return Streamed(values, None if self.whole else self.rows[0])
        taken = values[self.rows.clamp(min=0).flatten()].view(*self.rows.shape, values.shape[1])
        return taken if self.whole else taken.masked_fill_((self.rows < 0).unsqueeze(2), 0)

    def take(self, values: Tensor) -> Tensor:
        """values (total, ...) of the rows of every set: (G, n, ...), zeros for padding."""
        if self.whole:
            return values[None]
        taken = values[self.rows.clamp(min=0)]
        return taken.masked_fill_((self.rows < 0).view(self.rows.shape + (1,) * (taken.dim() - 2)), 0)

    def numbers(self, positions: Tensor) -> Tensor:
        """Row numbers of positions (G, P) within the sets; -1 stays -1."""
        return torch.where(positions < 0, -1, self.rows.gather(1, positions.clamp(min=0)))


def batches(
    partition: Partition, device: torch.device, row_bytes: int, limit: int = BATCH_BYTES
) -> Iterator[Batch]:
    """Batches of the ground sets that have a budget, of similar size, largest first.

    `row_bytes` is what one padded row costs the engine. The loop is over batches, not over classes. `limit` is
    the size of a batch on a CPU; on a GPU it is a share of the free memory.
    """
    order = _order(partition)
    while len(order):
        batch = _batch(partition, order, device, row_bytes, limit)
        yield batch
        order = order[len(batch.sets) :]


def in_batches(
    work: Callable[[Batch, Counter], None],
    partition: Partition,
    device: torch.device,
    row_bytes: int,
    progress: Counter | None = None,
) -> None:
    """work(batch, progress) for the same batches; one that memory does not suffice for is repeated in
    smaller ones.

    What `work` leaves behind must be its last step. A pick that is made again counts once.
    """
    order, tally = _order(partition), Tally(progress)

    def one() -> int:
        tally.rewind()
        batch = _batch(partition, order, device, row_bytes, BATCH_BYTES)
        work(batch, tally)
        return len(batch.sets)

    while len(order):
        order = order[retried(one) :]
        tally.settle()


def _order(partition: Partition) -> Tensor:
    order = partition.sizes.argsort(descending=True, stable=True)
    return order[partition.budgets[order] > 0]


def _batch(partition: Partition, order: Tensor, device: torch.device, row_bytes: int, usual: int) -> Batch:
    sizes, plan = partition.sizes, current()
    longest = int(sizes[order[0]])
    set_bytes = longest * max(1, row_bytes)
    sets = order[: plan.count("batch", device, set_bytes, usual)]
    plan.note("batch", device, len(sets), set_bytes)
    within = torch.arange(longest, device="cpu")
    inside = within < sizes[sets, None]
    at = (partition.offsets[sets, None] + within).clamp(max=len(partition.rows) - 1)
    rows = torch.where(inside, partition.rows[at], -1)
    whole = partition.sets == 1  # a partition covers all rows
    return Batch(sets, rows.to(device), sizes[sets].to(device), partition.budgets[sets].to(device), whole)


def row_mask(rows: Tensor, n: int, device: torch.device) -> Tensor:
    """(n,) true at these row numbers."""
    mask = torch.zeros(n, dtype=torch.bool, device=device)
    mask[rows.to(device)] = True
    return mask


class FeatureSets:
    """Similarities within the sets of one batch, in float64; those of padding rows are 0.

    Attributes:
        factors: the arrays (G, n, width) float32 that `inner_products` reads: features, or delta and h.
        x: the first of them.
        scale, norms: (G, n) float64, as in RowSimilarity.
    """

    def __init__(self, view: RowSimilarity, batch: Batch) -> None:
        self.inside = batch.rows >= 0
        self.factors: list[Tensor] = [batch.take_rows(factor) for factor in view.factors]
        self.x, self.scale, self.norms = self.factors[0], batch.take(view.scale), batch.take(view.norms)
        self.metric, self.parameter = METRICS[view.metric], view.parameter

    def columns(self, positions: Tensor) -> Tensor:
        """Similarity (G, n, P) of all rows with the rows at positions (G, P)."""
        out = self.scale.new_empty(*self.scale.shape, positions.shape[1])
        for part, similarity in self.tiles(positions):
            out[:, part] = similarity
        return out

    def tiles(self, positions: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Similarity (G, T, P) of T rows at a time with the rows at positions (G, P)."""
        others = [pick(factor, positions).double() for factor in self.factors]
        side = pick(self.scale, positions), pick(self.norms, positions)
        sets = len(self.scale)
        numbers = sum(factor.shape[2] for factor in self.factors) + 3 * positions.shape[1]
        for part, x in row_tiles(self.x, 8 * sets * numbers, TILE_BYTES):  # no float64 copy of all rows
            ours = [x, *(factor[:, part] for factor in self.factors[1:])]
            products = inner_products([factor.double() for factor in ours], others)
            rows = self.scale[:, part], self.norms[:, part]
            similarity = similarity_of_products(products, rows, side, self.metric, self.parameter)
            yield part, similarity.mul_(self.inside[:, part].unsqueeze(2))

    def sums(self) -> Tensor:
        """(G, n) similarity of every row to all rows of its set, added up: n^2 pairs in tiles."""
        sets, n = self.scale.shape
        every = torch.arange(n, device=self.scale.device).expand(sets, n)
        step = tile_rows(self.scale.device, 8 * n * sets, n=n)
        return torch.cat([self.columns(part).sum(1) for part in every.split(step, dim=1)], 1)

    def among(self, positions: Tensor) -> Tensor:
        """Similarity (G, B, B) of the rows at positions (G, B) with each other."""
        rows = [pick(factor, positions).double() for factor in self.factors]
        side = pick(self.scale, positions), pick(self.norms, positions)
        return similarity_of_products(inner_products(rows, rows), side, side, self.metric, self.parameter)


class MatrixSets:
    """Similarities within the sets of one batch, from a given matrix; those of padding rows are 0.

    Attributes:
        matrix: (G, n, n) float32.
    """

    def __init__(self, view: DenseSimilarity, batch: Batch) -> None:
        self._known = view.symmetric
        if batch.whole:
            self.matrix = view.matrix[None]
            return
        inside, rows = batch.rows >= 0, batch.rows.clamp(min=0)
        self.matrix = view.matrix[rows.unsqueeze(2), rows.unsqueeze(1)]
        self.matrix.mul_(inside.unsqueeze(2) & inside.unsqueeze(1))

    def symmetric(self) -> bool:
        """Whether all matrices are: one pass over them, unless it is known."""
        return self._known or not bool(asymmetry(self.matrix).any())

    def columns(self, positions: Tensor) -> Tensor:
        """Similarity (G, n, P) of all rows with the rows at positions (G, P)."""
        at = positions.clamp(min=0).unsqueeze(1).expand(-1, self.matrix.shape[1], -1)
        return self.matrix.gather(2, at).double()

    def among(self, positions: Tensor) -> Tensor:
        """Similarity (G, B, B) of the rows at positions (G, B) with each other."""
        return pick(self.columns(positions), positions)


def sets_of(view: RowSimilarity | DenseSimilarity, batch: Batch) -> FeatureSets | MatrixSets:
    """The similarities within the sets of a batch."""
    return FeatureSets(view, batch) if isinstance(view, RowSimilarity) else MatrixSets(view, batch)


def earlier(
    preselected: Outside | None, n: int, device: torch.device
) -> tuple[Tensor | None, Outside | None]:
    """Preselected rows as a mask (n,) of row numbers, or as rows outside the data."""
    if preselected is None:
        return None, None
    if isinstance(preselected, LastLayerGradients) or preselected.is_floating_point():
        return None, preselected.to(device)
    return row_mask(preselected, n, device), None


def pick(values: Rows, positions: Tensor) -> Tensor:
    """values (G, n) or (G, n, d) at positions (G, P): (G, P) or (G, P, d); -1 gives any row."""
    if isinstance(values, Streamed):
        return values.take(positions)
    at = positions.clamp(min=0)
    if values.dim() == 2:
        return values.gather(1, at)
    if len(values) == 1:
        return values[0].index_select(0, at[0])[None]
    if not values.is_contiguous():
        return values.gather(1, at.unsqueeze(2).expand(-1, -1, values.shape[2]))
    # Whole rows are copied faster than numbers are gathered one by one.
    first = torch.arange(0, values.shape[0] * values.shape[1], values.shape[1], device=at.device)
    taken = values.flatten(0, 1).index_select(0, (at + first.unsqueeze(1)).flatten())
    return taken.view(*at.shape, values.shape[2])


def marked(mask: Tensor) -> Tensor:
    """Positions (G, P) where the mask (G, n) is true, ascending, -1 after the last of each set."""
    order = mask.byte().argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(1).max())]
    return torch.where(mask.gather(1, order), order, -1)


def trim(positions: Tensor) -> Tensor:
    """positions (G, P) without the columns at the end that hold only -1."""
    return positions[:, : int((positions >= 0).sum(1).max())]


def mark(mask: Tensor, positions: Tensor) -> None:
    """Sets the mask (G, n) at positions (G, P), in place; -1 is nowhere."""
    at = torch.where(positions < 0, mask.shape[1], positions)
    mask |= torch.nn.functional.pad(torch.zeros_like(mask), (0, 1)).scatter_(1, at, True)[:, :-1]


def top_block(
    values: Tensor, block: int, floor: Tensor | float = 0.0, lowest: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """The `block` largest of values (G, n), and a bound on the rest.

    Returns positions (G, B), the largest value outside (G,) float64 (-inf if none) and the lowest position
    outside that reaches it (G,). Where the edge of the block runs through tied values, the block takes their
    `lowest` positions, so that ties end a pass only where they must.
    """
    sets, n = values.shape
    if n <= block:
        everything = torch.arange(n, device=values.device).expand(sets, n)
        outside = torch.full((sets,), -torch.inf, dtype=torch.float64, device=values.device)
        return everything.contiguous(), outside, torch.full_like(everything[:, 0], n)
    top, positions = values.topk(block + 1, dim=1)
    edge, best = top[:, -2:-1], top[:, -1:]
    slack = 4 * (TIE * best.abs() + torch.as_tensor(floor, device=values.device).view(-1, 1))
    slack = torch.where(best == -torch.inf, 0.0, slack).to(values.dtype)
    if lowest and bool((edge - best <= slack).any()):
        snapped = torch.where((values - best).abs() <= slack, best, values)
        positions = snapped.sort(dim=1, descending=True, stable=True).indices
    positions = positions[:, :block]
    rest = values.scatter(1, positions, -torch.inf)
    outside = rest.amax(1, keepdim=True)
    first = (rest >= outside - slack).byte().argmax(1)
    return positions.contiguous(), outside[:, 0].double(), first
