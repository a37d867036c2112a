"""Timing, machine facts, CSV and tables: nothing here knows what is measured."""

from __future__ import annotations

import csv
import dataclasses
import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Timing:
    """Seconds of every repeat, and what the last one returned."""

    seconds: list[float] = field(default_factory=list)
    result: Any = None

    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median, upper quartile."""
        low, middle, high = np.quantile(self.seconds, [0.25, 0.5, 0.75])
        return float(low), float(middle), float(high)

    @property
    def median(self) -> float:
        return self.quartiles()[1]


def interleaved(
    runs: dict[str, Callable[[], Any]], repeats: int, tick: Callable[[str, float], None] | None = None
) -> dict[str, Timing]:
    """Time the runs in turn, A B C A B C …, so that a slow minute of the machine falls on all of them."""
    timings = {name: Timing() for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            gc.collect()
            begin = time.perf_counter()
            timings[name].result = run()
            timings[name].seconds.append(time.perf_counter() - begin)
            if tick:
                tick(name, timings[name].seconds[-1])
    return timings


# ---- the record ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One measured quantity of one method in one case; `value` is the median."""

    case: str
    method: str
    quantity: str
    unit: str
    value: float
    low: float | str = ""
    high: float | str = ""
    repeats: int = 1
    ratio: float | str = ""  # seconds here over seconds of fastcore
    refcheck: str = ""
    version: str = ""
    rows: int | str = ""
    width: int | str = ""
    k: int | str = ""
    target: str = ""
    met: str = ""


def version_of(package: str) -> str:
    """Installed version of a distribution, or an empty text."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """Short hash of the checked-out commit, with `-dirty` where tracked files were changed."""
    try:
        git = ["git", "-C", str(ROOT)]
        quiet = subprocess.DEVNULL
        head = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], stderr=quiet)
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], stderr=quiet)
        return head.decode().strip() + ("-dirty" if changed.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine() -> dict[str, str | int]:
    """What a number depends on: the machine, its load just now, and the versions."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "fastcore": version_of("fastcore-coreset"),
        "commit": commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
    }


def write_csv(path: Path, rows: Iterable[Row], facts: dict[str, str | int]) -> None:
    """Write the rows, each with the facts of the machine; a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    names = [f.name for f in dataclasses.fields(Row)]
    with open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, [*names, *facts])
        writer.writeheader()
        for row in rows:
            cells = dataclasses.asdict(row)
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in cells.items()} | facts)
    os.replace(part, path)


# ---- tables -------------------------------------------------------------------------------------

console = Console(width=None if sys.stdout.isatty() else 130)


def duration(seconds: float) -> str:
    """Three digits, in seconds or milliseconds."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """One table of a case: times with quartiles and ratios, the refcheck, memory and other quantities."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("method", "median", "quartiles", "x fastcore", "picks", "also measured"):
        table.add_column(name, justify="left" if name in ("method", "picks", "also measured") else "right")
    others: dict[str, list[str]] = {}
    for row in rows:
        if row.quantity != "time" and not row.target:
            others.setdefault(row.method, []).append(f"{row.quantity} {row.value:.4g} {row.unit}".strip())
    for row in rows:
        if row.quantity == "time":
            spread = f"{duration(float(row.low))} – {duration(float(row.high))}" if row.low != "" else ""
            ratio = f"{row.ratio:.2f}" if isinstance(row.ratio, float) else ""
            also = ", ".join(others.get(row.method, []))
            name = f"{row.method} {row.version}"
            table.add_row(name, duration(row.value), spread, ratio, row.refcheck, also)
    console.print(table)


def print_targets(rows: Iterable[Row]) -> None:
    """The targets beside what was measured."""
    table = Table(title="targets", title_justify="left", title_style="bold")
    for name in ("case", "target", "measured", ""):
        table.add_column(name)
    for row in rows:
        if row.target:
            style = {"met": "green", "not met": "yellow"}.get(row.met, "")
            measured = f"{row.value:.4g} {row.unit}".strip()
            table.add_row(row.case, row.target, measured, Text(row.met, style))
    console.print(table)
