"""A process that runs one step of a case after the other, as its parent asks: a line of JSON in, a line out.

The parent kills it when a step takes too long, and starts another. The answers go to what was standard output;
everything that is printed meanwhile goes to standard error.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from typing import Any

import torch

from benchmarks.gpu import clock
from benchmarks.gpu.case import Case, Data, Size
from benchmarks.gpu.faults import FAULTS
from fastcore.greedy import fastest

NOTES = (
    "passes",
    "columns",
    "tensor_core_columns",
    "fused_columns",
    "refined_pairs",
    "evaluations",
    "refinements",
    "steps",
    "refreshes",
)
WHOLE = ("triton-submodular",)  # peers whose time is not in proportion to the picks
PEER_REPEATS = 3


class Worker:
    """The steps, and what one leaves for the next: the data of a size and the selection made of it."""

    def __init__(self, device: torch.device, quick: bool) -> None:
        from benchmarks.gpu.cases import CASES

        self.cases: dict[str, Any] = {**CASES, **FAULTS}
        self.device, self.quick, self.clock = device, quick, clock.Clock(device)
        self._held: tuple[str, Size] | None = None
        self._data: Data | None = None
        self._selection: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Runs what is asked for. What goes wrong is in the answer."""
        what = request["what"]
        if what == "ceilings":
            card = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
            return {"ceilings": clock.ceilings(self.clock, self.quick), "card": card}
        case: Case = self.cases[request["case"]]
        if what == "reference":
            return {"refcheck": case.reference(self.quick, self.device)}
        size = Size(**request["size"])
        data = self._prepared(case, size)
        if what == "time":
            return self._time(case, data, size, request["budget"])
        if what == "check":
            return {"refcheck": case.check(data, size, self._selection)}
        return self._peer(case, data, size, what, request["budget"])

    def _prepared(self, case: Case, size: Size) -> Data:
        if self._held != (case.name, size) or self._data is None:
            self._held, self._data, self._selection = None, None, None
            self.clean()
            self._data = case.make(size, self.device)
            self._held = (case.name, size)
        return self._data

    def clean(self) -> None:
        """Frees what earlier steps left."""
        gc.collect()
        self.clock.clean()

    def _time(self, case: Case, data: Data, size: Size, budget: float) -> dict[str, Any]:
        measured = self.clock.measure(lambda: case.select(data, size), budget)
        self._selection, info = measured.result, measured.result.info
        low, middle, high = measured.percentiles()
        work = case.work(size, info)
        notes = [f"{key} {info[key]:,}" for key in NOTES if key in info]
        if compared := fastest.news():
            notes.append(f"a column of a sweep: {compared}")
        return {
            "value": middle,
            "low": low,
            "high": high,
            "repeats": len(measured.seconds),
            "peak_bytes": measured.peak_bytes or info.get("peak_bytes") or "",
            "backend": info.get("backend", ""),
            "work": [work.bytes, work.operations, work.ceiling],
            "note": ", ".join(notes),
        }

    def _peer(self, case: Case, data: Data, size: Size, name: str, budget: float) -> dict[str, Any]:
        units = case.units(size)
        run = case.prepared(name, data, size)
        count = few = min(units, case.few)
        run(few)  # compiles, and fills caches
        if name in WHOLE:
            count = units
        else:
            seconds, _ = self.clock.once(lambda: run(few))
            count = max(few, min(units, int(budget / PEER_REPEATS * few / max(seconds, 1e-9))))
        measured = self.clock.measure(lambda: run(count), budget, most=PEER_REPEATS)
        low, middle, high = (seconds * units / count for seconds in measured.percentiles())
        reply = {
            "value": middle,
            "low": low,
            "high": high,
            "repeats": len(measured.seconds),
            "peak_bytes": measured.peak_bytes or "",
            "note": "" if count == units else f"scaled from {count:,} of {units:,} {case.unit}",
        }
        if case.grows and count < units:
            reply["note"] += ", of which later ones take longer: a lower bound"
        if self._selection is not None:
            reply["refcheck"] = case.agrees(data, self._selection, measured.result)
        if name in case.peer_work:
            work = case.peer_work[name](size, {} if self._selection is None else self._selection.info)
            reply["work"] = [work.bytes, work.operations, work.ceiling]
        return reply


def guarded(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """The answer, or what went wrong: out of memory, not installed, or an error."""
    try:
        return {"status": "ok", **worker.answer(request)}
    except (torch.OutOfMemoryError, MemoryError) as error:
        text = str(error)
        status = "out of memory"
    except ImportError as error:
        text, status = f"not installed: {error}", "skipped"
    except Exception as error:  # whatever it is, the other steps go on
        text, status = f"{type(error).__name__}: {error}", "failed"
        if "can't allocate memory" in text:
            status = "out of memory"
    print(f"{request}: {status}: {text}", file=sys.stderr, flush=True)
    # A peer that ran out of memory may leave the rest of it in a traceback.
    worker.clean()
    # After such an error every call on the device fails: another process goes on.
    return {"status": status, "note": " ".join(text.split())[:200], "broken": "CUDA error" in text}


def main() -> int:
    """Answers requests until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        device = torch.device(options.device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        worker = Worker(device, options.quick)
    except Exception as error:  # no such device, or none that works
        note = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        print(json.dumps({"status": "failed", "note": note, "broken": True}), file=answers, flush=True)
        raise
    print(json.dumps({"status": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        reply = guarded(worker, json.loads(line))
        print(json.dumps(reply), file=answers, flush=True)
        if reply.get("broken"):
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
