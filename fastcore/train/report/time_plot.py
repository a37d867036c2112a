"""The picture of what a selection costs beside what it brings, at one fraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcore import figures
from fastcore.train.report import style
from fastcore.train.report.results import Result
from fastcore.train.report.statistics import Sample
from fastcore.train.report.tables import FULL, Table, percent

# What it takes to select, were it done for this method alone.
_PARTS = (
    ("pretrain_seconds", "training the network that selects", "#E69F00", "s"),
    ("signal_seconds", "its outputs for every row", "#56B4E9", "D"),
    ("selection_seconds", "the selection", "#0072B2", "o"),
)


@dataclass(frozen=True)
class _Line:
    label: str
    method: str
    accuracy: Sample
    seconds: tuple[float, ...]


def plot(table: Table, fraction: float) -> Any | None:
    """A matplotlib figure, a line for each method, the most accurate first; None where nothing was measured."""
    lines = sorted(_lines(table, fraction), key=lambda line: (-line.accuracy.mean, line.label))
    if not lines:
        return None
    plt = figures.pyplot()
    width, height = 9.6, 0.27 * len(lines) + 1.45
    figure, (left, right) = plt.subplots(1, 2, figsize=(width, height), sharey=True)
    margin = (0.085 * max(len(line.label) for line in lines) + 0.25) / width
    figure.subplots_adjust(left=margin, right=0.975, top=1 - 0.72 / height, bottom=0.55 / height, wspace=0.06)
    ys = np.arange(len(lines))[::-1]
    for axes in (left, right):
        style.bare(axes)
        axes.grid(axis="both", color=figures.FAINT, linewidth=0.7)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    _accuracy(left, ys, lines)
    _seconds(right, ys, lines)
    left.set_yticks(ys, [line.label for line in lines], fontsize=9)
    left.set_ylim(-0.7, len(lines) - 0.3)
    title = f"{table.title}: accuracy and time of selection with {percent(fraction)} of the rows"
    figure.legend(
        *right.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(0.004, 1 - 0.32 / height),
        ncols=4,
        frameon=False,
        fontsize=8,
        labelcolor=figures.INK,
        columnspacing=1.5,
        handletextpad=0.3,
    )
    style.title(figure, title)
    return figure


def _lines(table: Table, fraction: float) -> list[_Line]:
    lines = []
    for row in table.rows:
        for place, column in enumerate(table.columns):
            cell = row.cells[place]
            if column == fraction and row.method != FULL and cell.ours:
                label = (
                    f"{row.label} ({row.selector})"
                    if len(table.selectors) > 1 and row.selector
                    else row.label
                )
                lines.append(_Line(label, row.method, cell.ours, _times(cell.results)))
    return lines


def _times(runs: Sequence[Result]) -> tuple[float, ...]:
    return tuple(float(np.mean([getattr(run, name) for run in runs])) for name, *_ in _PARTS)


def _accuracy(axes: Any, ys: np.ndarray, lines: list[_Line]) -> None:
    uniform = next((line for line in lines if line.method == "uniform"), None)
    if uniform is not None:
        mean, std = uniform.accuracy.mean, uniform.accuracy.std or 0.0
        axes.axvspan(mean - std, mean + std, color=figures.INK, alpha=0.1, linewidth=0, zorder=1)
        axes.axvline(mean, color=figures.INK, linestyle=(0, (3, 1.5)), linewidth=1.2, zorder=2)
    for y, line in zip(ys, lines):
        colour, marker = style.look(line.method)
        axes.errorbar(
            line.accuracy.mean,
            y,
            xerr=line.accuracy.std or 0.0,
            color=colour,
            marker=marker,
            markersize=5.5,
            elinewidth=1.6,
            linestyle="",
            zorder=3,
        )
    spread = any(line.accuracy.std is not None for line in lines)
    axes.set_xlabel(f"test accuracy (%){', mean ± std' if spread else ''}", fontsize=9, color=figures.INK)


def _seconds(axes: Any, ys: np.ndarray, lines: list[_Line]) -> None:
    totals = [sum(line.seconds) for line in lines]
    least = min((seconds for line in lines for seconds in line.seconds if seconds > 0), default=0.1)
    # Whole decades: there are always labels to read the rest by.
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(max(*totals, 2 * least)))
    axes.set_xscale("log")
    axes.set_xlim(10**low / 1.3, 10**high * 1.3)
    for y, line in zip(ys, lines):
        parts = [seconds for seconds in line.seconds if seconds > 0]
        if parts:
            axes.plot([min(parts), sum(parts)], [y, y], color="#c8c8c8", linewidth=1.2, zorder=2)
            axes.plot([sum(parts)], [y], "|", color=figures.INK, markersize=9, markeredgewidth=1.6, zorder=4)
    for number, (_, name, colour, marker) in enumerate(_PARTS):
        spots = [(line.seconds[number], y) for y, line in zip(ys, lines) if line.seconds[number] > 0]
        axes.plot(
            *([spot[0] for spot in spots], [spot[1] for spot in spots], marker),
            color=colour,
            markersize=5.5,
            label=name,
            zorder=3,
        )
    axes.plot([], [], "|", color=figures.INK, markersize=9, markeredgewidth=1.6, label="all together")
    axes.set_xlabel("seconds for one selection, were it the only one", fontsize=9, color=figures.INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
