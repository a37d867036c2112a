"""Build, test and measure on one device: see benchmarks/run_gpu.sh.

Phases: build; op table, contract of the methods and compute-sanitizer, side by side; ceilings; cases, cheapest
first. All share one deadline. Results: gpu.csv, logs and test reports in the output folder; a table last. The CSV
has every row of a whole run from the start: what is not measured has no value and a note why.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.gpu import phases, standins
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.facts import ROOT, facts
from benchmarks.gpu.faults import FAULTS
from benchmarks.gpu.records import LEFT_OUT, Record, RecordFile
from benchmarks.gpu.report import short, summary, table
from benchmarks.gpu.schedule import Hand, Schedule, log_file, planned

TESTS_SHARE, SANITIZER_SHARE = 0.25, 0.2  # of the deadline
PHASE_OF = {"tests": "tests", "sanitizer": "sanitizer", "ceiling": "ceilings"}  # rows that are of no case
PHASES = (*PHASE_OF.values(), "cases")


def arguments(given: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser("benchmarks/run_gpu.sh", description=(__doc__ or "").split("\n")[0])
    out = Path(os.environ.get("OUT") or ROOT / "benchmarks" / "results" / "gpu")
    parser.add_argument("--device", default="cuda:0", help="cuda:0, or cpu to try the script out")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, a few tests")
    parser.add_argument("--output", type=Path, default=out, help=f"folder of the results ({out})")
    parser.add_argument("--deadline", type=float, default=520.0, help="seconds for everything")
    parser.add_argument("--limit", type=float, default=40.0, help="seconds for a step of a case")
    parser.add_argument("--cases", default=",".join(CASES), help="names of cases, with commas between")
    parser.add_argument("--skip", default="", help=f"phases to leave out, of {', '.join(PHASES)}")
    options = parser.parse_args(given)
    options.device = "cuda:0" if options.device == "cuda" else options.device
    options.cases = [*dict.fromkeys(name for name in options.cases.split(",") if name)]
    options.skip = [name for name in options.skip.split(",") if name]
    for value, allowed in ((options.cases, {**CASES, **FAULTS}), (options.skip, PHASES)):
        if wrong := [name for name in value if name not in allowed]:
            parser.error(f"{wrong[0]!r} is not one of {', '.join(allowed)}")
    return options


def plan(options: argparse.Namespace) -> list[Record]:
    """All rows of a whole run, those that are asked for first."""
    every = {**FAULTS, **CASES}
    asked = [every[name] for name in options.cases]
    others = [case for case in CASES.values() if case.name not in options.cases]
    return [*phases.planned(options.device), *planned([*asked, *others], options.quick)]


def leave_out(options: argparse.Namespace, out: RecordFile) -> None:
    """Marks the rows that the command line leaves out."""
    for name in options.skip:
        reason = f"{LEFT_OUT} --skip {name}"
        out.leave(reason, functools.partial(_of_phase, name))
    known = {*options.cases, *PHASE_OF, "build"}
    out.leave(f"{LEFT_OUT} --cases", lambda record: record.case not in known)


def _of_phase(phase: str, record: Record) -> bool:
    return record.case != "build" and PHASE_OF.get(record.case, "cases") == phase


def check_phase(options: argparse.Namespace, out: RecordFile, seconds: float) -> None:
    """Tests and compute-sanitizer side by side."""
    tests: list[phases.Task] = []
    watched: list[phases.Task] = []
    if "tests" not in options.skip:
        tests = phases.test_tasks(options.device, options.output, seconds, options.quick)
    if "sanitizer" not in options.skip:
        shorter = min(seconds, options.deadline * SANITIZER_SHARE)
        watched, why = phases.sanitizer_tasks(options.device, options.output, shorter)
        if not watched:
            out.leave(why, lambda record: record.case == "sanitizer")
    ended = phases.run_together([*tests, *watched], options.output)
    for name in phases.SUITES:
        parts = [each for each in ended if each.task.name.partition("-")[0] == name]
        if parts:
            out.add(phases.test_record(name, parts))
    for each in ended:
        if each.task.kind == "sanitizer":
            out.add(phases.sanitizer_record(each))


def main(given: list[str] | None = None) -> int:
    """Runs the phases; the exit status."""
    begin = time.monotonic()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that the processes it has started end as well
    options = arguments(given)
    options.output = options.output.resolve()
    if standins.MISSING:
        print(f"not installed: {', '.join(standins.MISSING)}; stand-ins or fewer tests take their place")
    out = RecordFile(options.output / "gpu.csv", facts(options.device), plan(options))
    leave_out(options, out)
    print(", ".join(f"{name} {value}" for name, value in out.facts.items()), flush=True)

    record = phases.build(options.device, options.output, min(150.0, 0.4 * options.deadline))
    out.add(record)
    check_phase(options, out, TESTS_SHARE * options.deadline)
    for each in out.records:
        if each.case in ("build", "tests", "sanitizer"):
            print(f"{each.case}, {each.who}: {each.status}, {each.note}", flush=True)

    deadline = begin + options.deadline - 5
    with log_file(options.output, "worker.log") as log:
        hand = Hand(options.device, options.quick, log)
        schedule = Schedule(hand, out, {**CASES, **FAULTS}, options.quick, options.limit)
        try:
            if "ceilings" not in options.skip:
                schedule.measure_ceilings(min(60.0, max(5.0, deadline - time.monotonic())))
            if "cases" not in options.skip:
                schedule.run(options.cases, deadline)
        finally:
            hand.stop()
    print(f"\n{table(out.records)}\n\n{short(out.records)}\n\n{summary(out.records)}")
    print(f"{out.path}, {time.monotonic() - begin:.0f} s")
    return 1 if out.trouble() else 0


if __name__ == "__main__":
    sys.exit(main())
