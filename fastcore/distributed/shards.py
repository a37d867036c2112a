"""Rows that lie on several ranks: global row numbers, and what all ranks must know of a few rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastcore.distributed.communication import Ranks
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.batches import Batch, pick, top_block
from fastcore.ops.choice import TIE
from fastcore.similarity import DenseSimilarity, Outside, RowSimilarity


class Shards:
    """How the rows are spread: those of rank 0 first, then those of rank 1, and so on.

    Engines keep what they know of a row where the row is. A rank without rows holds one row of padding, so that
    its tensors have a size. Positions (1, P) are global row numbers, -1 for none; the arrays (1, m, ...) of a rank
    are those of its own rows.

    Attributes:
        counts: rows of every rank.
        n: rows of all ranks together.
        start: global number of the first row of this rank.
    """

    def __init__(self, ranks: Ranks, count: int) -> None:
        self.ranks = ranks
        self.counts: list[int] = ranks.exchange(count)
        self.n = sum(self.counts)
        self.count, self.start = count, sum(self.counts[: ranks.rank])

    def batch(self, device: torch.device) -> Batch:
        """The rows of this rank as a batch of the one ground set, whose size is that of all ranks."""
        rows = torch.arange(self.count, device=device) if self.count else torch.tensor([-1], device=device)
        size = torch.tensor([self.n], device=device)
        return Batch(torch.zeros(1, dtype=torch.int64), rows[None], size, size, self.count > 0)

    def own(self, positions: Tensor) -> Tensor:
        """Positions among the rows of this rank, -1 where the row is another's."""
        mine = (positions >= self.start) & (positions < self.start + self.count)
        return torch.where(mine, positions - self.start, -1)

    def part(self, mask: Tensor) -> Tensor:
        """Of a mask (1, n) over all rows the part (1, m) of this rank; true for padding."""
        own = mask[:, self.start : self.start + self.count]
        return own if self.count else mask.new_ones(1, 1)

    def take(self, values: Tensor, positions: Tensor) -> Tensor:
        """values (1, m) or (1, m, d), of any rows (1, P): (1, P) or (1, P, d), 0 for -1."""
        own = self.own(positions)
        taken = pick(values, own)
        keep = (own >= 0).view(own.shape + (1,) * (taken.dim() - 2))
        return self.ranks.unite(torch.where(keep, taken, 0))

    def rows(self, view: RowSimilarity, positions: Tensor) -> Outside:
        """The features or gradients of any rows (1, P), on all ranks."""
        taken = self.side_by_side(view.factors, positions)
        return LastLayerGradients.of_factors(*taken) if len(taken) > 1 else taken[0]

    def side_by_side(self, factors: Sequence[Tensor], positions: Tensor) -> tuple[Tensor, ...]:
        """Several arrays (m, d) of any rows (1, P): (P, d) of each, 0 for -1, by one collective."""
        own = self.own(positions)
        held = torch.cat([pick(factor[None], own)[0] for factor in factors], 1)
        united = self.ranks.unite(torch.where(own.mT >= 0, held, 0))
        return torch.split(united, [factor.shape[1] for factor in factors], 1)

    def columns(self, view: RowSimilarity | DenseSimilarity, positions: Tensor) -> Tensor:
        """Similarity (m, P) in float64 of the rows of this rank with any rows (1, P)."""
        if isinstance(view, DenseSimilarity):
            return view.matrix[:, positions[0]].double()
        return view.external(self.rows(view, positions))

    def among(self, view: RowSimilarity | DenseSimilarity, positions: Tensor) -> Tensor:
        """Similarity (1, B, B) in float64 of any rows (1, B) with each other."""
        if isinstance(view, DenseSimilarity):
            return self.take(view.matrix[None, :, positions[0]], positions).double()
        rows = view.of(self.rows(view, positions))
        return rows.columns(torch.arange(rows.n, device=positions.device))[None]

    def every_row(self, view: RowSimilarity, step: int) -> Iterator[tuple[int, slice, Outside]]:
        """The features or gradients of every rank in turn, on all ranks, `step` rows at a time."""
        for parts in zip(*(self.every(factor[None], step) for factor in view.factors), strict=True):
            rank, part, _ = parts[0]
            rows = [each[2] for each in parts]
            yield rank, part, LastLayerGradients.of_factors(*rows) if len(rows) > 1 else rows[0]

    def every(self, values: Tensor, step: int) -> Iterator[tuple[int, slice, Tensor]]:
        """values (1, m, d) of every rank in turn, on all ranks, `step` rows (T, d) at a time."""
        for rank, count in enumerate(self.counts):
            for start in range(0, count, step):
                part = slice(start, min(start + step, count))
                rows = values.new_empty(part.stop - start, values.shape[2])
                rows = values[0, part] if rank == self.ranks.rank else rows
                yield rank, part, self.ranks.from_rank(rank, rows)

    def fetch(self, values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """values (m, d) of the rows that this rank asks for, each once (N, d), and where `rows` are among them.

        Row numbers may be repeated; -1 is nowhere, at -1. Ranks ask for different ones, or for none.
        """
        there, places = rows >= 0, rows.clone()
        wanted, places[there] = rows[there].unique(return_inverse=True)
        ends = torch.tensor(self.counts, device=rows.device).cumsum(0)
        asked = torch.bincount(torch.bucketize(wanted, ends, right=True), minlength=len(ends)).tolist()
        given = [every[self.ranks.rank] for every in self.ranks.exchange(asked)]
        own = self.ranks.move(wanted, asked, given) - self.start
        return self.ranks.move(values[own], given, asked), places

    def best(self, values: Tensor, floor: float | Tensor = 0.0) -> tuple[Tensor, Tensor]:
        """The largest of values (1, m) over all rows and the lowest row (0-dim) that is tied with it."""
        best = self.ranks.largest(values.amax())
        tied = values[0] >= best - (TIE * best.abs() + floor)
        first = torch.where(tied.any(), self.start + tied.byte().argmax(), self.n)
        return best, self.ranks.gather(first).amin()

    def top(self, values: Tensor, block: int, floor: Tensor | float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """`top_block` over the values (1, m) of all ranks: the rows (1, B) in it, and the bound on the rest.

        Rows of -inf are left out.
        """
        rows, _, outside, first = self.leaders(values, block, floor)
        return rows, outside, first

    def leaders(
        self, values: Tensor, block: int, floor: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`top`, and after the rows (1, B) their values (1, B) float64.

        Every rank offers its own block and a bound on its other rows.
        """
        at, outside, first = top_block(values, block, floor)
        offer = torch.full((block, 2), -torch.inf, dtype=torch.float64, device=values.device)
        offer[: at.shape[1], 0] = pick(values, at)[0].double()
        offer[: at.shape[1], 1] = (self.start + at[0]).double()
        rest = torch.stack([outside[0], (self.start + first[0]).double()])
        offers = self.ranks.gather(torch.cat([offer, rest[None]]))
        given = offers[:, :-1].flatten(0, 1)
        given = given[given[:, 0] > -torch.inf]
        given = given[given[:, 1].argsort()]  # by row, so that ties at the edge go to the lowest
        rows = given[:, 1].long()
        inside, left, reaches = top_block(given[None, :, 0], block, floor)
        others, other_rows = offers[:, -1, 0], offers[:, -1, 1].long()
        lowest = torch.cat([rows, rows.new_tensor([self.n])])[reaches]
        bounds, lowest = torch.cat([left, others]), torch.cat([lowest, other_rows])
        best = bounds.amax()
        slack = 4 * (TIE * best.abs() + torch.as_tensor(floor, device=values.device).max())
        reaching = torch.where(bounds >= best - slack.nan_to_num(posinf=0.0), lowest, self.n)
        return rows[inside[0]][None], given[inside[0], 0][None], best[None], reaching.amin()[None]
