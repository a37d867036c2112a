"""The script for a GPU, tried out on the processor: all phases, and cases that go wrong."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu import loops, schedule, worker
from benchmarks.gpu.case import IMAGENET, Size, Work
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.faults import FAULTS
from benchmarks.gpu.records import Record, RecordFile, table
from benchmarks.refcheck import FacilityLocation, GraphCut, Herding, KCenter, judge
from fastcore.numerics import assume_tensor_cores

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "run_gpu.sh"
UNITS = {"s", "x", "GB/s", "TFLOP/s", "passed", "cases", ""}
FACTS = ("device", "card", "driver", "torch", "cuda", "python", "commit", "sources", "date")


def script(out: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]:
    """Runs the script on the processor: what it printed, and the rows of its CSV."""
    command = [str(SCRIPT), "--device", "cpu", "--quick", "--output", str(out), *arguments]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    with open(out / "gpu.csv", newline="") as file:
        return done, list(csv.DictReader(file))


def check_columns(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert all(row[name] for name in FACTS), row
        assert row["unit"] in UNITS and row["status"] in (
            "ok",
            "failed",
            "timeout",
            "out of memory",
            "skipped",
        )
        for name in ("value", "low", "high", "target", "bytes", "operations", "share", "ratio", "peak_bytes"):
            float(row[name] or 0)
        assert row["met"] in ("", "met", "not met", "not measured")


@pytest.mark.slow
def test_all_phases_and_all_cases(tmp_path: Path) -> None:
    done, rows = script(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    check_columns(rows)
    assert {row["status"] for row in rows} == {"ok"}
    by_case = {name: [row for row in rows if row["case"] == name] for name in {row["case"] for row in rows}}
    assert by_case.keys() == {"build", "tests", "sanitizer", "ceiling", *CASES}
    assert [float(row["value"]) > 0 for row in by_case["tests"]] == [True, True]
    rates = {row["who"]: float(row["value"]) for row in by_case["ceiling"]}
    assert len(rates) == 5 and min(rates.values()) > 0
    assert all("not a card's" in row["note"] for row in by_case["ceiling"])
    for name in CASES:
        mine = [row for row in by_case[name] if row["who"] == "fastcore"]
        assert {row["quantity"] for row in mine} == {"picks", "time"}
        for row in mine:
            assert row["refcheck"] and not any(word in row["refcheck"] for word in ("differs", "wrong", ":"))
        timed = [row for row in mine if row["quantity"] == "time"]
        assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in timed)
        assert all(float(row["bytes"]) > 0 and float(row["operations"]) > 0 for row in timed)
        assert all(0 < float(row["share"]) for row in timed)
    assert done.stdout.rstrip().splitlines()[-1].startswith(str(tmp_path / "gpu.csv"))


@pytest.mark.slow
def test_cases_that_raise_hang_or_die_leave_the_other_rows(tmp_path: Path) -> None:
    names = "herding,raises,hangs,dies,graph_cut"
    done, rows = script(tmp_path, "--cases", names, "--skip", "tests,sanitizer,ceilings", "--limit", "6")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    check_columns(rows)
    times = [row for row in rows if row["quantity"] == "time"]
    ours = [(row["case"], row["status"], row["note"]) for row in times if row["who"] == "fastcore"]
    assert [case for case, *_ in ours] == [
        "herding",
        *2 * ["raises"],
        *2 * ["hangs"],
        *2 * ["dies"],
        "graph_cut",
    ]
    said = {case: (status, note) for case, status, note in reversed(ours)}
    assert said["raises"] == ("failed", "ArithmeticError: wrong on purpose")
    assert said["hangs"] == ("timeout", "killed after 6 s")
    assert said["dies"] == ("failed", "the process ended with -9")
    assert ours[2][1:] == ("skipped", "failed at n = 10")  # the larger size is not tried
    for name in ("herding", "graph_cut"):
        assert said[name][0] == "ok"
        mine = next(row for row in times if row["case"] == name and row["who"] == "fastcore")
        assert "as in float64" in mine["refcheck"] and "right" in mine["refcheck"]
        peer = next(row for row in times if row["case"] == name and row["who"] == "plain torch loop")
        assert float(peer["ratio"]) == pytest.approx(float(peer["value"]) / float(mine["value"]), rel=1e-3)
    assert {row["met"] for row in times if row["case"] in FAULTS} == {"not measured", ""}


def test_time_that_is_over_skips_what_is_left(tmp_path: Path) -> None:
    done, rows = script(tmp_path, "--skip", "tests,sanitizer,ceilings", "--deadline", "1")
    assert "no time left" in done.stdout
    ours = [row for row in rows if row["who"] == "fastcore" and row["quantity"] == "time"]
    assert {row["case"] for row in ours} == set(CASES)
    assert {row["status"] for row in ours} == {"skipped"}


def test_a_wrong_name_is_one_line(tmp_path: Path) -> None:
    command = [str(SCRIPT), "--cases", "k_centre", "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2 and "'k_centre' is not one of k_center" in done.stderr


def test_the_targets_are_those_at_full_size() -> None:
    full = {name: [size for size in case.sizes if size.target is not None] for name, case in CASES.items()}
    seconds = {name: [size.target for size in sizes] for name, sizes in full.items()}
    assert seconds == {
        "k_center": [2, 15], "graph_cut": [2], "herding": [8], "contextual_diversity": [4], "cal": [3],
        "glister": [15], "facility_location_balanced": [0.8], "facility_location": [120], "log_det": [1],
        "gradmatch": [2], "craig": [1.5], "deepfool": [], "facility_location_float32": [],
    }  # fmt: skip
    assert CASES["deepfool"].speed_up == 30 and CASES["k_center"].speed_up == 5
    assert [size.k for size in full["k_center"]] == [12_812, 128_117]
    assert all(size.n in (IMAGENET, 1_281_000, 100_000) for sizes in full.values() for size in sizes)
    for case in CASES.values():
        assert [size.n for size in case.sizes] == sorted(size.n for size in case.sizes)


def test_counts_are_those_of_the_formulas() -> None:
    size = Size(IMAGENET, 12_812)
    assert CASES["k_center"].work(size, {"passes": 30}) == Work(
        30 * 4.0 * IMAGENET * 512, 2.0 * IMAGENET * 12_812 * 512
    )
    assert CASES["herding"].work(size, {}).bytes == pytest.approx(8.4e12, rel=0.01)
    balanced = Size(1_281_000, 128_100, classes=1000)
    gram = CASES["craig"].work(balanced, {})
    assert 2 * gram.operations == pytest.approx(2 * 1000 * 1281**2 * 1512)  # 5 TFLOP, of which half is made
    assert CASES["log_det"].work(Size(100_000, 2000), {"passes": 10}).ceiling == "float64"
    whole, columns = CASES["facility_location"].work, 3 * IMAGENET
    plain = whole(size, {"columns": columns})
    assert plain == Work(4.0 * IMAGENET * columns * 3, 2.0 * IMAGENET * columns * 512)
    rounded = whole(size, {"columns": columns, "tensor_core_columns": columns, "refined_pairs": 10**6})
    assert rounded == Work(plain.bytes, plain.operations, "tf32")
    assert whole(size, {"columns": columns, "tensor_core_columns": columns // 2}).ceiling == "float32"


def test_the_case_without_tensor_cores_uses_none() -> None:
    size = Size(400, 40)
    made = CASES["facility_location"].make(size, torch.device("cpu"))
    with assume_tensor_cores(True):
        through = CASES["facility_location"].select(made, size, memory=300_000)
        without = CASES["facility_location_float32"].select(made, size, memory=300_000)
    assert "tensor_core_columns" in through.info and "tensor_core_columns" not in without.info
    assert through.indices.tolist() == without.indices.tolist()


def test_a_target_is_judged_in_its_unit() -> None:
    for unit, value, met in (
        ("s", 1.9, "met"),
        ("s", 2.1, "not met"),
        ("x", 1.9, "not met"),
        ("x", 2.0, "met"),
    ):
        record = Record("case", "fastcore", unit=unit, value=value, target=2.0)
        record.judge()
        assert record.met == met
    record = Record("case", "fastcore", status="timeout", target=2.0)
    record.judge()
    assert record.met == "not measured"


def test_the_file_is_whole_after_every_row(tmp_path: Path) -> None:
    out = RecordFile(tmp_path / "new" / "gpu.csv", {"card": "none, here"})
    first = out.add(Record("a", "fastcore", n=10, value=0.5))
    out.add(Record("b", "peer, lazy", status="out of memory", note='says "no"'))
    first.refcheck = "right"
    out.save()
    with open(out.path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["refcheck"], row["card"]) for row in rows] == [
        ("a", "right", "none, here"), ("b", "", "none, here"),
    ]  # fmt: skip
    assert [path.name for path in out.path.parent.iterdir()] == ["gpu.csv"]
    text = table(out.records)
    assert "500 ms" in text and "out of memory" in text


class Answers:
    """Stands for a worker: replies in turn."""

    def __init__(self, *replies: dict[str, Any]) -> None:
        self.replies, self.asked = list(replies), list[str]()

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        self.asked.append(f"{request['what']} {request.get('size', {}).get('n', '')}".strip())
        return self.replies.pop(0)


def test_a_peer_out_of_memory_is_noted_and_not_tried_again(tmp_path: Path) -> None:
    ok = {"status": "ok", "value": 1.0, "low": 1.0, "high": 1.0, "repeats": 1, "work": [1e9, 1e9, "float32"]}
    checked = {"status": "ok", "refcheck": "right"}
    full = {"status": "out of memory", "note": "CUDA out of memory. Tried to allocate 149 GiB"}
    hand = Answers(
        checked, ok, checked, {"status": "skipped", "note": "none"}, full, ok, checked, ok, checked
    )
    plain = CASES["facility_location"].steps(quick=False)[:5]
    assert [what for _, what in plain] == [
        "reference",
        "time",
        "check",
        "plain torch loop",
        "triton-submodular",
    ]
    out = RecordFile(tmp_path / "gpu.csv", {"device": "cpu"})
    timetable = schedule.Schedule(hand, out, CASES, False, 40.0)  # type: ignore[arg-type]
    timetable.ceilings = {"copy": 2e9, "float32": 4e9}
    timetable.run(["facility_location"], schedule.time.monotonic() + 1000)
    assert not hand.replies
    assert [text for text in hand.asked if "torch" in text or "triton" in text] == [
        "plain torch loop 50000", "triton-submodular 50000",
    ]  # fmt: skip
    peers = [(r.who, r.n, r.status, r.note) for r in out.records if r.who != "fastcore"]
    assert ("triton-submodular", 50_000, "out of memory", full["note"]) in peers
    assert ("triton-submodular", 200_000, "skipped", "out of memory at n = 50,000") in peers
    mine = next(r for r in out.records if r.quantity == "time")
    assert (mine.ceiling, mine.share) == ("copy", 0.5)


def test_a_worker_answers_whatever_happens() -> None:
    made = worker.Worker(torch.device("cpu"), quick=True)
    size = {"n": 30, "k": 5}
    request = {"case": "herding", "what": "time", "size": size, "budget": 0.0}
    assert worker.guarded(made, request)["repeats"] == 1
    reply = worker.guarded(made, {**request, "what": "plain torch loop"})
    assert reply["status"] == "ok" and reply["value"] > 0
    assert worker.guarded(made, {**request, "case": "raises"})["status"] == "failed"
    made.cases = {"full": _Full()}
    assert worker.guarded(made, {**request, "case": "full"})["status"] == "out of memory"
    assert json.dumps(reply)


class _Full:
    name = "full"

    def make(self, size: Size, device: torch.device) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("loop", "objective"),
    [
        (loops.k_center, KCenter),
        (loops.herding, Herding),
        (loops.graph_cut, GraphCut),
        (loops.facility_location, FacilityLocation),
        (loops.facility_location_tiled, FacilityLocation),
    ],
)
def test_the_plain_loops_are_right(loop: Any, objective: Any) -> None:
    x = torch.rand(60, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    picks = loop(x)(20)
    assert len(set(picks)) == 20
    assert judge(objective(x), torch.tensor(picks).numpy(), steps=20).word == "right"


class Tampered:
    """A selection with two picks of the first class in each other's place."""

    def __init__(self, indices: np.ndarray, classes: int) -> None:
        self.indices = indices.copy()
        self.indices[[0, classes]] = self.indices[[classes, 0]]  # classes take turns


@pytest.mark.parametrize("name", [name for name in CASES if name != "deepfool"])
def test_wrong_picks_are_found(name: str) -> None:
    case, size = CASES[name], CASES[name].quick[0]
    size = dataclasses.replace(size, k=size.classes * 3 or 20)
    data = case.make(size, torch.device("cpu"))
    right = case.select(data, size, backend="reference")
    assert not Record("case", "fastcore", refcheck=case.check(data, size, right)).wrong
    assert Record(
        "case", "fastcore", refcheck=case.check(data, size, Tampered(right.indices, size.classes or 1))
    ).wrong
    right.indices[-1] = right.indices[0]
    with pytest.raises(ValueError, match="different rows"):
        case.check(data, size, right)


def test_the_first_difference() -> None:
    assert loops.first_difference([3, 1, 2], [3, 1]) is None
    assert loops.first_difference([3, 1, 2], [3, 2, 1]) == 1
