"""The rows of the CSV, written whole after every change."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fastcore.files import write_atomic

Number = float | str
"""A number, or an empty text where there is none."""

OURS = "fastcore"
OVER = f"{OURS} over "
"""How the name of a row begins that says how many times faster than a peer we are."""

LEFT_OUT = "left out by"
"""How the note of a row begins that an option of the command line left out: the table only counts these."""


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
    refcheck: str = ""  # ours: against float64 or the reference; of a peer: whether its picks are ours
    peak_bytes: Number = ""  # allocated by torch during the run, beside the input
    backend: str = ""
    note: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What makes it this row and no other."""
        return self.case, self.who, self.n, self.k, self.quantity

    @property
    def wrong(self) -> bool:
        """Whether the check found picks that are not the right ones, or could not look at them."""
        return self.refcheck.startswith("failed") or any(w in self.refcheck for w in ("differs", "wrong"))

    def judge(self) -> None:
        """Fills in `met`: no target is met with wrong picks."""
        if self.target != "" and self.value != "":
            value, target = float(self.value), float(self.target)
            good = (value <= target if self.unit == "s" else value >= target) and not self.wrong
            self.met = "met" if good else "not met"
        elif self.target != "":
            self.met = "not measured"


class RecordFile:
    """Records in a CSV file that has all planned rows from the start, with the reason why they are empty.

    A reader finds every row of a whole run, whenever the writer is killed.
    """

    def __init__(self, path: Path, facts: dict[str, str], planned: Iterable[Record] = ()) -> None:
        self.path, self.facts, self.records = path, facts, list(planned)
        for record in self.records:
            record.status, record.note = "skipped", "not reached"
        self._open = {record.key: i for i, record in enumerate(self.records)}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.save()

    def add(self, record: Record) -> Record:
        """Puts a record in the place that was planned for it, or last, and writes the file."""
        place = self._open.pop(record.key, None)
        if place is None:
            self.records.append(record)
        else:
            self.records[place] = record
        self.save()
        return record

    def leave(self, reason: str, which: Callable[[Record], bool], status: str = "skipped") -> None:
        """Says why planned rows stay empty."""
        for record in [self.records[i] for i in self._open.values()]:
            if which(record):
                record.status, record.note = status, reason
                del self._open[record.key]
        self.save()

    def trouble(self) -> list[Record]:
        """Rows of ours that failed, or whose picks are wrong. A peer that fails is no trouble, nor is slowness."""
        mine = [r for r in self.records if r.who == OURS or r.case in ("build", "tests", "sanitizer")]
        return [
            r for r in mine if r.status == "failed" or r.wrong or (r.case == "build" and r.status != "ok")
        ]

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
