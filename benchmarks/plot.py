"""One picture of the recorded times: every method of every case, logarithmic."""

from __future__ import annotations

import csv
from pathlib import Path

OURS, YARDSTICK, PEER = "#1b6ca8", "#bbbbbb", "#e08e45"


def read_times(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The time rows of all records in a folder, by case."""
    cases: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.glob("*.csv")):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if row["quantity"] == "time" and row["rows"]:
                    cases.setdefault(row["case"], []).append(row)
    return {name: rows for name, rows in cases.items() if len(rows) > 1}


def draw(folder: Path) -> Path | None:
    """Draw `times.png` from the records in a folder; None when there is nothing to compare."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = read_times(folder)
    if not cases:
        return None
    bars = [rows for case in cases.values() for rows in case]
    figure, axes = pyplot.subplots(
        len(cases),
        sharex=True,
        figsize=(8, 1.2 + 0.75 * len(cases) + 0.32 * len(bars)),
        height_ratios=[len(rows) + 0.6 for rows in cases.values()],
        layout="constrained",
        squeeze=False,
    )
    for axis, (name, rows) in zip(axes[:, 0], cases.items(), strict=True):
        rows = sorted(rows, key=lambda row: float(row["value"]), reverse=True)
        seconds = [float(row["value"]) for row in rows]
        errors = [
            [max(0.0, s - float(row["low"])) for s, row in zip(seconds, rows, strict=True)],
            [max(0.0, float(row["high"]) - s) for s, row in zip(seconds, rows, strict=True)],
        ]
        colors = [OURS if r["method"] == "fastcore" else PEER if r["refcheck"] else YARDSTICK for r in rows]
        names = [row["method"] for row in rows]
        drawn = axis.barh(names, seconds, xerr=errors, color=colors, ecolor="#555555")
        axis.bar_label(drawn, [f"{s:.3g} s" for s in seconds], padding=6, fontsize=8)
        axis.set_xscale("log")
        axis.margins(x=0.25)
        size = "{rows} x {width}".format(**rows[0]) + (", k = {k}".format(**rows[0]) if rows[0]["k"] else "")
        axis.set_title(f"{name.replace('_', ' ')}: {size}", loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    first = bars[0]
    axes[-1, 0].set_xlabel("seconds, logarithmic; {cpu}, {threads} threads, {date}".format(**first))
    path = folder / "times.png"
    part = path.with_name("times.part.png")
    figure.savefig(part, dpi=150)
    pyplot.close(figure)
    part.replace(path)
    return path
