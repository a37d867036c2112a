"""The picture of what methods pick: their first images of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcore import figures, selection
from fastcore.train.report import style
from fastcore.train.report.results import Result
from fastcore.train.report.tables import FULL, Table, percent

_CLASSES = 12  # columns at most
_TILE, _GAP = 64, 4  # pixels of an image, at most, and between two, at the resolution of the picture
_DOTS = 150
_EMPTY = 242


@dataclass(frozen=True)
class Picks:
    """The selections of one run for each method.

    Attributes:
        fraction, seed: of all of them.
        runs: a label, the name of the method and its run, for every method, in the order of the table.
    """

    fraction: float
    seed: int
    runs: tuple[tuple[str, str, Result], ...]


def picks(table: Table, fraction: float) -> Picks | None:
    """Runs of a table whose selections are there, with the seed that most methods have; None without any."""
    found: dict[int, dict[str, tuple[str, str, Result]]] = {}
    for row in table.rows:
        for run in [run for cell in row.cells for run in cell.results]:
            held = run.fraction == fraction and run.indices is not None and run.indices.exists()
            if held and row.method != FULL:
                found.setdefault(run.seed, {}).setdefault(row.label, (row.label, row.method, run))
    if not found:
        return None
    seed = max(found, key=lambda each: (len(found[each]), -each))
    return Picks(fraction, seed, tuple(found[seed].values()))


def plot(table: Table, chosen: Picks, train: Any) -> Any:
    """A matplotlib figure: a line for each method, a column for each class, the first image that it picked.

    ``train`` are the rows that were chosen from. Raises ValueError where a selection is of other rows, OSError
    where one cannot be read.
    """
    classes = _classes(train)
    lines = [(label, method, _first(run, train, classes, 1)) for label, method, run in chosen.runs]
    title = f"{table.title}: the first pick of every class{_which(chosen, classes, train)}"
    return _sheet(
        title, [(label, style.look(method)[0], rows) for label, method, rows in lines], classes, train
    )


def plot_method(table: Table, chosen: Picks, train: Any, label: str, count: int = 10) -> Any:
    """A matplotlib figure of one method: a line for each class, its first ``count`` picks in their order."""
    classes = _classes(train)
    run = next(run for name, _, run in chosen.runs if name == label)
    rows = np.array(_first(run, train, classes, count), dtype=object).reshape(count, len(classes)).T
    lines = [(name, figures.INK, list(each)) for name, each in zip(_names(train, classes), rows)]
    title = f"{table.title}, {label}: the first picks{_which(chosen, classes, train)}"
    return _sheet(title, lines, range(1, count + 1), train)


def _which(chosen: Picks, classes: Sequence[int], train: Any) -> str:
    some = "" if len(classes) == train.classes else f" ({len(classes)} of {train.classes} classes)"
    return f"{some}, {percent(chosen.fraction)} of the rows, seed {chosen.seed}"


def _classes(train: Any) -> Sequence[int]:
    return range(min(train.classes, _CLASSES))


def _names(train: Any, classes: Sequence[int]) -> list[str]:
    return [str(each) if train.class_names is None else str(train.class_names[each]) for each in classes]


def _first(run: Result, train: Any, classes: Sequence[int], count: int) -> list[int | None]:
    """The first ``count`` picks of every class: the first of each, then the second of each; None for no pick."""
    assert run.indices is not None
    chosen = selection.load(run.indices)
    if chosen.info["n"] != len(train):
        raise ValueError(
            f"{run.indices} chose from {chosen.info['n']} rows, and {train.name} has {len(train)}"
        )
    labels = train.labels[chosen.indices].numpy()
    by_class = [[*chosen.indices[labels == each][:count].tolist(), *[None] * count] for each in classes]
    return [rows[place] for place in range(count) for rows in by_class]


def _sheet(
    title: str, lines: Sequence[tuple[str, str, list[int | None]]], columns: Sequence[int], train: Any
) -> Any:
    """Lines of images with their labels; ``columns`` are classes, or places in a line."""
    plt = figures.pyplot()
    side = min(train.shape[1:])
    tile = side * (_TILE // side) if side < _TILE else _TILE  # small images in whole pixels
    step = tile + _GAP
    canvas = np.full((len(lines) * step - _GAP, len(columns) * step - _GAP, 3), 255, np.uint8)
    for down, (_, _, rows) in enumerate(lines):
        for across, row in enumerate(rows):
            image = _EMPTY if row is None else _square(train.picture(row), tile)
            canvas[down * step :, across * step :][:tile, :tile] = image
    high, wide = (size / _DOTS for size in canvas.shape[:2])
    by_class = isinstance(columns, range) and columns.start == 0
    names = _names(train, columns) if by_class else [str(place) for place in columns]
    slanted = max(map(len, names)) > 7
    above = 0.6 + (0.3 if slanted else 0.0)
    beside = 0.085 * max(len(label) for label, *_ in lines) + 0.2
    width, height = (
        max(beside + wide + (0.5 if slanted else 0.12), min(0.082 * len(title) + 0.2, 9.0)),
        above + high + 0.1,
    )
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((beside / width, 0.1 / height, wide / width, high / height))
    axes.imshow(canvas, interpolation="none", aspect="auto")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False, pad=3)
    axes.set_xticks([across * step + tile / 2 - 0.5 for across in range(len(columns))], names)
    for text in axes.get_xticklabels():
        text.set(fontsize=8, color=figures.PALE)
        if slanted:
            text.set(rotation=30, ha="left", rotation_mode="anchor")
    axes.set_yticks(
        [down * step + tile / 2 - 0.5 for down in range(len(lines))], [label for label, *_ in lines]
    )
    for text, (_, colour, _) in zip(axes.get_yticklabels(), lines):
        text.set(fontsize=9, color=colour)
    style.title(figure, title)
    return figure


def _square(picture: np.ndarray, tile: int) -> np.ndarray:
    """The middle of a picture (h, w) or (h, w, 3) as (tile, tile, 3)."""
    from PIL import Image

    side = min(picture.shape[:2])
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    square = Image.fromarray(picture[top : top + side, left : left + side]).convert("RGB")
    how = Image.Resampling.NEAREST if side <= tile else Image.Resampling.LANCZOS
    return np.asarray(square.resize((tile, tile), how))
