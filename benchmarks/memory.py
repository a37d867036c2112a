"""Peak memory of one method on one case, in a process of its own.

python -m benchmarks.memory CASE METHOD [--quick]        prints {"before": bytes, "peak": bytes}
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Memory:
    """Bytes of a process in physical memory, as the kernel counts them: before a run and at its peak."""

    before: int
    peak: int

    @property
    def added(self) -> int:
        return self.peak - self.before


def status_bytes(name: str) -> int:
    """One field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


def watch(run: Callable[[], Any]) -> Memory:
    """Peak memory of `run`. Use a fresh process: memory that earlier work left to the allocator is not new.

    The peak is VmHWM, set back to the present level just before the run. (ru_maxrss cannot be set back,
    and a started program inherits the level of the one that started it.)
    """
    gc.collect()
    # What loading and warming up freed goes back to the kernel; the run would else reuse it uncounted.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    run()
    return Memory(before, status_bytes("VmHWM"))


def measure(case: str, method: str, quick: bool = False) -> Memory:
    """The same, from outside: starts the process and reads its answer."""
    command = [sys.executable, "-m", "benchmarks.memory", case, method, *(["--quick"] if quick else [])]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Memory(**json.loads(answer.splitlines()[-1]))


def main() -> int:
    """The process that is measured."""
    from benchmarks.cases import CASES

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("method")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    case = CASES[options.case]
    contender = next(c for c in case.contenders if c.name == options.method)
    contender.prepare(case.warm_up_data())()
    print(json.dumps(asdict(watch(contender.prepare(case.data(options.quick))))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
