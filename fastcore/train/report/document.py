"""A report: what it says in the terminal, in Markdown, as JSON, and the files that it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcore.files import write_atomic
from fastcore.train import reading
from fastcore.train.config import ExperimentConfig
from fastcore.train.report import formats, grids
from fastcore.train.report.agreement import Agreement
from fastcore.train.report.grids import Grid
from fastcore.train.report.results import Result
from fastcore.train.report.tables import Cell, Row, Table


@dataclass(frozen=True)
class Part:
    """What a report says of one table.

    Attributes:
        table: with the accuracy that was asked for.
        both: the same with the last and with the best accuracy.
        agreement: with the order of the paper, where that can be compared.
        pictures: files by their names.
    """

    table: Table
    both: tuple[Table, Table]
    agreement: Agreement | None
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What came out of experiments.

    Attributes:
        results: the finished runs.
        parts: the tables.
        remarks: by method, where the published code differs from the definition.
        formats: that files are written in.
        left_out: a line for every picture that could not be made.
    """

    results: Sequence[Result]
    parts: tuple[Part, ...]
    remarks: Mapping[str, str]
    formats: tuple[str, ...]
    left_out: tuple[str, ...]

    def files(self) -> dict[str, bytes]:
        """The files of the report by their names."""
        files: dict[str, bytes] = {}
        for part in self.parts:
            for grid in self._grids(part):
                if "latex" in self.formats:
                    files[f"{grid.name}.tex"] = formats.latex(grid).encode()
            if "csv" in self.formats:
                name = grids.accuracy(part.table, {}).name
                files[f"{name}.csv"] = formats.comma_separated(*part.both).encode()
            files.update(part.pictures)
        if "markdown" in self.formats:
            files["report.md"] = self.markdown().encode()
        return files

    def write(self, folder: Path) -> list[Path]:
        """Writes the files to a folder, each whole or not at all; returns their paths. Raises OSError."""
        files = self.files()  # all are made before the first is written
        if not files:
            return []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"cannot make the folder {folder}: {error.strerror}") from error
        for name, content in files.items():
            write_atomic(folder / name, content)
        return [folder / name for name in files]

    def terminal(self, width: int) -> list[Any]:
        """What a rich console of that width prints: the accuracies, and how they stand to the paper's."""
        from rich.markup import escape

        lines: list[Any] = []
        for part in self.parts:
            grid = formats.terminal(grids.accuracy(part.table, self.remarks), width)
            # What was said below a table before is not said again.
            lines += ["", *(line for line in grid if not (isinstance(line, str) and line in lines))]
            if part.agreement is not None:
                lines += map(escape, _summary(part.agreement))
        return lines + [f"[yellow]{escape(line)}[/]" for line in self.left_out]

    def markdown(self) -> str:
        """The whole report as Markdown, with its pictures beside it."""
        names = ", ".join(dict.fromkeys(run.experiment for run in self.results))
        count = f"{len(self.results)} finished run{'s' if len(self.results) > 1 else ''}"
        lines = [
            f"# {formats.plain_markdown(names)}",
            "",
            f"{count}. Cells that were not measured are empty.",
        ]
        for part in self.parts:
            lines += ["", f"## {formats.plain_markdown(part.table.title)}"]
            for number, grid in enumerate(self._grids(part)):
                lines += ["", f"### {formats.plain_markdown(grid.title)}"] if number else []
                lines += ["", formats.markdown(grid).rstrip()]
            for name in part.pictures:
                if name.endswith((".png", ".svg")) and not (
                    name.endswith(".svg") and f"{name[:-4]}.png" in part.pictures
                ):
                    lines += ["", f"![{name.rpartition('.')[0].replace('_', ' ')}]({name})"]
        if self.remarks:
            lines += ["", "## The code behind the paper's numbers", ""]
            lines += [f"{formats.plain_markdown(text)}  " for text in grids.referenced(self.remarks)]
        if self.left_out:
            lines += ["", "## Left out", "", *(f"- {formats.plain_markdown(line)}" for line in self.left_out)]
        return "\n".join([*lines, "", *_how(self.results)]) + "\n"

    def as_json(self) -> str:
        """Tables, agreement and remarks as JSON; what is not known is null."""
        held = {
            "tables": [_table(part) for part in self.parts],
            "remarks": dict(self.remarks),
            "left_out": list(self.left_out),
            "files": list(self.files()),
        }
        return json.dumps(held, indent=2)

    def _grids(self, part: Part) -> list[Grid]:
        found = [grids.accuracy(part.table, self.remarks), grids.differences(part.table)]
        found.append(None if part.agreement is None else grids.agreements(part.agreement, self.remarks))
        return [grid for grid in found if grid is not None]


def _summary(found: Agreement) -> list[str]:
    same, opposite, unclear = found.counts([each for _, verdicts in found.rows for each in verdicts])
    total = same + opposite + unclear
    said = (
        f"Above, below or level with uniform, as in the paper: {same} of {total} agree, {opposite} opposite, "
    )
    return [f"{said}{unclear} open."] if total else []


def _how(results: Sequence[Result]) -> list[str]:
    """How the runs were made, as Markdown."""
    latest: dict[str, Result] = {}
    for run in sorted(results, key=lambda each: (each.finished, each.key)):
        latest[run.settings] = run
    finished = sorted(run.finished for run in results if run.finished)
    seconds = sum(run.training_seconds + run.selection_seconds for run in results)
    facts: dict[str, set[Any]] = {
        "data set": {f"{run.dataset} ({run.n} rows)" for run in results},
        "networks": {run.network for run in results},
        "seeds": {run.seed for run in results},
        "epochs": {run.epochs for run in results},
        "device": {run.device for run in results},
        "versions": {_pairs(run.versions) for run in results},
        "commit": {run.git_commit for run in results},
        "finished": {f"{finished[0]} to {finished[-1]}"} if finished else set(),
        "time of selections and training": {_duration(seconds)},
    }
    lines = ["## How it was run", "", "| | |", "| --- | --- |"]
    for name, values in facts.items():
        known = sorted(values - {None, ""}, key=lambda each: (isinstance(each, str), each))
        if known:
            lines.append(f"| {name} | {formats.plain_markdown('; '.join(map(str, known)))} |")
    for run in latest.values():
        lines += ["", "```yaml", reading.dump(_in_order(run.config)).rstrip(), "```"]
    return lines


def _in_order(config: Mapping[str, Any]) -> Any:
    """The experiment with its fields in their order, where it is one that can be run here."""
    try:
        return reading.build(ExperimentConfig, config)
    except (TypeError, ValueError):
        return config


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()) if value is not None)


def _table(part: Part) -> dict[str, Any]:
    table = part.table
    return {
        "title": table.title,
        "dataset": table.dataset,
        "layout": table.layout,
        "columns": list(table.columns),
        "accuracy": table.accuracy,
        "rows": [_row(row) for row in table.rows],
        "agreement": part.agreement and _agreement(part.agreement),
    }


def _row(row: Row) -> dict[str, Any]:
    cells = [_cell(cell) for cell in row.cells]
    return {"label": row.label, "method": row.method, "selector": row.selector, "cells": cells}


def _cell(cell: Cell) -> dict[str, Any]:
    ours, beside = cell.ours, cell.beside
    return {
        "n": ours.n if ours else 0,
        "mean": ours and ours.mean,
        "std": ours and ours.std,
        "difference": beside and {"mean": beside.mean, "error": beside.error, "sign": beside.sign},
        "paper": cell.paper and {"mean": cell.paper.mean, "std": cell.paper.std, "n": cell.paper.n},
    }


def _agreement(found: Agreement) -> dict[str, Any]:
    rows = {}
    for row, verdicts in found.rows:
        counts = found.counts(verdicts)
        rows[row.label] = {
            "ours": [ours for ours, _ in verdicts],
            "paper": [theirs for _, theirs in verdicts],
            **dict(zip(("agree", "opposite", "open"), counts)),
        }
    return {"same_setting": found.same, "fractions": list(found.fractions), "rows": rows}
