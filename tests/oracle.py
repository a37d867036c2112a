"""Float64 oracles of the greedy methods: plain numpy, from the definitions, sharing no code with fastcore.

A problem holds the state of one greedy run over one ground set. `values()` is what every row is worth now, in
the units that decide (squared distance, gain, pivot, score), -inf once taken; `gain(row, value)` is what the
library reports when it picks a row of that value; `add(row)` takes a row. A step costs O(n) or O(n^2).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

TIE = 1e-12


# ---- similarities -------------------------------------------------------------------------------


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared distances (len(left), len(right)): from differences, so that equal rows are exactly 0 apart.

    Large data goes through centred products, where what is below their rounding counts as 0.
    """
    if len(left) > 600:
        centre = np.asarray(right, np.float64).mean(0)
        left, right = np.asarray(left, np.float64) - centre, np.asarray(right, np.float64) - centre
        sums = (left**2).sum(1)[:, None] + (right**2).sum(1)
        squared = sums - 2 * (left @ right.T)
        return np.where(squared < 1e-13 * sums, 0, squared)
    out = np.empty((len(left), len(right)))
    for i, row in enumerate(np.asarray(left, np.float64)):
        difference = np.asarray(right, np.float64) - row
        out[i] = np.einsum("jk,jk->j", difference, difference)
    return out


def inner_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Inner products; small data is summed in one order, so that equal rows give equal entries."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if len(left) > 600:
        return left @ right.T
    return np.array([np.einsum("jk,k->j", right, row) for row in left]).reshape(len(left), len(right))


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a zero row stays zero, so that its cosine with every row is 0."""
    features = np.asarray(features, np.float64)
    length = np.sqrt((features * features).sum(1, keepdims=True))
    return np.divide(features, length, out=np.zeros_like(features), where=length > 0)


def default_gamma(features: np.ndarray) -> float:
    """1 / mean squared distance over all n^2 pairs; 1 where all rows are equal."""
    features = np.asarray(features, np.float64)
    mean_square = 2 * ((features - features.mean(0)) ** 2).sum(1).mean()
    return 1 / mean_square if mean_square > 0 else 1.0


def euclidean_shift(features: np.ndarray) -> float:
    """c = 2 max ||x - mean||, at least the largest distance between two rows."""
    features = np.asarray(features, np.float64)
    return 2 * float(np.sqrt(((features - features.mean(0)) ** 2).sum(1).max()))


def similarity(
    features: np.ndarray, metric: str, other: np.ndarray | None = None, gamma: float | None = None
) -> np.ndarray:
    """s[i, j] of row i of `features` with row j of `other` (itself); parameters come from `features`."""
    features = np.asarray(features, np.float64)
    other = features if other is None else np.asarray(other, np.float64)
    if metric == "cosine":
        return 0.5 + 0.5 * inner_products(unit_rows(features), unit_rows(other))
    if metric == "dot":
        return inner_products(features, other)
    if metric == "euclidean":
        return euclidean_shift(features) - np.sqrt(squared_distances(features, other))
    if metric == "rbf":
        gamma = default_gamma(features) if gamma is None else gamma
        return np.exp(-gamma * squared_distances(features, other))
    raise ValueError(metric)


# ---- values of whole subsets --------------------------------------------------------------------


def facility_location_value(s: np.ndarray, rows: Sequence[int]) -> float:
    """Sum over i of max(0, max over picks of s_ij)."""
    return float(np.maximum(s[:, list(rows)].max(1), 0).sum()) if len(rows) else 0.0


def graph_cut_value(s: np.ndarray, rows: Sequence[int], lam: float) -> float:
    """Sum of the picks' columns minus lam times the sum of the picks' own block, with its diagonal."""
    rows = list(rows)
    return float(s[:, rows].sum() - lam * s[np.ix_(rows, rows)].sum())


def log_det_value(s: np.ndarray, rows: Sequence[int], ridge: float) -> float:
    """log det of the picks' block plus ridge on its diagonal."""
    rows = list(rows)
    return float(np.linalg.slogdet(s[np.ix_(rows, rows)] + ridge * np.eye(len(rows)))[1]) if rows else 0.0


def herding_error(features: np.ndarray, rows: Sequence[int]) -> float:
    """Distance between the mean of the features and the mean of the picks."""
    features = np.asarray(features, np.float64)
    return float(np.linalg.norm(features.mean(0) - features[list(rows)].mean(0)))


def radius(distances: np.ndarray, rows: Sequence[int]) -> float:
    """Largest distance of a row to its nearest pick."""
    return float(distances[:, list(rows)].min(1).max())


def best_subset(value: Callable[[tuple[int, ...]], float], n: int, k: int) -> tuple[float, tuple[int, ...]]:
    """The largest value over all subsets of k of n rows, and the first subset that has it."""
    best = max(itertools.combinations(range(n), k), key=value)
    return value(best), best


class Problem:
    """State of one greedy run; see the head of the file.

    Attributes:
        floor: what values that should be 0 may differ by, in the units of the values.
        size: the size of the terms of which a gain is made: gains are right to 1e-12 of it when they cancel.
    """

    n: int
    floor: float = 0.0
    size: float = 0.0

    def __init__(self, n: int) -> None:
        self.n = n
        self.free = np.ones(n, bool)

    def raw_values(self) -> np.ndarray:
        raise NotImplementedError

    def fold(self, row: int) -> None:
        raise NotImplementedError

    def gain(self, row: int, value: float) -> float:
        return value

    def values(self) -> np.ndarray:
        return np.where(self.free, self.raw_values(), -np.inf)

    def add(self, row: int) -> None:
        assert self.free[row], f"row {row} was already taken"
        self.fold(row)
        self.free[row] = False

    def tolerance(self, best: float) -> float:
        return TIE * abs(best) + self.floor

    def choose(self) -> tuple[int, float]:
        """The lowest row among those tied with the best, and its value."""
        values = self.values()
        best = float(values.max())
        bar = best - self.tolerance(best) if np.isfinite(best) else best
        row = int(np.flatnonzero(values >= bar)[0])
        return row, float(values[row])


class KCenter(Problem):
    """Farthest-first on squared distances, on 1 - cos, or on given distances, entry [i, j] from i to pick j.

    A cosine within 1e-13 of 1 counts as 1: the rows are multiples of each other.
    """

    def __init__(
        self,
        features: np.ndarray,
        metric: str = "euclidean",
        preselected: Iterable[int] = (),
        external: np.ndarray | None = None,
    ) -> None:
        super().__init__(len(features))
        self.metric = metric
        self.points = unit_rows(features) if metric == "cosine" else np.asarray(features, np.float64)
        self.nearest = np.full(self.n, np.inf)
        self.owner = np.full(self.n, -1)
        for row in preselected:
            self.add(int(row))
        for point in [] if external is None else external:
            point = unit_rows(point[None])[0] if metric == "cosine" else point.astype(np.float64)
            self.nearest = np.minimum(self.nearest, self.distances_to(point))

    def distances_to(self, point: np.ndarray) -> np.ndarray:
        if self.metric == "cosine":
            distances = 1 - np.einsum("jk,k->j", self.points, point)
            return np.where(distances < 1e-13, 0, distances)
        difference = self.points - point
        return np.einsum("jk,jk->j", difference, difference)

    def raw_values(self) -> np.ndarray:
        return self.nearest

    def fold(self, row: int) -> None:
        distances = (
            self.points[:, row] if self.metric == "precomputed" else self.distances_to(self.points[row])
        )
        self.owner[distances < self.nearest] = row
        self.nearest = np.minimum(self.nearest, distances)

    def gain(self, row: int, value: float) -> float:
        return float(np.sqrt(value)) if self.metric == "euclidean" else value


class FacilityLocation(Problem):
    """Gain of j: sum over i of max(0, s_ij - coverage_i); coverage starts at 0."""

    def __init__(
        self, s: np.ndarray, preselected: Iterable[int] = (), external: np.ndarray | None = None
    ) -> None:
        super().__init__(s.shape[1])
        self.s = np.ascontiguousarray(s.T, np.float64)  # row j: what j offers to every i
        self.coverage = np.zeros(s.shape[0])
        self.size = float(np.abs(np.diagonal(s)).max())
        self.floor = 1e-14 * self.size
        for row in preselected:
            self.add(int(row))
        if external is not None and external.shape[1]:
            self.coverage = np.maximum(self.coverage, external.max(1))

    def raw_values(self) -> np.ndarray:
        out = np.empty(self.n)
        for start in range(0, self.n, 512):
            out[start : start + 512] = np.maximum(self.s[start : start + 512] - self.coverage, 0).sum(1)
        return out

    def fold(self, row: int) -> None:
        self.coverage = np.maximum(self.coverage, self.s[row])


class GraphCut(Problem):
    """Gain of j: total_j - lam * (sum over picks i of s_ij + s_ji) - lam * s_jj."""

    def __init__(
        self,
        s: np.ndarray,
        lam: float = 1.0,
        preselected: Iterable[int] = (),
        external: np.ndarray | None = None,
    ) -> None:
        super().__init__(s.shape[1])
        self.s, self.lam = np.asarray(s, np.float64), lam
        totals = self.s.sum(0)
        self.size = float(np.abs(totals).max())
        self.floor = 1e-14 * self.size
        self.gains = totals - lam * np.diagonal(self.s)
        for row in preselected:
            self.add(int(row))
        if external is not None:
            self.gains = self.gains - 2 * lam * external.sum(1)

    def raw_values(self) -> np.ndarray:
        return self.gains

    def fold(self, row: int) -> None:
        self.gains = self.gains - self.lam * (self.s[row] + self.s[:, row])


class LogDet(Problem):
    """Pivots of the Cholesky factor of s + ridge I, the picks first; the gain is the log of the pivot."""

    def __init__(
        self,
        s: np.ndarray,
        ridge: float | None = None,
        preselected: Iterable[int] = (),
        external: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        super().__init__(len(s))
        self.s = np.asarray(s, np.float64)
        diagonal = np.diagonal(self.s)
        self.ridge = (1e-3 * float(diagonal.mean()) or 1e-3) if ridge is None else ridge
        self.floor = 1e-14 * float(np.abs(diagonal).max())
        self.size = 1.0  # gains are logarithms
        self.pivots = diagonal + self.ridge
        self.factor = np.zeros((0, self.n))
        if external is not None:  # (s of rows with the externals, s among the externals)
            cross, own = external
            root = np.linalg.cholesky(own + self.ridge * np.eye(len(own)))
            self.factor = np.linalg.solve(root, cross.T)
            self.pivots = self.pivots - (self.factor**2).sum(0)
        for row in preselected:
            self.add(int(row))

    def raw_values(self) -> np.ndarray:
        return self.pivots

    def fold(self, row: int) -> None:
        column = self.s[:, row] - self.factor[:, row] @ self.factor
        column[row] += self.ridge
        column = column / np.sqrt(self.pivots[row])
        self.factor = np.vstack([self.factor, column])
        self.pivots = self.pivots - column**2

    def gain(self, row: int, value: float) -> float:
        return float(np.log(value)) if value > 0 else -np.inf


class Herding(Problem):
    """Score 2 <h, w> - ||h||^2, w = (t + 1) mean - sum of the t picks: the largest is the smallest ||w - h||.

    The gain is the distance ||w - h|| / (t + 1) of the mean of the picks from the mean, after the pick.
    """

    def __init__(
        self, features: np.ndarray, preselected: Iterable[int] = (), external: np.ndarray | None = None
    ) -> None:
        super().__init__(len(features))
        self.features = np.asarray(features, np.float64)
        self.norms = (self.features**2).sum(1)
        self.floor = 1e-14 * float(self.norms.max())
        self.size = float(np.sqrt(self.norms.max()))
        self.mean = self.features.mean(0)
        self.residual = self.mean.copy()
        self.count = 0
        if external is not None:
            self.count = len(external)
            self.residual = self.residual + (self.mean - np.asarray(external, np.float64)).sum(0)
        for row in preselected:
            self.add(int(row))

    def raw_values(self) -> np.ndarray:
        return 2 * (self.features @ self.residual) - self.norms

    def fold(self, row: int) -> None:
        self.residual = self.residual + self.mean - self.features[row]
        self.count += 1

    def gain(self, row: int, value: float) -> float:
        return float(np.linalg.norm(self.residual - self.features[row])) / (self.count + 1)


def greedy(problem: Problem, k: int, first: int | None = None) -> tuple[list[int], list[float]]:
    """Naive greedy: k picks (the first one given, where `first` is), and the gain of each."""
    rows, gains = [], []
    for step in range(min(k, int(problem.free.sum()))):
        row, value = problem.choose()
        if step == 0 and first is not None:
            row, value = first, float(problem.values()[first])
        rows.append(row)
        gains.append(problem.gain(row, value))
        problem.add(row)
    return rows, gains
