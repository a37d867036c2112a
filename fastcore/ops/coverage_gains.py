"""Facility-location gains of many candidates at once, from above."""

from __future__ import annotations

from torch import Tensor

from fastcore.ops import implementation

EXCESS = 2.0**-18
"""What a native gain may be above the exact one, as a share of it and of the coverage it is taken from."""


def coverage_gains(similarity: Tensor, coverage: Tensor) -> Tensor:
    """What each candidate would add to the coverage: sum over rows of max(0, similarity - coverage).

    similarity (sets, block, rows) float32, one candidate a row; coverage (sets, rows) float64, +inf for padding.
    Returns (sets, block) float64, at least the exact gains but for the rounding of a sum in float64: the terms
    are added in float32 where that is faster, and what that may leave out is added. One pass over the
    similarity. For a similarity that is off by at most an error, take the error off the coverage.
    """
    return implementation("coverage_gains", coverage_gains_reference, similarity)(similarity, coverage)


def coverage_gains_reference(similarity: Tensor, coverage: Tensor) -> Tensor:
    return (similarity.double() - coverage.unsqueeze(1)).clamp(min=0).sum(-1)
