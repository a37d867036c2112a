"""The rows of the CSV, written whole after every change, and the table that is printed last."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path

from fastcore.files import write_atomic

Number = float | str
"""A number, or an empty text where there is none."""


@dataclass
class Record:
    """One measured quantity of one contender in one case; `value` is the median of the repeats."""

    case: str
    who: str
    n: int | str = ""
    width: int | str = ""
    classes: int | str = ""
    k: int | str = ""
    quantity: str = "time"
    unit: str = "s"
    status: str = "ok"  # ok, failed, timeout, out of memory, skipped
    value: Number = ""
    low: Number = ""  # 20th percentile
    high: Number = ""  # 80th percentile
    repeats: int | str = ""
    target: Number = ""  # at most for a time, at least for a ratio, in `unit`
    met: str = ""
    bytes: Number = ""  # that must move, by the formula of the case
    operations: Number = ""  # multiplications and additions, likewise
    ceiling: str = ""  # which measured ceiling bounds the time
    share: Number = ""  # of that ceiling: the time it allows over the time taken
    ratio: Number = ""  # seconds here over seconds of fastcore at the same size
    refcheck: str = ""
    peak_bytes: Number = ""  # allocated by torch during the run, beside the input
    backend: str = ""
    note: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the check found picks that are not the right ones."""
        return any(word in self.refcheck for word in ("differs", "wrong"))

    def judge(self) -> None:
        """Fills in `met`."""
        if self.target != "" and self.value != "":
            value, target = float(self.value), float(self.target)
            self.met = "met" if (value <= target if self.unit == "s" else value >= target) else "not met"
        elif self.target != "":
            self.met = "not measured"


class RecordFile:
    """Records on their way into a CSV file: a reader sees all rows so far, whenever the writer is killed."""

    def __init__(self, path: Path, facts: dict[str, str]) -> None:
        self.path, self.facts, self.records = path, facts, list[Record]()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.save()

    def add(self, record: Record) -> Record:
        """Appends a record and writes the file."""
        self.records.append(record)
        self.save()
        return record

    def save(self) -> None:
        """Writes the file after records have changed."""
        names = [field.name for field in dataclasses.fields(Record)]
        text = io.StringIO()
        writer = csv.DictWriter(text, [*names, *self.facts], lineterminator="\n")
        writer.writeheader()
        for record in self.records:
            record.judge()
            cells = {key: _cell(value) for key, value in dataclasses.asdict(record).items()}
            writer.writerow(cells | self.facts)
        write_atomic(self.path, text.getvalue().encode())


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def shown(value: Number, unit: str) -> str:
    """A value with its unit, in three digits."""
    if value == "":
        return ""
    number = float(value)
    if unit == "s" and number < 1:
        return f"{1e3 * number:.3g} ms"
    return f"{number:,.0f} {unit}" if number >= 1000 else f"{number:.3g} {unit}"


def table(records: list[Record]) -> str:
    """The records as plain text, a line each."""
    head = ("case", "who", "n", "k", "value", "target", "", "share", "picks", "status, note")
    rows = [head]
    for r in records:
        share = f"{100 * float(r.share):.0f} % {r.ceiling}" if r.share != "" else ""
        ratio = f"{float(r.ratio):.1f}x ours" if r.ratio != "" else ""
        said = "" if r.status == "ok" else r.status
        rest = "; ".join(text for text in (said, ratio, r.note) if text)
        value, target = shown(r.value, r.unit), shown(r.target, r.unit)
        name = r.case if r.quantity == "time" else f"{r.case}, {r.quantity}"
        rows.append(
            (name, r.who, str(r.n), str(r.k), value, target, r.met, share, r.refcheck[:44], rest[:60])
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * min(max(map(len, lines)), 160), *lines[1:]])
