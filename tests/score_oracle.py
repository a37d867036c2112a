"""Float64 oracles of the score methods and of contextual diversity: plain numpy, from the definitions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.oracle import Problem

LEAST = 1e-12
SAME_ROW = 1e-12


def softmax(logits: np.ndarray) -> np.ndarray:
    """Float64 probabilities of every row."""
    e = np.exp(np.asarray(logits, np.float64) - np.max(logits, 1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def ordered(
    scores: np.ndarray, hard: str = "high", keep: str = "hard", rows: Iterable[int] | None = None
) -> list[int]:
    """All rows of a ground set in the order in which they are picked, ties by row, one by one."""
    rows = list(range(len(scores)) if rows is None else rows)
    sign = {"high": -1, "low": 1}[hard] * (-1 if keep == "easy" else 1)
    ranks = sorted(rows, key=lambda row: (sign * scores[row], row))
    if keep != "middle":
        return ranks
    centre = (len(ranks) - 1) / 2
    places = sorted(range(len(ranks)), key=lambda place: (abs(place - centre), place))
    return [ranks[place] for place in places]


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """KL(p || q) of clamped probabilities, in nats."""
    p, q = np.maximum(np.asarray(p, np.float64), LEAST), np.maximum(np.asarray(q, np.float64), LEAST)
    return float((p * np.log(p / q)).sum())


def symmetric_divergences(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,) half of KL both ways from every row to one other; below SAME_ROW it counts as 0."""
    p, q = np.maximum(np.asarray(rows, np.float64), LEAST), np.maximum(np.asarray(other, np.float64), LEAST)
    half = ((p - q) * (np.log(p) - np.log(q))).sum(1) / 2
    return np.where(half < SAME_ROW, 0, half)


class Diversity(Problem):
    """Farthest-first under the symmetric divergence."""

    def __init__(
        self, p: np.ndarray, preselected: Iterable[int] = (), external: np.ndarray | None = None
    ) -> None:
        super().__init__(len(p))
        self.p, self.nearest = p, np.full(len(p), np.inf)
        for row in preselected:
            self.add(int(row))
        for other in [] if external is None else external:
            self.nearest = np.minimum(self.nearest, symmetric_divergences(p, other))

    def raw_values(self) -> np.ndarray:
        return self.nearest

    def fold(self, row: int) -> None:
        self.nearest = np.minimum(self.nearest, symmetric_divergences(self.p, self.p[row]))


def neighbours(features: np.ndarray, groups: Iterable[np.ndarray], count: int) -> np.ndarray:
    """(n, count) nearest rows of the same group, by differences, ties to the lowest row; -1 for none."""
    x = np.asarray(features, np.float64)
    out = np.full((len(x), count), -1)
    for group in groups:
        for row in group:
            squared = ((x[group] - x[row]) ** 2).sum(1)
            squared[group == row] = np.inf
            order = np.argsort(squared, kind="stable")[: min(count, len(group) - 1)]
            out[row, : len(order)] = group[order]
    return out


def cal_scores(p: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Mean of KL(p_j || p_i) over the neighbours j of every row i."""
    return np.array(
        [
            np.mean([divergence(p[j], p[i]) for j in row if j >= 0]) if (row >= 0).any() else 0.0
            for i, row in enumerate(nearest)
        ]
    )


def groups_of(labels: np.ndarray) -> list[np.ndarray]:
    """Rows of every class, in ascending order of label."""
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
