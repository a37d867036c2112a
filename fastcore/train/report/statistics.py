"""Means over seeds, and what chance explains of a difference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Of differences that are nothing but chance, such a share lies beyond the limit.
LEVEL = 0.05
_NOISE = 1e-9  # in %: less than that is rounding


@dataclass(frozen=True)
class Sample:
    """Accuracies of one method at one fraction, in %, by seed."""

    values: Mapping[int, float]

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over the seeds, in %."""
        return float(np.mean(list(self.values.values())))

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds (divided by n − 1), in %; None for one seed."""
        return float(np.std(list(self.values.values()), ddof=1)) if self.n > 1 else None


@dataclass(frozen=True)
class Difference:
    """A difference of two means, in points of accuracy.

    Attributes:
        mean: the difference.
        error: its standard error; None where there are too few seeds.
        limit: so many standard errors are put down to chance.
    """

    mean: float
    error: float | None = None
    limit: float = 2.0

    @property
    def sign(self) -> int | None:
        """1 or -1 where chance does not explain it, 0 where it may; None where that cannot be said."""
        if self.error is None:
            return None
        if abs(self.mean) <= max(self.limit * self.error, _NOISE):
            return 0
        return 1 if self.mean > 0 else -1


def difference(ours: Sample, other: Sample) -> Difference:
    """By how much ``ours`` lies above ``other``, with the limit of Student's t at the 5 % level.

    Paired over the seeds that both have; where they share fewer than two, from the two means, whose errors
    are taken as independent (Welch).
    """
    shared = sorted(ours.values.keys() & other.values.keys())
    if len(shared) > 1:
        pairs = np.array([ours.values[seed] - other.values[seed] for seed in shared])
        error = float(pairs.std(ddof=1)) / math.sqrt(len(shared))
        return Difference(float(pairs.mean()), error, _limit(len(shared) - 1))
    if ours.std is None or other.std is None:
        return Difference(ours.mean - other.mean)
    a, b = ours.std**2 / ours.n, other.std**2 / other.n
    freedom = (a + b) ** 2 / (a**2 / (ours.n - 1) + b**2 / (other.n - 1)) if a + b else ours.n + other.n - 2
    return Difference(ours.mean - other.mean, math.sqrt(a + b), _limit(freedom))


def _limit(freedom: float) -> float:
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise ImportError('reports need scipy: pip install "fastcore-coreset[train]"') from error
    return float(stdtrit(freedom, 1 - LEVEL / 2))
