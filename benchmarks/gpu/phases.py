"""Build, tests and compute-sanitizer: processes with a time limit, and one row for what each of them found."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu import standins
from benchmarks.gpu.facts import ROOT
from benchmarks.gpu.records import Record
from benchmarks.gpu.schedule import log_file

PLUGIN = ("-p", "benchmarks.gpu.on_device", "-p", "no:cacheprovider", "-q", "--tb=short", "--maxfail=25")
OPS = ("tests/ops/test_reference.py", "tests/ops/test_brute_force.py", "tests/ops/test_hyperplanes.py")
OTHERS = {  # further tests that are marked `gpu`, and what their modules import
    "tests/greedy/test_glister.py": (),
    "tests/greedy/test_matching_pursuit.py": ("scipy",),
    "tests/greedy/test_rounded_products.py": (),
    "tests/signals/test_extract.py": (),
}
CONTRACT = "tests/api/test_contract.py"
SAME = "benchmarks/gpu/same_picks.py"
TOOLS = ("memcheck", "racecheck")
LAST_TEST = 12.0  # seconds from the beginning of the last test to the end of them all
ERRORS = 99  # the exit status of compute-sanitizer where it found something
INCOMPLETE = 3  # that of the program it watches where not all ops had their turn
SUITES = {"ops": "op table", "contract": "contract of the methods"}


def planned(device: str) -> list[Record]:
    """The rows that these phases make."""
    rows = [Record("build", f"native library, {device.partition(':')[0]}", quantity="build")]
    rows += [Record("tests", name, quantity="tests", unit="passed") for name in SUITES.values()]
    tools = TOOLS if device.startswith("cuda") else ("driver",)
    return rows + [Record("sanitizer", name, quantity="cases", unit="cases") for name in tools]


@dataclass
class Task:
    """A process, the seconds it may take, and where what it prints goes."""

    name: str
    command: list[str]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)
    kind: str = "tests"  # or "sanitizer"


@dataclass
class Ended:
    """What became of a task; status None: it was killed."""

    task: Task
    status: int | None
    log: Path
    seconds: float


def run_together(tasks: list[Task], folder: Path) -> list[Ended]:
    """Runs tasks side by side and waits for all; one that takes too long is killed."""
    running = []
    for task in tasks:
        path = folder / f"{task.name}.log"
        log = log_file(folder, path.name)
        process = subprocess.Popen(
            task.command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={"OMP_NUM_THREADS": "1", **os.environ, **task.environment},
            start_new_session=True,
        )
        running.append((task, process, path, log, time.monotonic()))
    ended = []
    try:
        for task, process, path, log, begun in running:
            try:
                status: int | None = process.wait(max(0.1, begun + task.seconds - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill(process)
                status = None
            log.close()
            ended.append(Ended(task, status, path, time.monotonic() - begun))
    finally:  # nothing outlives an interruption
        for _, process, *_ in running:
            _kill(process)
    return ended


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it has started, if it has not ended."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# ---- build ------------------------------------------------------------------------------------------------

BUILD = """
import json, sys, time
begin = time.perf_counter()
from benchmarks.gpu import standins
from fastcore.ops import native
kind = sys.argv[1]
problem = native.problem(kind)
facts = native.build_info()
seconds = time.perf_counter() - begin
facts = {name: str(value) for name, value in facts.items()}
print("BUILD " + json.dumps({"problem": problem, "seconds": seconds, "facts": facts}))
"""


def build(device: str, folder: Path, seconds: float) -> Record:
    """Builds the library and runs its self-test for this kind of device."""
    kind = device.partition(":")[0]
    task = Task("build", [sys.executable, "-c", BUILD, kind], seconds)
    ended = run_together([task], folder)[0]
    text = ended.log.read_text(errors="replace")
    line = next((line for line in text.splitlines() if line.startswith("BUILD ")), None)
    record = Record("build", f"native library, {kind}", quantity="build")
    if line is None:
        record.status = "timeout" if ended.status is None else "failed"
        record.note = text.strip().splitlines()[-1] if text.strip() else f"see {ended.log.name}"
        return record
    found = json.loads(line.removeprefix("BUILD "))
    record.value, record.status = found["seconds"], "failed" if found["problem"] else "ok"
    facts = found["facts"]
    cuda = f"CUDA {facts['cuda']} for {facts['cuda_archs']}" if facts.get("cuda_archs") else "without CUDA"
    record.note = " ".join((found["problem"] or cuda).split())[:200]
    return record


# ---- tests ------------------------------------------------------------------------------------------------


def test_tasks(device: str, folder: Path, seconds: float, quick: bool) -> list[Task]:
    """The op table, and the contract of the methods in parts that run side by side."""
    common = {"FASTCORE_GPU_DEVICE": device, "FASTCORE_GPU_STOP_AT": str(time.time() + seconds - LAST_TEST)}
    others = [path for path, needs in OTHERS.items() if all(map(importlib.util.find_spec, needs))]
    if "pytest" in standins.MISSING:  # they have fixtures
        others = []
    gpu = device.startswith("cuda")
    ops = [*OPS, *others] if gpu else [*OPS]
    chosen = ["-m", "gpu"] if gpu else ["-k", "cpu"]
    contract: list[str] = [CONTRACT, SAME]
    if quick:
        ops, chosen = [OPS[0]], ["-k", "cpu and squared_norms"]
        contract = [
            CONTRACT,
            SAME,
            "-k",
            "(one_ground_set and herding and 25) or (same_picks and k_center and random)",
        ]
    parts = 1 if quick else max(1, min(8, (os.cpu_count() or 2) // 2))
    found = [_tests("ops", [*ops, *chosen], folder, seconds, common)]
    for part in range(parts):
        shard = common | {"FASTCORE_GPU_SHARD": f"{part}/{parts}"}
        found.append(_tests(f"contract-{part}", contract, folder, seconds, shard))
    return found


def _tests(name: str, what: list[str], folder: Path, seconds: float, environment: dict[str, str]) -> Task:
    runner = ["pytest", *PLUGIN, f"--junitxml={folder / name}.xml"]
    if "pytest" in standins.MISSING:
        runner = ["benchmarks.gpu.without_pytest", "--xml", f"{folder / name}.xml"]
    command = [sys.executable, "-m", *runner, *what]
    return Task(name, command, seconds, environment)


def test_record(name: str, ended: list[Ended]) -> Record:
    """Tests passed, and failed ones by name, of the parts of one suite."""
    passed, skipped, wrong, cut = 0, 0, list[str](), False
    for part in ended:
        report = part.log.with_suffix(".xml")
        cut = cut or part.status is None or "time is over" in part.log.read_text(errors="replace")
        try:
            found = list(ElementTree.parse(report).iter("testcase"))
        except (OSError, ElementTree.ParseError):  # none was written, or not all of it
            if part.status is not None:
                wrong.append(f"{part.task.name} ended with {part.status}, see {part.log.name}")
            continue
        for test in found:
            bad = test.find("failure") is not None or test.find("error") is not None
            wrong += [str(test.get("name"))] if bad else []
            skipped += test.find("skipped") is not None
            passed += not bad and test.find("skipped") is None
    if not passed and not cut and not wrong:
        wrong.append("no test ran")
    status = "failed" if wrong else "timeout" if cut else "ok"
    note = f"{passed} passed, {len(wrong)} failed, {skipped} skipped"
    note += ", not all were reached" if cut else ""
    if wrong:
        note += f": {', '.join(wrong[:4])}"
    value = float(passed) if passed else ""
    return Record(
        "tests", SUITES[name], quantity="tests", unit="passed", value=value, status=status, note=note
    )


# ---- compute-sanitizer ------------------------------------------------------------------------------------


def sanitizer_tasks(device: str, folder: Path, seconds: float) -> tuple[list[Task], str]:
    """A small driver of every CUDA op under each tool; without a GPU the driver alone. Or why there is none."""
    driver = [sys.executable, "-m", "benchmarks.gpu.sanitize", "--device", device]
    if not device.startswith("cuda"):
        return [Task("driver", [*driver, "--seconds", "5"], seconds, kind="sanitizer")], ""
    program = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if program is None:
        return [], "compute-sanitizer is not installed"
    # Every allocation is its own: an access behind the end of a tensor does not hit the next one.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    tasks = []
    for tool in TOOLS:
        command = [program, "--tool", tool, "--error-exitcode", str(ERRORS)]
        command += ["--print-limit", "20", "--target-processes", "application-only"]
        command += [*driver, "--seconds", f"{0.6 * seconds:.0f}"]
        tasks.append(Task(tool, command, seconds, environment, "sanitizer"))
    return tasks, ""


def sanitizer_record(ended: Ended) -> Record:
    """Cases that ran under a tool, and what it said."""
    lines = ended.log.read_text(errors="replace").splitlines()
    ran = next((line for line in reversed(lines) if line.startswith("RAN ")), "")
    summary = next((line.strip("= ") for line in reversed(lines) if "SUMMARY" in line), "")
    record = Record("sanitizer", ended.task.name, quantity="cases", unit="cases")
    record.value = float(ran.split()[1]) if ran else ""
    cut = ended.status is None or ended.status == INCOMPLETE
    record.status = "timeout" if cut else "failed" if ended.status else "ok"
    refused = next((line.strip("= ") for line in lines if "Device not supported" in line), "")
    if refused:  # the tool cannot watch this card, or not in this virtual machine
        record.status, record.note = "skipped", refused
        return record
    left = next((line for line in reversed(lines) if line.startswith("not reached")), "")
    said = [text for text in (ran, left, summary) if text]
    if ended.status is None:
        said.append(f"killed after {ended.seconds:.0f} s")
    elif not said or (record.status == "failed" and ended.status != ERRORS):
        said.append(f"ended with {ended.status}, see {ended.log.name}")
    record.note = "; ".join(said)
    return record
