"""Reports of experiments: tables, pictures, and the numbers of the DeepCore paper beside ours."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastcore import checks
from fastcore.train.report import paper
from fastcore.train.report.agreement import agreement
from fastcore.train.report.document import Part, Report
from fastcore.train.report.formats import FORMATS
from fastcore.train.report.paper import TABLES
from fastcore.train.report.pictures import Pictures
from fastcore.train.report.results import read
from fastcore.train.report.tables import FULL, Table, tables

__all__ = ["FORMATS", "TABLES", "Report", "report"]


def report(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    accuracy: str = "last",
    formats: Sequence[str] = FORMATS,
    fraction: float | None = None,
    pictures: bool = True,
    picks: int = 0,
    kinds: Sequence[str] = ("png",),
    splits: Any = None,
    root: str | os.PathLike[str] | None = None,
) -> Report:
    """What came out of experiments: mean ± standard deviation tables, plots, and images that methods picked.

    Written to the folder ``output``, each file whole or not at all, and only once all of them are made: report.md,
    table*.tex and table*.csv as ``formats`` asks, accuracy.png, time.png and contact_sheet.png. The same results
    give the same files. A picture that cannot be made is left out, and the report says why.

    Args:
        sources: experiment folders or results files, one or several.
        output: the folder; None writes nothing.
        accuracy: "last" or "best" epoch; the paper reports the best.
        formats: of "terminal", "markdown", "latex", "csv".
        fraction: for the pictures of time and of images; by default the one that most methods have, near 1 %.
        pictures: whether to make any.
        picks: also a contact sheet of every method, with so many images of each class.
        kinds: of picture files: "png", "svg", "pdf".
        splits: the data set that was selected from, for the contact sheet; None loads it.
        root: folder of the files of the data set, where it is not where the experiment found it.

    Raises OSError where a file cannot be read or written, ValueError where one holds no results or an argument
    is wrong.
    """
    paths = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not paths:
        raise ValueError("sources must name at least one folder or file, got none")
    for name, values, allowed in (("formats", formats, FORMATS), ("kinds", kinds, ("png", "svg", "pdf"))):
        for value in [values] if isinstance(values, str) else values:
            checks.choice(name, value, allowed)
    checks.whole("picks", picks, 0)
    results = read(map(Path, paths))
    both = {name: tables(results, name) for name in ("last", "best")}
    chosen = both[checks.choice("accuracy", accuracy, tuple(both))]
    drawing = Pictures(tuple(kinds), picks, splits, root)
    shown = {(table.dataset, row.method) for table in chosen for row in table.rows if row.method != FULL}
    fractions = [_fraction(table, fraction) for table in chosen]
    if fraction is not None and not any(fractions):
        known = sorted({run.fraction for run in results if not run.whole})
        raise ValueError(f"fraction must be one of {', '.join(map(str, known))}, got {fraction}")
    parts = [
        Part(table, pair, agreement(table), drawing.of(table, at) if pictures else {})
        for table, pair, at in zip(chosen, zip(*both.values()), fractions)
    ]
    made = Report(results, tuple(parts), paper.notes(shown), tuple(formats), tuple(drawing.left_out))
    if output is not None:
        made.write(Path(output))
    return made


def _fraction(table: Table, wanted: float | None) -> float | None:
    """The fraction of a table that pictures show: the one asked for, else that of most methods, near 1 %."""
    held: dict[float, int] = {}
    for row in table.rows:
        for value in {run.fraction for cell in row.cells for run in cell.results if not run.whole}:
            held[value] = held.get(value, 0) + 1
    if wanted is not None:
        return next((value for value in held if math.isclose(value, wanted)), None)
    return max(held, key=lambda value: (held[value], -abs(math.log(value / 0.01)), -value), default=None)
