"""The experiment of the demonstration: data, selections, accuracies, and what can be read from them."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastcore

METHODS: dict[str, dict[str, Any]] = {
    "k_center": {"start": "mean"},
    "herding": {},
    "facility_location": {},
    "graph_cut": {},
    "log_det": {},
}
"""The methods that are shown, with the options that differ from the defaults."""


@dataclass(frozen=True)
class Size:
    """How much is measured: coreset sizes, draws of uniform, repeats of each timing."""

    budgets: tuple[int, ...]
    draws: int
    repeats: int


FULL = Size(budgets=(10, 20, 50, 100, 200), draws=20, repeats=3)
QUICK = Size(budgets=(10, 50), draws=5, repeats=1)


@dataclass(frozen=True)
class Digits:
    """Images as rows of 64 pixels in [0, 1], and the digit each one shows."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """Accuracy on the test rows, in percent, of a classifier that knows only the k chosen rows.

    For uniform it is the mean over several draws and ``deviation`` their standard deviation; the other
    methods give one answer. ``seconds`` is the median time of one selection.
    """

    method: str
    k: int
    accuracy: float
    deviation: float
    seconds: float

    @staticmethod
    def csv(results: Sequence[Result]) -> str:
        """The results as CSV text with a header line."""
        text = io.StringIO()
        writer = csv.DictWriter(
            text, [field.name for field in dataclasses.fields(Result)], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(dataclasses.asdict(result) for result in results)
        return text.getvalue()


def load_digits() -> Digits:
    """scikit-learn's 1 797 digits, 60 % to choose from and 40 % to test on, always the same split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        (pixels / 16).astype(np.float32), labels, test_size=0.4, random_state=0, stratify=labels
    )
    return Digits(train, train_labels, test, test_labels)


def select(digits: Digits, method: str, k: int, seed: int = 0) -> NDArray[np.int64]:
    """(k,) rows of the training digits in pick order, shared evenly between the classes."""
    options = METHODS.get(method, {})
    return np.asarray(
        fastcore.select(
            method, digits.train, k, labels=digits.train_labels, seed=seed, progress=False, **options
        )
    )


def measure(digits: Digits, size: Size) -> tuple[list[Result], float]:
    """Results of every method and size, uniform first, and the accuracy with all training rows."""
    select(
        digits, "facility_location", size.budgets[0]
    )  # builds the native library where that is still to be done
    results = []
    for k in size.budgets:
        draws = [_timed(digits, "uniform", k, seed) for seed in range(size.draws)]
        scores = [_accuracy(digits, rows) for rows, _ in draws]
        seconds = statistics.median(seconds for _, seconds in draws)
        results.append(Result("uniform", k, statistics.mean(scores), statistics.stdev(scores), seconds))
    for method in METHODS:
        for k in size.budgets:
            runs = [_timed(digits, method, k) for _ in range(size.repeats)]
            seconds = statistics.median(seconds for _, seconds in runs)
            results.append(Result(method, k, _accuracy(digits, runs[0][0]), 0.0, seconds))
    return results, _accuracy(digits, np.arange(len(digits.train)))


def reading(results: Sequence[Result], everything: float, rows: int) -> tuple[str, str]:
    """Two sentences on the results: the largest lead over uniform, and the standings at the largest k."""
    uniform = {result.k: result for result in results if result.method == "uniform"}
    chosen = [result for result in results if result.method != "uniform"]
    best = max(chosen, key=lambda result: result.accuracy - uniform[result.k].accuracy)
    beside = uniform[best.k]
    needed = _rows_needed(sorted(uniform.values(), key=lambda result: result.k), best.accuracy)
    first = (
        f"{best.k} rows chosen by {best.method} give {best.accuracy:.1f} %, {best.k} random rows "
        f"{beside.accuracy:.1f} % (± {beside.deviation:.1f}): random choice needs {needed} rows for the same."
    )
    k = max(uniform)
    line, spread = uniform[k].accuracy, uniform[k].deviation
    last = sorted((result for result in chosen if result.k == k), key=lambda result: -result.accuracy)
    above = ", ".join(result.method for result in last if result.accuracy > line + spread)
    below = ", ".join(result.method for result in last if result.accuracy < line - spread)
    second = (
        f"At k = {k}, {100 * k / rows:.0f} % of the rows, {last[0].method} is at {last[0].accuracy:.1f} % "
        f"where all rows give {everything:.1f} %; clearly above random: {above or 'none'}; "
        f"clearly below: {below or 'none'}."
    )
    return first, second


def _rows_needed(uniform: Sequence[Result], accuracy: float) -> str:
    """How many random rows reach an accuracy, interpolated between the measured sizes."""
    for left, right in itertools.pairwise(uniform):
        if left.accuracy <= accuracy <= right.accuracy:
            share = (accuracy - left.accuracy) / max(right.accuracy - left.accuracy, 1e-9)
            return f"about {round(left.k * (right.k / left.k) ** share)}"
    return f"more than {uniform[-1].k}" if accuracy > uniform[-1].accuracy else f"fewer than {uniform[0].k}"


def _timed(digits: Digits, method: str, k: int, seed: int = 0) -> tuple[NDArray[np.int64], float]:
    start = time.perf_counter()
    rows = select(digits, method, k, seed)
    return rows, time.perf_counter() - start


def _accuracy(digits: Digits, rows: NDArray[np.int64]) -> float:
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(n_neighbors=1).fit(digits.train[rows], digits.train_labels[rows])
    return 100 * float(classifier.score(digits.test, digits.test_labels))
