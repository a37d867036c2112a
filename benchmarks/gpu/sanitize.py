"""Runs small cases of every op of the op table on a device: the program that compute-sanitizer watches."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter, defaultdict

from benchmarks.gpu import standins

standins.install()

from benchmarks.gpu.phases import INCOMPLETE  # noqa: E402
from tests.ops.backends import CPU_ONLY, GRID, run  # noqa: E402
from tests.ops.cases import CASES, Case  # noqa: E402

NUMBERS = 40_000  # in the arguments of a case, at most: every access is checked


def in_turns() -> list[Case]:
    """Small cases, one of each op, then the next of each: every op is reached early."""
    groups = defaultdict(list)
    for case in CASES:
        if case.op not in CPU_ONLY:
            numbers = sum(value.numel() for value in case.arguments().values() if hasattr(value, "numel"))
            if numbers <= NUMBERS:
                groups[case.op].append((numbers, case))
    # Small and large ones alternate, so that both are reached.
    rows = [[case for _, case in sorted(group, key=lambda pair: pair[0])] for group in groups.values()]
    mixed = [[case for pair in zip(row, reversed(row)) for case in pair][: len(row)] for row in rows]
    return [case for turn in itertools.zip_longest(*mixed) for case in turn if case is not None]


def main() -> int:
    """Status 1 when an op cannot be run, INCOMPLETE when the time was over before all had their turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    backend = options.device.partition(":")[0]
    done: Counter[str] = Counter()
    cases = in_turns()
    end = time.monotonic() + options.seconds
    for case in cases:
        if time.monotonic() > end:
            break
        for kind in (backend, f"{backend}-grid") if case.op in GRID else (backend,):
            run(case.op, case.arguments(), kind)
        done[case.op] += 1
    missing = sorted({case.op for case in cases} - done.keys())
    print(f"RAN {done.total()} of {len(cases)} cases of {len(done)} ops", flush=True)
    if missing:
        print(f"not reached: {', '.join(missing)}", flush=True)
    return INCOMPLETE if missing else 0


if __name__ == "__main__":
    sys.exit(main())
