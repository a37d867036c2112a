"""Facility location on distances of gradients: a few coordinates tell which pairs matter.

Once a row is picked, few candidates come nearer to a row than the pick does. Coordinates in few dimensions give
bounds on distances, with which these pairs are found and nearly all candidates are out of the question.
"""

from __future__ import annotations

from torch import Tensor

from fastcore.greedy.batches import Batch
from fastcore.greedy.gradients import GradientCoverage
from fastcore.ops.facility_location_factored import facility_location_factored
from fastcore.similarity import GradientSimilarity

ENTRY_BYTES = 8
MEASURED = 1 / 64
"""Where more than this fraction of all pairs must be measured, float32 products of all of them take less time."""

FIRST = 32
"""Candidates that may be measured against all rows for the first pick, before it comes to that."""


class ReducedCoverage(GradientCoverage):
    """Coverage under parameter - distance, from bounds in few dimensions; as its base where they are too loose.

    Attributes:
        pairs: measured in float64 so far.
    """

    pairs = 0

    def __init__(self, view: GradientSimilarity, batch: Batch, limit: int) -> None:
        super().__init__(view, batch, 0)
        self._limit, self._loose = limit, False
        reduced = view.reduced
        self._rows = batch.take(reduced.coordinates), batch.take(reduced.left_out)
        self._bounds = reduced.relative, reduced.absolute, self.sets.parameter

    @property
    def sweeps(self) -> bool:  # type: ignore[override]
        """Its greedy does so by itself."""
        return not self._loose

    @staticmethod
    def serves(view: GradientSimilarity) -> bool:
        """Whether it is for such similarities."""
        return view.metric == "euclidean" and view.parameter > 0 and view.reducible

    def keep_lists(self, limit: int) -> None:
        """What the base keeps, once bounds were too loose."""
        if self._loose:
            super().keep_lists(limit)

    def candidates(self, wanted: int) -> int:
        """All rows."""
        return super().candidates(wanted) if self._loose else self.n

    def similarities(self, at: Tensor) -> Tensor:
        """None are made in advance."""
        return super().similarities(at) if self._loose else self.coverage.new_empty(0)

    def keep(self, at: Tensor, similarity: Tensor) -> None:
        """Nothing of a pass that made none."""
        if similarity.numel() > 0:
            super().keep(at, similarity)

    def sweep(self) -> None:
        """Brings the bounds up to date, which every call of the greedy does by itself."""
        if self._loose:
            super().sweep()

    def greedy(
        self, similarity: Tensor, at: Tensor, budgets: Tensor, outside: Tensor, outside_row: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Picks among all rows; fewer than could be where bounds turn out to be too loose."""
        if self._loose:
            return super().greedy(similarity, at, budgets, outside, outside_row, most)
        coverage, bounds = self.coverage.clone(), self.bounds.clone()
        pairs, room = int(self.n * (MEASURED * self.n + FIRST)), self._limit // ENTRY_BYTES
        delta, h = self.sets.factors
        rows, state = (delta, h, *self._rows, self.sets.norms), (coverage, bounds, at, budgets, self.floor)
        picks, gains, counts, done = facility_location_factored(
            *rows, *state, *self._bounds, pairs, room, most
        )
        if not int(done):
            self._loose = True
            self.keep_matrix(self._limit)
            self.keep_lists(self._limit // 2)
        self.pairs += int(counts[:, 2].sum())
        return picks, gains, counts[:, :2], (coverage, bounds)

    def counts(self) -> dict[str, int]:
        """What was made so far, for `info`."""
        return super().counts() | {"refined_pairs": self.pairs}
