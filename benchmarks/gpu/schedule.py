"""The parent of the workers: which step runs when, for how long at most, and what becomes a row."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu.case import Size
from benchmarks.gpu.facts import ROOT
from benchmarks.gpu.records import Record, RecordFile

START_SECONDS = 60.0  # until a worker answers that it is there
LEAST_SECONDS = 3.0  # a step that would have less is not begun
OURS = "fastcore"


class Hand:
    """A worker process: started when something is asked of it, killed when an answer takes too long."""

    def __init__(self, device: str, quick: bool, log: TextIO) -> None:
        arguments = ["--device", device, *(["--quick"] if quick else [])]
        self._command = [sys.executable, "-m", "benchmarks.gpu.worker", *arguments]
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        """The answer to a request, or what became of the worker."""
        if self._process is None:
            ready = self._start(min(START_SECONDS, max(limit, 1.0) + START_SECONDS / 2))
            if ready["status"] != "ready":
                return ready
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
        reply: dict[str, Any] = json.loads(line)
        if reply.get("broken"):
            self.stop()
        return reply


class Schedule:
    """Runs cases one after the other until the time is over."""

    def __init__(self, hand: Hand, out: RecordFile, cases: dict[str, Any], quick: bool, limit: float) -> None:
        self.hand, self.out, self.cases, self.quick, self.limit = hand, out, cases, quick, limit
        self.ceilings: dict[str, float] = {}

    def measure_ceilings(self, limit: float) -> None:
        """One row for each ceiling."""
        reply = self.hand.ask({"what": "ceilings"}, limit)
        if reply["status"] != "ok":
            status, note = reply["status"], reply.get("note", "")
            self.out.add(Record("ceiling", "torch", quantity="rate", status=status, note=note))
            return
        where = self.out.facts["device"]
        for name, (value, unit) in reply["ceilings"].items():
            self.ceilings[name] = value * (1e9 if unit == "GB/s" else 1e12)
            note = "" if where.startswith("cuda") else "of a processor, at a small size: not a card's"
            what = "copy, read and written" if name == "copy" else f"{name} product"
            self.out.add(Record("ceiling", what, quantity="rate", unit=unit, value=value, note=note))

    def run(self, names: Sequence[str], deadline: float) -> None:
        """All steps of these cases. A case may use up to 1.6 times its share of the time that is left."""
        for i, name in enumerate(names):
            left = deadline - time.monotonic()
            until = min(deadline, time.monotonic() + max(20.0, 1.6 * left / (len(names) - i)))
            _Run(self, name, until).steps()


class _Run:
    """The steps of one case."""

    def __init__(self, schedule: Schedule, name: str, until: float) -> None:
        self.all, self.name, self.until = schedule, name, until
        self.case = schedule.cases[name]
        self.ours: Record | None = None
        self.lost: dict[str, str] = {}  # peers that are not tried again, and why

    def steps(self) -> None:
        """All steps; once our own time is missing, nothing larger is tried."""
        gone = ""
        for size, what in self.case.steps(self.all.quick):
            mine = what in ("reference", "time", "check")
            if what in self.lost:
                reply = {"status": "skipped", "note": self.lost[what]}
                self.all.out.add(self._record(size, what, reply))
                continue
            if gone and what != "time":
                continue
            if gone or self.until - time.monotonic() < LEAST_SECONDS:
                reason = gone or "no time left"
                if what == "time":
                    self.all.out.add(self._record(size, what, {"status": "skipped", "note": reason}))
                continue
            limit = self._limit(size, what)
            request: dict[str, Any] = {
                "case": self.name,
                "what": what,
                "budget": (0.15 if mine else 0.08) * limit,
            }
            if size is not None:
                request["size"] = dataclasses.asdict(size)
            print(f"  {self.name}, {what}{f', n = {size.n:,}, k = {size.k:,}' if size else ''}", flush=True)
            reply = self.all.hand.ask(request, limit)
            self._keep(size, what, reply)
            if what == "time" and reply["status"] != "ok":
                gone = f"{reply['status']} at n = {size.n:,}"

    def _limit(self, size: Size | None, what: str) -> float:
        own = size.limit if size is not None and size.limit and what == "time" else self.all.limit
        return min(own, self.until - time.monotonic())

    def _keep(self, size: Size | None, what: str, reply: dict[str, Any]) -> None:
        verdict = reply.get("refcheck") or f"{reply['status']}: {reply.get('note', '')}"
        if what == "reference":
            note = "" if reply["status"] == "ok" else reply.get("note", "")
            status = reply["status"]
            self.all.out.add(
                Record(self.name, OURS, quantity="picks", unit="", status=status, refcheck=verdict, note=note)
            )
        elif what == "check":
            assert self.ours is not None
            self.ours.refcheck = verdict
            self.all.out.save()
        else:
            record = self.all.out.add(self._record(size, what, reply))
            if what == "time":
                self.ours = record
            elif reply["status"] != "ok":
                self.lost[what] = f"{reply['status']} at n = {record.n:,}"
            elif self.ours is not None:
                self._compare(record)

    def _compare(self, peer: Record) -> None:
        """How many times faster we are, as a row with the target."""
        assert self.ours is not None
        peer.ratio = float(peer.value) / float(self.ours.value)
        change: dict[str, Any] = {"quantity": "speed-up", "unit": "x", "value": peer.ratio}
        change["target"] = "" if self.all.quick else self.case.speed_up
        change |= {"who": f"{OURS} over {peer.who}", "ratio": "", "note": peer.note}
        self.all.out.add(dataclasses.replace(peer, **change))

    def _record(self, size: Size | None, what: str, reply: dict[str, Any]) -> Record:
        assert size is not None
        fields = ("value", "low", "high", "repeats", "peak_bytes", "backend", "note", "status")
        given = {key: reply[key] for key in fields if reply.get(key) is not None}
        quick = self.all.quick
        record = Record(self.name, OURS if what == "time" else what, n=size.n, k=size.k, **given)
        record.width = "" if quick else self.case.width or ""
        record.classes = "" if quick else self.case.classes or size.classes or ""
        if what == "time":
            record.target = "" if size.target is None else size.target
            if record.backend == "reference":
                record.note = f"on the reference backend; {record.note}"
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
