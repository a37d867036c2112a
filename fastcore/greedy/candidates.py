"""Which rows a pass of farthest-first traversal picks among."""

from __future__ import annotations

from torch import Tensor

from fastcore.greedy.batches import top_block


class Candidates:
    """The rows of which a pass picks, by upper bounds on their distances."""

    def _total(self, values: Tensor) -> Tensor:
        """A sum over the rows held here, over all rows; they differ where rows are spread over processes."""
        return values

    def _largest(self, values: Tensor) -> Tensor:
        """Likewise the largest value."""
        return values

    def block(self, wanted: int) -> int:
        """Rows to take into one pass."""
        return wanted

    def upper(self) -> Tensor:
        """(G, n) upper bounds on the distances, -inf for closed rows."""
        raise NotImplementedError

    def exact(self, positions: Tensor, sets: slice = slice(None)) -> Tensor:
        """(G, B) float64 distances to the coreset of the rows at positions (G, B) of some sets."""
        raise NotImplementedError

    def _towards_mean(self) -> Tensor:
        """(G, n) the larger, the nearer a row is to the mean; -inf for closed rows."""
        raise NotImplementedError

    def candidates(self, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (G, B) of the block of the next pass, and the bound on the rest: see `top_block`."""
        return top_block(self.upper(), self.block(wanted))

    def rivals(self, bar: float, g: int) -> Tensor:
        """Positions of the rows of set g whose bound reaches `bar`, ascending."""
        return (self.upper()[g] >= bar).nonzero()[:, 0]
