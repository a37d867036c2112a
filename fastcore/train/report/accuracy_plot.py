"""The picture of accuracy against fraction: a panel for each method, random in every panel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastcore import figures
from fastcore.train.report import style
from fastcore.train.report.statistics import Sample
from fastcore.train.report.tables import FULL, Row, Table

_ACROSS = 4  # panels beside each other
_LEGENDS = 6  # in a line
# How networks that select are told apart: by their lines, and where networks are columns, by colour and marker.
_DASHES = ("-", "--", ":", "-.")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_CIRCLE: dict[str, Any] = {
    "marker": "o",
    "markersize": 6.5,
    "markerfacecolor": "none",
    "markeredgecolor": figures.PALE,
    "markeredgewidth": 0.9,
}
_AXES = {
    "fraction": "rows kept (%)",
    "epochs": "epochs that the network which selects was trained for",
    "network": "network that is trained",
}


def plot(table: Table) -> Any | None:
    """A matplotlib figure; None where no method has two columns to draw a line between."""
    places = [place for place, column in enumerate(table.columns) if not _is_full(table, column)]
    rows = [
        row for row in table.rows if row.method != FULL and any(row.cells[place].ours for place in places)
    ]
    reference = next((row for row in rows if row.method == "uniform"), None)
    labels = list(dict.fromkeys(row.label for row in rows if row is not reference))
    if len(places) < 2 or not (labels or reference):
        return None
    plt = figures.pyplot()
    panels = labels or [reference.label if reference else ""]
    across = 3 if len(panels) in (5, 6, 9) else min(_ACROSS, len(panels))  # rows that are nearly full
    down = math.ceil(len(panels) / across)
    full = _full(table)
    legend = _legend(table, rows, reference if labels else None, full)
    lines = max(1, math.ceil(len(legend) / _LEGENDS))
    head = 0.52 + 0.2 * lines
    width, height = max(2.45 * across + 0.7, 5.4), 1.75 * down + 0.78 + head
    figure, grid = plt.subplots(
        down, across, figsize=(width, height), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - head / height), w_pad=0.05, h_pad=0.06)
    xs = _positions(table, places)
    for number, label in enumerate(panels):
        axes = grid[number // across, number % across]
        shown = [row for row in rows if row.label == label]
        _panel(axes, table, xs, places, shown, reference if labels else None, full)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    _ticks(grid, table, xs, places, len(panels))
    figure.supylabel("test accuracy (%)", fontsize=9, color=figures.INK)
    figure.supxlabel(_AXES[table.layout], fontsize=9, color=figures.INK)
    style.title(figure, f"{table.title}: accuracy {table.epoch}")
    figure.legend(
        handles=legend,
        loc="upper left",
        bbox_to_anchor=(0.04 / width, 1 - 0.32 / height),
        ncols=math.ceil(len(legend) / lines) or 1,
        frameon=False,
        fontsize=8,
        labelcolor=figures.INK,
        columnspacing=1.5,
    )
    return figure


def _panel(
    axes: Any,
    table: Table,
    xs: np.ndarray,
    places: list[int],
    lines: list[Row],
    reference: Row | None,
    full: Sample | None,
) -> None:
    style.bare(axes)
    axes.grid(axis="y", color=figures.FAINT, linewidth=0.7)
    colour, marker = style.look(lines[0].method)
    if full is not None:
        axes.axhline(full.mean, color=figures.PALE, linewidth=0.8, zorder=1)
    if table.layout == "network":
        _dots(axes, table, places, lines, reference)
    else:
        if reference is not None:
            _line(axes, xs, reference, places, color=figures.INK, ls=(0, (3, 1.5)), linewidth=1.2, zorder=2)
        for row in lines:
            dashes = _told_apart(table, row, _DASHES)
            _line(axes, xs, row, places, color=colour, marker=marker, ls=dashes, linewidth=1.6, zorder=3)
            _circles(axes, xs, row, places)
    axes.set_title(lines[0].label, loc="left", fontsize=9, fontweight="bold", color=colour, pad=3)
    axes.set_title(style.family(lines[0].method), loc="right", fontsize=7, color=figures.PALE, pad=3)


def _line(axes: Any, xs: np.ndarray, row: Row, places: list[int], **look: Any) -> None:
    """Means with a band of a standard deviation; a cell that was not measured is left out."""
    samples = [row.cells[place].ours for place in places]
    held = np.array([sample is not None for sample in samples])
    means = np.array([sample.mean for sample in samples if sample])
    stds = np.array([sample.std or 0.0 for sample in samples if sample])
    axes.plot(xs[held], means, markersize=4, **look)
    axes.fill_between(
        xs[held], means - stds, means + stds, color=look["color"], alpha=0.16, linewidth=0, zorder=1
    )


def _dots(axes: Any, table: Table, places: list[int], lines: list[Row], reference: Row | None) -> None:
    """Means with their standard deviations: beside each other for every network, since no line joins networks."""
    for place in places if reference is not None else ():
        uniform = reference.cells[place].ours if reference is not None else None
        if uniform is not None:
            axes.hlines(
                uniform.mean,
                place - 0.42,
                place + 0.42,
                color=figures.INK,
                ls=(0, (3, 1.5)),
                lw=1.2,
                zorder=2,
            )
    step = 0.72 / max(len(lines), 1)
    for number, row in enumerate(lines):
        xs = np.arange(len(places)) + (number - (len(lines) - 1) / 2) * step
        for x, place in zip(xs, places):
            sample = row.cells[place].ours
            if sample is not None:
                axes.errorbar(
                    x,
                    sample.mean,
                    yerr=sample.std or 0.0,
                    color=_told_apart(table, row, _COLOURS),
                    marker=_told_apart(table, row, _MARKERS),
                    markersize=4,
                    elinewidth=1.2,
                    zorder=3,
                )
        _circles(axes, xs, row, places)


def _circles(axes: Any, xs: np.ndarray, row: Row, places: list[int]) -> None:
    """The numbers of the paper."""
    spots = [(x, cell.mean) for x, place in zip(xs, places) if (cell := row.cells[place].paper)]
    axes.plot([x for x, _ in spots], [y for _, y in spots], linestyle="", zorder=4, **_CIRCLE)


def _told_apart(table: Table, row: Row, looks: tuple[str, ...]) -> str:
    """The look of the network that selected for a row."""
    names = list(dict.fromkeys(each.selector for each in table.rows if each.selector))
    return looks[names.index(row.selector) % len(looks)] if row.selector in names else looks[0]


def _positions(table: Table, places: list[int]) -> np.ndarray:
    if table.layout == "fraction":
        return np.array([100 * table.columns[place] for place in places])
    return np.arange(len(places), dtype=float)


def _ticks(grid: Any, table: Table, xs: np.ndarray, places: list[int], panels: int) -> None:
    """Ticks at what was measured, with labels where there is room for them."""
    labels = [table.headings[place].removesuffix(" %") for place in places]
    named = table.layout == "network"
    shown = labels if named else _spaced(labels, np.log10(xs) if table.layout == "fraction" else xs)
    across = grid.shape[1]
    for number, axes in enumerate(grid.flat):
        if table.layout == "fraction":
            axes.set_xscale("log")
        axes.set_xticks(xs, shown)
        axes.minorticks_off()
        axes.margins(x=0.06)
        if named:
            axes.tick_params(axis="x", labelrotation=25)
            for text in axes.get_xticklabels():
                text.set(ha="right", rotation_mode="anchor")
        # The last panel of every column has the labels, also where the row below is not full.
        axes.tick_params(labelbottom=number + across >= panels)


def _spaced(labels: list[str], spots: np.ndarray) -> list[str]:
    """Labels without those that would touch another: powers of ten stay first, then the others from the left."""
    spots = (spots - spots[0]) / (spots[-1] - spots[0])
    halves = np.array([0.021 * len(label) + 0.012 for label in labels])
    shown: list[int] = []
    for place in sorted(range(len(labels)), key=lambda each: (labels[each].strip("0.") != "1", each)):
        if all(abs(spots[place] - spots[other]) > halves[place] + halves[other] for other in shown):
            shown.append(place)
    return [label if place in shown else "" for place, label in enumerate(labels)]


def _legend(table: Table, rows: list[Row], reference: Row | None, full: Sample | None) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if reference is not None:
        handles.append(Line2D([], [], color=figures.INK, ls=(0, (3, 1.5)), lw=1.2, label=reference.label))
    if any(cell.ours and cell.ours.std is not None for row in rows for cell in row.cells):
        bars: dict[str, Any] = {"marker": "|", "markersize": 9, "linestyle": ""}
        if table.layout == "network":
            handles.append(Line2D([], [], color=figures.PALE, label="± std over seeds", **bars))
        else:
            handles.append(Patch(color=figures.PALE, alpha=0.3, linewidth=0, label="± std over seeds"))
    if full is not None:
        handles.append(Line2D([], [], color=figures.PALE, lw=0.8, label=f"all rows: {full.mean:.1f} %"))
    if any(cell.paper for row in rows for cell in row.cells):
        handles.append(Line2D([], [], linestyle="", label="the paper's numbers", **_CIRCLE))
    selecting = {row.selector: row for row in rows if row.selector}
    for name, row in selecting.items() if len(selecting) > 1 else ():
        look: dict[str, Any] = {"color": figures.PALE, "linestyle": _told_apart(table, row, _DASHES)}
        if table.layout == "network":
            marker = _told_apart(table, row, _MARKERS)
            look = {"color": _told_apart(table, row, _COLOURS), "marker": marker, "linestyle": "", "ms": 4}
        handles.append(Line2D([], [], label=f"selected by {name}", **look))
    return handles


def _full(table: Table) -> Sample | None:
    """Accuracy of training on all rows, where it is one number."""
    if table.layout == "network":
        return None
    for row in table.rows:
        for place, column in enumerate(table.columns):
            if (row.method == FULL or _is_full(table, column)) and row.cells[place].ours:
                return row.cells[place].ours
    return None


def _is_full(table: Table, column: Any) -> bool:
    return table.layout == "fraction" and column == 1
