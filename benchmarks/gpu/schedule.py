"""The parent of the workers: which step runs when, for how long at most, and what becomes a row."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu.case import Case, Size
from benchmarks.gpu.clock import CEILINGS
from benchmarks.gpu.facts import ROOT, UNKNOWN
from benchmarks.gpu.records import OURS, OVER, Record, RecordFile

START_SECONDS = 60.0  # until a worker answers that it is there
LEAST_SECONDS = 3.0  # a step that would have less is not begun
LEAST_OF_A_CASE = 12.0


class Hand:
    """A worker process: started when something is asked of it, killed when an answer takes too long."""

    def __init__(self, device: str, quick: bool, log: TextIO) -> None:
        arguments = ["--device", device, *(["--quick"] if quick else [])]
        self._command = [sys.executable, "-m", "benchmarks.gpu.worker", *arguments]
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: dict[str, Any], limit: float, end: float = math.inf) -> dict[str, Any]:
        """The answer to a request, within `limit` seconds and before `end`, or what became of the worker."""
        if self._process is None:
            ready = self._start(min(START_SECONDS, end - time.monotonic()))
            if ready["status"] != "ready":
                return ready
        limit = min(limit, end - time.monotonic())
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError):  # a worker that has ended is found out below
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer(limit)

    def stop(self) -> None:
        """Ends the worker, and what it has started."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, limit: float) -> dict[str, Any]:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command,
            stdin=pipe,
            stdout=pipe,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()
        return self._answer(limit)

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def _answer(self, limit: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(limit, 0.1))
        except queue.Empty:
            self.stop()
            return {"status": "timeout", "note": f"killed after {limit:.0f} s"}
        if line is None:
            assert self._process is not None
            code = self._process.wait()
            self.stop()
            return {"status": "failed", "note": f"the process ended with {code}"}
        try:
            reply: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:  # it ended in the middle of a line
            reply = {"status": "failed", "note": f"the process said {line[:60]!r}", "broken": True}
        if reply.get("broken"):
            self.stop()
        return reply


def planned(cases: Iterable[Case], quick: bool) -> list[Record]:
    """The rows of a whole run: ceilings, and every step of these cases."""
    rows = [_ceiling(name, unit) for name, unit in CEILINGS.items()]
    for case in cases:
        for size, what in case.steps(quick):
            if size is None:
                rows.append(Record(case.name, OURS, quantity="picks", unit=""))
            elif what != "check":
                rows.append(_row(case, size, what, quick))
                rows += [] if what == "time" else [_speed_up(rows[-1], case, quick)]
    return rows


def _ceiling(name: str, unit: str) -> Record:
    what = "copy, read and written" if name == "copy" else f"{name} product"
    return Record("ceiling", what, quantity="rate", unit=unit)


def _row(case: Case, size: Size, what: str, quick: bool) -> Record:
    """The row of a time, without the time."""
    record = Record(case.name, OURS if what == "time" else what, n=size.n, k=size.k)
    record.width = "" if quick else case.width or ""
    record.classes = "" if quick else case.classes or size.classes or ""
    if what == "time" and size.target is not None:
        record.target = size.target
    return record


def _speed_up(peer: Record, case: Case, quick: bool) -> Record:
    """The row with how many times faster than this peer we are, without the number."""
    row = Record(peer.case, OVER + peer.who, peer.n, peer.width, peer.classes, peer.k, "speed-up", "x")
    row.status, row.note = peer.status, peer.note
    row.target = "" if quick else case.speed_up
    return row


class Schedule:
    """Runs cases one after the other until the time is over."""

    def __init__(self, hand: Hand, out: RecordFile, cases: dict[str, Any], quick: bool, limit: float) -> None:
        self.hand, self.out, self.cases, self.quick, self.limit = hand, out, cases, quick, limit
        self.ceilings: dict[str, float] = {}

    def measure_ceilings(self, limit: float) -> None:
        """One row for each ceiling."""
        reply = self.hand.ask({"what": "ceilings"}, limit, time.monotonic() + limit)
        if reply["status"] != "ok":
            self.out.leave(reply.get("note", ""), lambda record: record.case == "ceiling", reply["status"])
            return
        where = self.out.facts["device"]
        if self.out.facts.get("card") == UNKNOWN and reply.get("card"):
            self.out.facts["card"] = reply["card"]
        for name, value in reply["ceilings"].items():
            unit = CEILINGS[name]
            self.ceilings[name] = value * (1e9 if unit == "GB/s" else 1e12)
            record = _ceiling(name, unit)
            record.value = value
            record.note = "" if where.startswith("cuda") else "of a processor, at a small size: not a card's"
            self.out.add(record)

    def run(self, names: Sequence[str], deadline: float) -> None:
        """All steps of these cases. Each has its share of the time left, by its weight, and a half more."""
        for i, name in enumerate(names):
            left = deadline - time.monotonic()
            share = self.cases[name].weight / sum(self.cases[later].weight for later in names[i:])
            until = min(deadline, time.monotonic() + max(LEAST_OF_A_CASE, 1.5 * left * share))
            _Run(self, name, until).steps()


class _Run:
    """The steps of one case."""

    def __init__(self, schedule: Schedule, name: str, until: float) -> None:
        self.all, self.name, self.until = schedule, name, until
        self.case: Case = schedule.cases[name]
        self.ours: Record | None = None
        self.lost: dict[str, str] = {}  # peers that are not tried again, and why

    def steps(self) -> None:
        """All steps; once our own time is missing, nothing larger is tried. What is left gets its reason."""
        steps = self.case.steps(self.all.quick)
        largest = [size for size, _ in steps][-1]
        for size, what in steps:
            if self.until - time.monotonic() < LEAST_SECONDS:
                self._leave("no time left")
                return
            if what in self.lost:
                self._leave(self.lost[what], who=what, size=size)
                continue
            limit = self._limit(size, what)
            share = 0.15 if what in ("reference", "time", "check") else 0.05 if size == largest else 0.015
            request: dict[str, Any] = {"case": self.name, "what": what, "budget": share * limit}
            if size is not None:
                request["size"] = dataclasses.asdict(size)
            print(f"  {self.name}, {what}{f', n = {size.n:,}, k = {size.k:,}' if size else ''}", flush=True)
            reply = self.all.hand.ask(request, limit, self.until)
            self._keep(size, what, reply)
            if size is not None and what == "time" and reply["status"] != "ok":
                self._leave(f"ours: {reply['status']} at n = {size.n:,}")
                return

    def _leave(self, reason: str, who: str = "", size: Size | None = None) -> None:
        """Says why rows of this case stay empty: all that are left, or those of a peer at a size."""

        def left(record: Record) -> bool:
            mine = record.case == self.name and (not who or record.who in (who, OVER + who))
            return mine and (size is None or (record.n, record.k) == (size.n, size.k))

        self.all.out.leave(reason, left)

    def _limit(self, size: Size | None, what: str) -> float:
        own = size.limit if size is not None and size.limit and what == "time" else self.all.limit
        return min(own, self.until - time.monotonic())

    def _keep(self, size: Size | None, what: str, reply: dict[str, Any]) -> None:
        status, note = reply["status"], reply.get("note", "")
        verdict = reply.get("refcheck") or f"{status}: {note}"
        if size is None:
            record = Record(self.name, OURS, quantity="picks", unit="", status=status, refcheck=verdict)
            record.note = "" if status == "ok" else note
            self.all.out.add(record)
        elif what == "check":
            assert self.ours is not None
            self.ours.refcheck = verdict
            self.all.out.save()
        else:
            record = self._filled(size, what, reply)
            if what == "time":
                self.ours = record
            else:
                self._compare(record)
                if status != "ok":
                    self.lost[what] = note if status == "skipped" else f"{status} at n = {size.n:,}"
            self.all.out.add(record)

    def _compare(self, peer: Record) -> None:
        """How many times faster we are, as a row with the target; or why it is not known."""
        row = _speed_up(peer, self.case, self.all.quick)
        if peer.value != "" and self.ours is not None:
            peer.ratio = float(peer.value) / float(self.ours.value)
            row.value, row.repeats = peer.ratio, peer.repeats
        self.all.out.add(row)

    def _filled(self, size: Size, what: str, reply: dict[str, Any]) -> Record:
        record = _row(self.case, size, what, self.all.quick)
        fields = ("value", "low", "high", "repeats", "peak_bytes", "backend", "note", "status", "refcheck")
        for name in fields:
            if reply.get(name) is not None:
                setattr(record, name, reply[name])
        notes = [record.note, self.case.remark if what == "time" and not self.all.quick else ""]
        if record.backend == "reference":
            notes.insert(0, "on the reference backend")
        record.note = "; ".join(note for note in notes if note)
        if "work" in reply:
            self._share(record, *reply["work"])
        return record

    def _share(self, record: Record, moved: float, operations: float, ceiling: str) -> None:
        record.bytes, record.operations = moved, operations
        rates = self.all.ceilings
        if rates.get("copy") and rates.get(ceiling):
            bounds = {"copy": moved / rates["copy"], ceiling: operations / rates[ceiling]}
            record.ceiling = max(bounds, key=lambda name: bounds[name])
            record.share = bounds[record.ceiling] / float(record.value)


def log_file(folder: Path, name: str) -> TextIO:
    """A file for what a process prints."""
    folder.mkdir(parents=True, exist_ok=True)
    return open(folder / name, "w")
