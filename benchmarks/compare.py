"""Measure fastcore beside other libraries on real features.

    python -m benchmarks                              every case; some minutes, wants a quiet machine
    python -m benchmarks --case k_center --repeats 5
    python -m benchmarks --quick                      digits, a few seconds: does the harness work?

All methods of a case are timed in turn in this one process; the picks are checked; memory and start-up are
measured in fresh processes. Each case is one CSV file in the folder of results, and one plot shows them all.

Exit code: 0 when all picks are right, however slow; 1 when picks are wrong; 2 when something is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import features, harness, memory, networks, plot, startup
from benchmarks.cases import CASES, OURS, Case, Contender, Outcome, target_rows
from benchmarks.harness import Row, Timing, console
from benchmarks.network_cases import NETWORK_CASES
from benchmarks.peers import Data
from benchmarks.refcheck import Verdict, check_list, compare, judge

STARTUP = "startup"
NOT_ROUNDING = 1e-3  # a peer whose pick falls this far short answers another question


def as_picks(result: Any) -> np.ndarray:
    """Row numbers of a result: a Selection, or a sequence of numbers."""
    return np.asarray(getattr(result, "indices", result), dtype=np.int64)


def prepare(case: Case, data: Data) -> tuple[list[Contender], dict[str, Callable[[], Any]]]:
    """The contenders that are installed, warmed up, and the calls to time."""
    present, runs = [], {}
    for contender in case.contenders:
        try:
            contender.prepare(case.warm_up_data())()
        except ImportError as error:
            if contender.name == OURS:
                raise
            console.print(f"[yellow]{contender.name} is left out: {error}[/]")
            continue
        present.append(contender)
        runs[contender.name] = contender.prepare(data)
    return present, runs


def check(case: Case, data: Data, timings: dict[str, Timing], who: list[Contender]) -> dict[str, Verdict]:
    """A verdict for every method that picks: ours against the definition, the others against ours."""
    objective = case.objective(data)
    ours = as_picks(timings[OURS].result)
    check_list(ours, len(data.features), data.k)
    verdicts = {OURS: judge(objective, ours, case.judged_steps)}
    for contender in who:
        if contender.name != OURS and not contender.yardstick:
            theirs = as_picks(timings[contender.name].result)
            check_list(theirs, len(data.features), data.k)
            verdicts[contender.name] = compare(objective, ours, theirs)
    return verdicts


def explain(name: str, verdict: Verdict) -> str | None:
    """Why a verdict fails the run, or None. A peer may part from ours by its own float32 rounding."""
    if name == OURS:
        right = verdict.word == "right"
        return None if right else f"{name} is {verdict.word}, {verdict.ours_short:.1e} short of the best"
    if not verdict.word.startswith("differs"):
        return None
    if verdict.ours_short > verdict.theirs_short:
        return f"{name} {verdict.word}, where our pick is {verdict.ours_short:.1e} short of the best"
    if verdict.theirs_short > NOT_ROUNDING:
        return f"{name} {verdict.word}, where its pick is {verdict.theirs_short:.1e} short of the best"
    return None


def shown(verdict: Verdict | None) -> str:
    """The verdict as it stands in the table."""
    if verdict is None:
        return ""
    if verdict.word.startswith("differs"):
        return f"{verdict.word} (its pick {verdict.theirs_short:.0e} short)"
    return verdict.word


def measure_case(case: Case, options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Rows of one case, and what is wrong with the picks."""
    data = case.data(options.quick)
    size: dict[str, Any] = {"rows": len(data.features), "width": data.features.shape[1], "k": data.k}
    who, runs = prepare(case, data)
    timings = harness.interleaved(runs, options.repeats or case.repeats, tick)
    watched = None if options.no_memory else memory.measure(case.name, OURS, options.quick)
    verdicts = check(case, data, timings, who)

    rows = []
    base = timings[OURS].median
    for contender in who:
        timing, verdict = timings[contender.name], verdicts.get(contender.name)
        low, middle, high = timing.quartiles()
        row = Row(case.name, contender.name, "time", "s", middle, low, high, len(timing.seconds), **size)
        version = harness.version_of(contender.package)
        rows.append(dataclasses.replace(row, ratio=middle / base, refcheck=shown(verdict), version=version))
    outcome = Outcome(data, timings, watched, [c.name for c in who if c.name != OURS and not c.yardstick])
    for key in case.counts:
        if key in outcome.info:
            per_row = key == "evaluations"
            value = float(np.sum(outcome.info[key])) / (len(data.features) if per_row else 1)
            rows.append(Row(case.name, OURS, f"{key} / n" if per_row else key, "", value, **size))
    if watched:
        rows.append(Row(case.name, OURS, "memory added", "MB", watched.added / 1e6, **size))
    if not options.quick:
        rows += target_rows(case, outcome)
    wrong = [f"{case.name}: {text}" for name, v in verdicts.items() if (text := explain(name, v))]
    return rows, wrong


def tick(name: str, seconds: float) -> None:
    """One line on a terminal while a long case runs."""
    if console.is_terminal:
        console.print(f"  {name}: {harness.duration(seconds)}", style="dim")


def measure_startup(options: argparse.Namespace) -> list[Row]:
    """Rows of the import and the cold build."""
    repeats = options.repeats or (1 if options.quick else 5)
    return startup.measure_import(repeats) + startup.measure_build(min(repeats, 3))


def run(options: argparse.Namespace) -> int:
    """Measure what was asked for; the exit code."""
    names = options.case or [*CASES, *NETWORK_CASES, STARTUP]
    needed = max((CASES[name].rows for name in names if name in CASES), default=0)
    if needed and not options.quick:
        features.make(needed)
    if set(names) & NETWORK_CASES.keys() and not options.quick:
        networks.make()
    facts = harness.machine()
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), style="dim")
    out = options.out or (None if options.quick else Path(__file__).parent / "results")
    every: list[Row] = []
    wrong: list[str] = []
    for name in names:
        if name == STARTUP:
            title, rows = "import and native build", measure_startup(options)
        elif name in NETWORK_CASES:
            case = NETWORK_CASES[name]
            title, rows = case.title, case.measure(options.repeats or case.repeats, options.quick)
        else:
            title = CASES[name].title
            rows, mistakes = measure_case(CASES[name], options)
            wrong += mistakes
        harness.print_rows(f"{name}: {title}", rows)
        every += rows
        if out:
            harness.write_csv(out / f"{name}.csv", rows, facts)
    if any(row.target for row in every):
        harness.print_targets(every)
    if out and (picture := plot.draw(out)):
        console.print(f"records and {picture.name} are in {out}")
    for text in wrong:
        console.print(f"[red]wrong picks: {text}[/]")
    return 1 if wrong else 0


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=lines[0], epilog=lines[-1], allow_abbrev=False
    )
    parser.add_argument(
        "--case", action="append", choices=[*CASES, *NETWORK_CASES, STARTUP], help="may be repeated"
    )
    parser.add_argument("--repeats", type=int, help="instead of the case's own number")
    parser.add_argument("--quick", action="store_true", help="small input, no targets, no records")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory measurements")
    parser.add_argument("--out", type=Path, help="folder of the records (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    if options.repeats is not None and options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}, takes 1 or more")
    try:
        return run(options)
    except features.MissingError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
