"""A line on standard error for each run that is finished, whoever made it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fastcore.train.experiment.plan import Run
from fastcore.train.experiment.results import Results

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Reporter:
    """Watches the results of an experiment.

    Args:
        runs: what there is to do, by key.
        results: where finished runs are.
        processes: how many work on them, for the time left.
        show: False to say nothing.
    """

    def __init__(self, runs: Mapping[str, Run], results: Results, processes: int, show: bool = True) -> None:
        self._runs, self._results, self._processes, self._show = runs, results, processes, show
        self._told = set(self.done())
        # What selects is worth a word where it is not the same for all.
        selectors = {(run.network, run.selector) for run in runs.values() if run.selector}
        self._compared = len(selectors) > len({network for network, _ in selectors})
        if show and self._told:
            print(f"{len(self._told)} of {len(runs)} runs are done already", file=sys.stderr, flush=True)

    def done(self) -> list[str]:
        """Keys of the runs that are finished."""
        rows = self._results.rows()
        return [key for key in self._runs if key in rows]

    def update(self) -> None:
        """Tells of the runs that were finished since the last call."""
        rows = self._results.rows()
        for key in rows:
            if key in self._runs and key not in self._told:
                self._told.add(key)
                if self._show:
                    print(self._line(self._runs[key], rows[key]), file=sys.stderr, flush=True)

    def _line(self, run: Run, row: Mapping[str, Any]) -> str:
        count = f"{len(self._told):{len(str(len(self._runs)))}}/{len(self._runs)}"
        accuracy = f"{100 * row['accuracy_last']:.2f} %"
        name = str(run) if self._compared else run.short
        parts = [f"{count}  {name}: {accuracy}", duration(_seconds(row)), self._left()]
        return ", ".join(part for part in parts if part)

    def _left(self) -> str:
        left = [run for key, run in self._runs.items() if key not in self._told]
        done = [self._results.rows()[key] for key in self._told]
        return f"about {duration(time_left(left, done) / self._processes)} left" if left else ""


def time_left(left: Sequence[Run], done: Sequence[Mapping[str, Any]]) -> float:
    """Seconds that some runs will take one after the other, by those that are done.

    Training takes time in proportion to the rows, the rest as long for every fraction. Networks that are yet to
    be trained to select are left out: they come early.
    """
    total = 0.0
    for run in left:
        like = [row for row in done if row["network"] == run.network] or done
        rate = sum(row["training_seconds"] for row in like) / sum(row["fraction"] for row in like)
        rest = sum(row["evaluation_seconds"] + row["selection_seconds"] for row in like) / len(like)
        total += rate * run.fraction + rest
    return total


def duration(seconds: float) -> str:
    """A time in words, in its two largest units: 3 700 seconds are "1 h 2 min"."""
    whole = round(seconds)
    if whole < 1:
        return f"{seconds:.1f} s"
    for (size, unit), (small, minor) in zip(_UNITS, _UNITS[1:]):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {minor}"
    return f"{whole} s"


def _seconds(row: Mapping[str, Any]) -> float:
    """What a run took, without the networks that select, which it shares with others."""
    parts = ("selection_seconds", "training_seconds", "evaluation_seconds")
    return float(sum(row[name] for name in parts))
