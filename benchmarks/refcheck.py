"""Are the picks right? Gains from the definitions, in float64, sharing no code with fastcore or its peers.

A float32 peer that meets two rows 1e-7 apart may take the other one, and every later pick then differs for
a good reason. So two lists of picks are compared at the first place where they differ, by what either pick
is worth there, and fastcore's own picks are judged at further steps against the best row of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

TOLERANCE = 1e-6  # relative to the best gain
CLOSE = 64  # candidates that are scored again exactly where all gains are found with float32 products
TILE = 1024

Rows = Sequence[int] | np.ndarray


def unit_rows(features: torch.Tensor) -> torch.Tensor:
    """Rows scaled to length 1, float64; a zero row stays zero."""
    rows = features.double()
    lengths = rows.square().sum(1, keepdim=True).sqrt()
    return rows / lengths.clamp_min(torch.finfo(torch.float64).tiny)


class Objective:
    """What every row is worth next, given the picks so far."""

    def exact(self, prefix: Rows, rows: Rows) -> np.ndarray:
        """Gains of `rows` after the picks `prefix`, float64."""
        raise NotImplementedError

    def estimates(self, prefix: Rows) -> np.ndarray:
        """Gains of all rows, near enough that the best is among the `CLOSE` largest."""
        raise NotImplementedError

    def shortfalls(self, prefix: Rows, rows: Rows) -> np.ndarray:
        """How far the gains of `rows` are below the best gain, relative to the best."""
        estimates = self.estimates(prefix)
        estimates[list(prefix)] = -np.inf
        leaders = np.argsort(-estimates, kind="stable")[: min(CLOSE, len(estimates) - len(prefix))]
        gains = self.exact(prefix, [*rows, *leaders])
        best = gains.max()
        return np.asarray((best - gains[: len(rows)]) / max(abs(best), np.finfo(np.float64).tiny))


class KCenter(Objective):
    """Euclidean distance to the nearest pick."""

    def __init__(self, features: torch.Tensor) -> None:
        self.features = features.double() - features.double().mean(0)

    def estimates(self, prefix: Rows) -> np.ndarray:
        if not len(prefix):
            return np.zeros(len(self.features))
        picked = self.features[list(prefix)]
        norms = self.features.square().sum(1)
        nearest = torch.full_like(norms, torch.inf)
        for begin in range(0, len(picked), TILE):
            tile = picked[begin : begin + TILE]
            squared = tile.square().sum(1) + norms[:, None] - 2 * (self.features @ tile.T)
            nearest = torch.minimum(nearest, squared.amin(1))
        return nearest.clamp_min_(0).sqrt_().numpy()

    def exact(self, prefix: Rows, rows: Rows) -> np.ndarray:
        if not len(prefix):
            return np.zeros(len(rows))  # the first pick is given, not chosen
        # From differences: the product form leaves 1e-8 where two rows are equal.
        left, right = self.features[list(rows)], self.features[list(prefix)]
        distances = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.amin(1).numpy()


class GraphCut(Objective):
    """Total similarity to all rows less 2 lam times that to the picks, s = (1 + cos) / 2."""

    def __init__(self, features: torch.Tensor, lam: float = 1.0) -> None:
        self.rows, self.lam = unit_rows(features), lam
        self.totals = 0.5 * len(self.rows) + 0.5 * (self.rows @ self.rows.sum(0))
        self.diagonal = 0.5 + 0.5 * self.rows.square().sum(1)

    def estimates(self, prefix: Rows) -> np.ndarray:
        to_picks = 0.5 * len(prefix) + 0.5 * (self.rows @ self.rows[list(prefix)].sum(0))
        return (self.totals - 2 * self.lam * to_picks - self.lam * self.diagonal).numpy()

    def exact(self, prefix: Rows, rows: Rows) -> np.ndarray:
        return self.estimates(prefix)[list(rows)]


class Herding(Objective):
    """Minus the squared distance of a row to (t + 1) mean - sum of the picks."""

    def __init__(self, features: torch.Tensor) -> None:
        self.features = features.double()
        self.mean = self.features.mean(0)

    def estimates(self, prefix: Rows) -> np.ndarray:
        wanted = (len(prefix) + 1) * self.mean - self.features[list(prefix)].sum(0)
        return -(self.features - wanted).square().sum(1).numpy()

    def exact(self, prefix: Rows, rows: Rows) -> np.ndarray:
        return self.estimates(prefix)[list(rows)]


class FacilityLocation(Objective):
    """Sum over all rows of how much a candidate raises the largest similarity to a pick.

    s is `similarity` (n, n) as given, or (1 + cos) / 2 of `features`.
    """

    def __init__(self, features: torch.Tensor | None = None, similarity: torch.Tensor | None = None) -> None:
        self.similarity = similarity
        if features is not None:
            self.unit = unit_rows(features)
            self.unit_float = self.unit.float()

    def columns(self, rows: Rows) -> torch.Tensor:
        """Similarities of every row to the rows named, float64: (n, len(rows))."""
        if self.similarity is not None:
            return self.similarity[:, list(rows)].double()
        return 0.5 + 0.5 * (self.unit @ self.unit[list(rows)].T)

    def coverage(self, prefix: Rows) -> torch.Tensor:
        size = len(self.similarity if self.similarity is not None else self.unit)
        covered = torch.zeros(size, dtype=torch.float64)
        for begin in range(0, len(prefix), TILE):
            covered = torch.maximum(covered, self.columns(prefix[begin : begin + TILE]).amax(1))
        return covered

    def estimates(self, prefix: Rows) -> np.ndarray:
        covered = self.coverage(prefix).float()[:, None]
        gains = []
        for begin in range(0, len(covered), TILE):
            if self.similarity is not None:
                tile = self.similarity[:, begin : begin + TILE]
            else:
                tile = (self.unit_float @ self.unit_float[begin : begin + TILE].T).mul_(0.5).add_(0.5)
            gains.append((tile - covered).clamp_min_(0).sum(0, dtype=torch.float64))
        return torch.cat(gains).numpy()

    def exact(self, prefix: Rows, rows: Rows) -> np.ndarray:
        return (self.columns(rows) - self.coverage(prefix)[:, None]).clamp_min_(0).sum(0).numpy()


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check: `word` for the table, `step` of the first difference, shortfalls there."""

    word: str
    step: int | None = None
    ours_short: float = 0.0
    theirs_short: float = 0.0


def check_list(picks: np.ndarray, rows: int, k: int) -> None:
    """Raise where the picks are not k different rows."""
    different = len(np.unique(picks))
    if len(picks) != k or different != k or picks.min() < 0 or picks.max() >= rows:
        raise ValueError(f"not {k} different rows of {rows}: {len(picks)} picks, {different} different")


def compare(objective: Objective, ours: np.ndarray, theirs: np.ndarray) -> Verdict:
    """`same`, `tie at t` (both picks are worth the best within the tolerance) or `differs at t`."""
    different = np.flatnonzero(ours != theirs)
    if not len(different):
        return Verdict("same")
    step = int(different[0])
    if step == 0 and isinstance(objective, KCenter):
        return Verdict("differs at 0", 0, np.inf, np.inf)  # not the same start: two different problems
    short = objective.shortfalls(ours[:step], [int(ours[step]), int(theirs[step])])
    word = "tie" if short.max() <= TOLERANCE else "differs"
    return Verdict(f"{word} at {step}", step, float(short[0]), float(short[1]))


def judge(objective: Objective, picks: np.ndarray, steps: int) -> Verdict:
    """One list of picks against the best row, given its own prefix, at `steps` steps spread over it."""
    worst, where = 0.0, 0
    for step in np.unique(np.linspace(0, len(picks) - 1, steps).astype(int)):
        short = float(objective.shortfalls(picks[:step], [int(picks[step])])[0])
        if short > worst:
            worst, where = short, int(step)
    word = "right" if worst <= TOLERANCE else f"wrong at {where}"
    return Verdict(word, where, ours_short=worst)
