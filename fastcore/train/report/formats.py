"""Tables in the terminal, in Markdown, in LaTeX and as comma-separated values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from fastcore.train.report.grids import ABOVE, BELOW, Grid
from fastcore.train.report.tables import Cell, Table

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS = ("terminal", "markdown", "latex", "csv")

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{each: f"\\{each}" for each in "{}$&#%_"},
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    ABOVE: r"$\uparrow$",
    BELOW: r"$\downarrow$",
}
# What may follow a number: a mark, a count of seeds.
_MARK = re.compile(f" ?[{ABOVE}{BELOW}]| \\(")
# A LaTeX table of more characters in a line is set small, over both columns of a page.
_WIDE = 100


def terminal(grid: Grid, width: int) -> list[RenderableType]:
    """What a rich console of that width prints.

    A table that is too wide loses spaces between columns, then spaces in its cells; then columns move to a
    table of their own.
    """
    from rich.markup import escape

    grid, between = _aligned(grid), 2
    if _width(grid, between) > width:
        between = 1
    if _width(grid, between) > width:
        grid = _aligned(_dense(grid))
    blocks = [_rich(block, between) for block in _blocks(grid, width, between)]
    return [
        f"[bold]{escape(grid.title)}[/]",
        *blocks,
        *(f"[dim]{escape(note)}[/]" for note in (*grid.notes, *grid.remarks)),
    ]


def markdown(grid: Grid) -> str:
    """A table of GitHub's Markdown with its notes; lines of the paper are in italics."""
    count = len(grid.labels)
    lines = [
        _piped([*grid.labels, *grid.columns]),
        _piped(["---"] * count + ["---:"] * len(grid.columns)),
    ]
    for line in grid.lines:
        texts = [plain_markdown(text).strip() for text in (*line.labels, *line.cells)]
        lines.append(_piped([f"*{text}*" if text and line.paper else text for text in texts]))
    return "\n".join([*lines, "", *(f"{plain_markdown(note)}  " for note in grid.notes)]).rstrip() + "\n"


def latex(grid: Grid) -> str:
    """A LaTeX table that needs the package booktabs only: title and notes in its caption, remarks below."""
    wide = _width(grid, 2) > _WIDE
    environment = "table*" if wide else "table"
    body = []
    for line in grid.lines:
        texts = [_latex_cell(text) for text in (*line.labels, *line.cells)]
        if line.paper:
            texts = [rf"\textit{{{text}}}" if text else "" for text in texts]
        body.append(" & ".join(texts) + r" \\")
    remarks = _latex(" ".join(grid.remarks))
    heading = " & ".join(_latex(text) for text in (*grid.labels, *grid.columns)) + r" \\"
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            rf"\begin{{{environment}}}[t]",
            r"  \centering",
            rf"  \caption{{{_latex(' '.join((grid.title + '.', *grid.notes)))}}}",
            rf"  \label{{tab:{re.sub('[^A-Za-z0-9]+', '-', grid.name)}}}",
            r"  \vspace{4pt}",
            r"  \scriptsize\setlength{\tabcolsep}{1.2pt}" if wide else r"  \small",
            rf"  \begin{{tabular}}{{{'l' * len(grid.labels)}{'r' * len(grid.columns)}}}",
            r"    \toprule",
            f"    {heading}",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            *([rf"  \par\vspace{{4pt}}\parbox{{\linewidth}}{{\footnotesize {remarks}}}"] if remarks else []),
            rf"\end{{{environment}}}",
            "",
        ]
    )


_COLUMNS = (
    "dataset network selection_network selection_epochs method fraction n accuracy_last_mean accuracy_last_std "
    "accuracy_best_mean accuracy_best_std difference_last difference_last_error difference_best "
    "difference_best_error paper_mean paper_std selection_seconds pretrain_seconds signal_seconds training_seconds"
).split()


def comma_separated(last: Table, best: Table) -> str:
    """A table in long form, a line for every number: accuracies in %, differences in points, means of seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    cells = (
        tuple(_long(row.label, a, b))
        for row, other in zip(last.rows, best.rows, strict=True)
        for a, b in zip(row.cells, other.cells, strict=True)
        if a.results
    )
    # Training on all rows, and what needs no network, stand in the table several times.
    writer.writerows(dict.fromkeys(cells))
    return text.getvalue()


def _long(label: str, last: Cell, best: Cell) -> list[Any]:
    first = last.results[0]
    numbers: list[float | None] = []
    for cell in (last, best):
        numbers += [cell.ours.mean, cell.ours.std] if cell.ours else [None, None]
    for cell in (last, best):
        numbers += [cell.beside.mean, cell.beside.error] if cell.beside else [None, None]
    numbers += [last.paper.mean, last.paper.std] if last.paper else [None, None]
    for part in ("selection", "pretrain", "signal", "training"):
        times = [getattr(run, f"{part}_seconds") for run in last.results]
        numbers.append(sum(times) / len(times))
    place = [first.dataset, first.network, first.selection_network, first.selection_epochs]
    label = first.method if first.whole else label
    return [
        *("" if each is None else each for each in place),
        *(label, first.fraction, len(last.results)),
        *("" if each is None else f"{each:.6g}" for each in numbers),
    ]


def plain_markdown(text: str) -> str:
    """A text in which Markdown finds nothing to format."""
    return re.sub(r"([\\|*<`])", r"\\\1", text)


def _piped(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_cell(text: str) -> str:
    # The spread hangs small below, the mark above, so that many columns fit on a page.
    text = re.sub(r" \$\\pm\$ ([0-9.]+)", r"$_{\\pm \1}$", _latex(text))
    text = re.sub(r" \$\\(up|down)arrow\$", r"$^{\\\1arrow}$", text)
    return text.replace("$$", "")


def _aligned(grid: Grid) -> Grid:
    """The same with room for marks after every cell, so that the numbers of a column end together."""
    columns = []
    for column in zip(*(line.cells for line in grid.lines)):
        parts = [[cell] if "/" in cell else _MARK.split(cell) for cell in column]
        marks = [cell[len(part[0]) :] for cell, part in zip(column, parts)]
        room = max(map(len, marks))
        columns.append([part[0] + mark.ljust(room) for part, mark in zip(parts, marks)])
    return replace(
        grid, lines=tuple(replace(line, cells=cells) for line, cells in zip(grid.lines, zip(*columns)))
    )


def _dense(grid: Grid) -> Grid:
    """The same with fewer spaces in its cells."""

    def dense(cell: str) -> str:
        return re.sub(" ± ", "±", cell).rstrip().replace(f" {ABOVE}", ABOVE).replace(f" {BELOW}", BELOW)

    return replace(
        grid, lines=tuple(replace(line, cells=tuple(map(dense, line.cells))) for line in grid.lines)
    )


def _widths(grid: Grid) -> list[int]:
    rows = [(*grid.labels, *grid.columns), *((*line.labels, *line.cells) for line in grid.lines)]
    return [max(map(len, column)) for column in zip(*rows)]


def _width(grid: Grid, between: int) -> int:
    return sum(width + between for width in _widths(grid)) - between


def _blocks(grid: Grid, width: int, between: int) -> list[Grid]:
    """The grid cut between columns into pieces that fit, each with all labels and at least one column."""
    labels = len(grid.labels)
    widths = [each + between for each in _widths(grid)]
    room = width + between - sum(widths[:labels])
    block, used, numbers = 0, 0, []
    for each in widths[labels:]:
        if used and used + each > room:
            block, used = block + 1, 0
        used += each
        numbers.append(block)

    def piece(values: Sequence[str], places: list[int]) -> tuple[str, ...]:
        return tuple(values[place] for place in places)

    pieces = []
    for _, group in groupby(range(len(numbers)), key=numbers.__getitem__):
        places = list(group)
        lines = tuple(replace(line, cells=piece(line.cells, places)) for line in grid.lines)
        pieces.append(replace(grid, columns=piece(grid.columns, places), lines=lines))
    return pieces


def _rich(grid: Grid, between: int) -> RenderableType:
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    # Cells are as wide as their column before rich sees them: it would cut the room for marks after a number.
    # The box has a space between columns already.
    out = RichTable(box=box.SIMPLE_HEAD, padding=(0, between - 1, 0, 0), show_edge=False, pad_edge=False)
    widths = _widths(grid)[len(grid.labels) :]
    for label in grid.labels:
        out.add_column(escape(label), no_wrap=True)
    for column, width in zip(grid.columns, widths):
        out.add_column(escape(column.rjust(width)), no_wrap=True)
    for line in grid.lines:
        cells = []
        for cell, width in zip(line.cells, widths):
            text, colour = escape(cell.rjust(width)), _colour(cell)
            cells.append(f"[{colour}]{text}[/]" if colour else text)
        out.add_row(*map(escape, line.labels), *cells, style="dim" if line.paper else None)
    return out


def _colour(cell: str) -> str | None:
    if "/" in cell:
        return None
    return "green" if ABOVE in cell else "red" if BELOW in cell else None
