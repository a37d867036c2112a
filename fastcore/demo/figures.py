"""The table and the two pictures of the demonstration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.table import Table

from fastcore.demo.experiment import METHODS, Digits, Result, select
from fastcore.figures import INK, PALE, drawn, pyplot

# Okabe and Ito's colours stay apart for colour-blind readers; the markers keep the lines apart in print.
_STYLES = {
    "facility_location": ("#0072B2", "o"),
    "herding": ("#D55E00", "s"),
    "k_center": ("#009E73", "^"),
    "log_det": ("#CC79A7", "D"),
    "graph_cut": ("#E69F00", "v"),
}


def table(results: Sequence[Result], everything: float) -> Table:
    """Accuracies as a table, a row for each method, with the time of its largest selection."""
    budgets = sorted({result.k for result in results})
    cells = {(result.method, result.k): result for result in results}
    out = Table(box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left", title_style="bold")
    out.title = f"Accuracy in % on the test digits (with all training digits: {everything:.1f})"
    out.caption = (
        f"green, red: above, below uniform by more than its spread\ntime: one selection of {budgets[-1]} rows"
    )
    out.add_column("method", no_wrap=True)
    for k in budgets:
        out.add_column(f"k={k}", justify="right", no_wrap=True)
    out.add_column("time", justify="right", no_wrap=True)
    for method in ("uniform", *METHODS):
        row = [cells[method, k] for k in budgets]
        marks = [_marked(cell, cells["uniform", cell.k]) for cell in row]
        out.add_row(method, *marks, f"{1000 * row[-1].seconds:.1f} ms")
        if method == "uniform":
            out.add_row("  spread", *(f"± {cell.deviation:.1f}" for cell in row), end_section=True)
    return out


def accuracy(results: Sequence[Result], everything: float) -> bytes:
    """PNG image: accuracy over the size of the coreset, a line for each method and a band for uniform."""
    plt = pyplot()
    budgets = sorted({result.k for result in results})
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for method, (colour, marker) in _STYLES.items():
        line = [result.accuracy for result in results if result.method == method]
        axes.plot(
            budgets, line, marker=marker, color=colour, label=method, linewidth=2, markersize=6, zorder=3
        )
    uniform = [result for result in results if result.method == "uniform"]
    middle = np.array([result.accuracy for result in uniform])
    spread = np.array([result.deviation for result in uniform])
    axes.plot(
        budgets,
        middle,
        color=INK,
        linewidth=2,
        linestyle=(0, (4, 2)),
        label="uniform (mean ± std)",
        zorder=2,
    )
    axes.fill_between(budgets, middle - spread, middle + spread, color=INK, alpha=0.15, linewidth=0, zorder=1)
    axes.axhline(everything, color=PALE, linewidth=1, zorder=0)
    axes.annotate(
        f"all training rows: {everything:.1f} %",
        (budgets[0], everything),
        xytext=(0, 4),
        textcoords="offset points",
        color=PALE,
        fontsize=9,
        bbox={"color": "white", "pad": 1},
    )
    axes.set_xscale("log")
    axes.set_xticks(budgets, [str(k) for k in budgets])
    axes.minorticks_off()
    axes.set_ylim(top=101)
    axes.set_xlabel("rows kept (k)")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(
        "Handwritten digits: 1-nearest-neighbour accuracy with k chosen rows", loc="left", fontsize=11
    )
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    return drawn(figure)["png"]


def contact_sheet(digits: Digits) -> bytes:
    """PNG image: the first picks of every method, a row for each method, in the order of the picks."""
    plt = pyplot()
    methods = (*_STYLES, "uniform")
    classes = len(np.unique(digits.train_labels))
    figure = plt.figure(figsize=(10.4, 3.75))
    # One column stays empty: it parts the first pick of every class from the second.
    columns = [1.0] * classes + [0.3] + [1.0] * classes
    grid = figure.add_gridspec(
        len(methods), len(columns), width_ratios=columns, left=0.13, right=0.99, top=0.86, bottom=0.02
    )
    for line, method in enumerate(methods):
        for pick, row in enumerate(select(digits, method, 2 * classes)):
            cell = figure.add_subplot(grid[line, pick + (pick >= classes)])
            cell.imshow(digits.train[row].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set_color("#cccccc")
            if pick == 0:
                cell.set_ylabel(method, rotation=0, ha="right", va="center", labelpad=8, color=INK)
            if line == 0:
                cell.set_title(str(pick + 1), fontsize=8, color=PALE, pad=3)
    title = (
        f"The first {2 * classes} digits that each method picks, in order: one of every class, then a second"
    )
    figure.suptitle(title, x=0.01, y=0.985, ha="left", fontsize=11)
    return drawn(figure)["png"]


def _marked(cell: Result, uniform: Result) -> str:
    """A cell of the table, coloured where it lies outside the spread of uniform."""
    lead = cell.accuracy - uniform.accuracy
    colour = "green" if lead > uniform.deviation else "red" if lead < -uniform.deviation else "default"
    return f"[{colour}]{cell.accuracy:.1f}[/]"
