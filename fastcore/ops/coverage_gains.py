"""Facility-location gains of many candidates at once."""

from __future__ import annotations

from torch import Tensor

from fastcore.ops import implementation


def coverage_gains(similarity: Tensor, coverage: Tensor, margin: float = 0.0) -> tuple[Tensor, Tensor]:
    """What each candidate would add to the coverage: sum over rows of max(0, similarity - coverage).

    similarity (sets, block, rows) float32, one candidate a row; coverage (sets, rows) float64, +inf for padding.
    Returns gains (sets, block) float64 and active (sets, block) int64, the number of rows with
    similarity > coverage - margin. One pass over the similarity.
    """
    return implementation("coverage_gains", coverage_gains_reference, similarity)(
        similarity, coverage, margin
    )


def coverage_gains_reference(similarity: Tensor, coverage: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    excess = similarity.double() - coverage.unsqueeze(1)
    return excess.clamp(min=0).sum(-1), (excess > -margin).sum(-1)
