"""The script for a GPU, tried out on the processor: all phases, and cases that go wrong."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import benchmarks.gpu.__main__ as script_main
from benchmarks.gpu import phases, schedule, worker
from benchmarks.gpu.case import Size
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.faults import FAULTS
from benchmarks.gpu.records import Record, RecordFile
from benchmarks.gpu.report import short, summary, table

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "run_gpu.sh"
UNITS = {"s", "x", "GB/s", "TFLOP/s", "passed", "cases", ""}
FACTS = ("device", "card", "driver", "torch", "cuda", "python", "commit", "sources", "date")


def script(out: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]:
    """Runs the script on the processor: what it printed, and the rows of its CSV."""
    command = [str(SCRIPT), "--device", "cpu", "--quick", "--output", str(out), *arguments]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done, read(out / "gpu.csv")


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


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
        timed = [row for row in by_case[name] if row["quantity"] == "time"]
        assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in timed)
        assert all(float(row["bytes"]) > 0 and float(row["operations"]) > 0 for row in timed)
        assert all(0 < float(row["share"]) for row in timed)
        peers = [row for row in timed if row["who"] != "fastcore"]
        assert peers or name == "facility_location_float32"
        assert all("ours" in row["refcheck"] and "parts" not in row["refcheck"] for row in peers)
    assert done.stdout.rstrip().splitlines()[-1].startswith(str(tmp_path / "gpu.csv"))


@pytest.mark.slow
def test_cases_that_go_wrong_leave_the_other_rows(tmp_path: Path) -> None:
    names = "herding,raises,hangs,dies,fills,wrong,blind,graph_cut"
    done, rows = script(tmp_path, "--cases", names, "--skip", "tests,sanitizer,ceilings", "--limit", "4")
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-2000:]
    check_columns(rows)
    times = [row for row in rows if row["quantity"] == "time" and row["case"] in names.split(",")]
    ours = [row for row in times if row["who"] == "fastcore"]
    assert list(dict.fromkeys(row["case"] for row in ours)) == names.split(",")
    said = {row["case"]: (row["status"], row["note"]) for row in reversed(ours)}
    assert said["raises"] == ("failed", "ArithmeticError: wrong on purpose")
    assert said["hangs"] == ("timeout", "killed after 4 s")
    assert said["dies"] == ("failed", "the process ended with -9")
    assert said["fills"] == ("out of memory", "CUDA out of memory. Tried to allocate 149 GiB")
    larger = {row["case"]: row["note"] for row in ours if row["status"] == "skipped"}  # not tried
    assert larger == {
        "raises": "ours: failed at n = 10", "hangs": "ours: timeout at n = 10", "dies": "ours: failed at n = 10",
        "fills": "ours: out of memory at n = 10",
    }  # fmt: skip
    checks = {row["case"]: row["refcheck"] for row in ours}
    assert checks["wrong"] == "differs from float64 at 0" and checks["blind"].startswith("failed: ValueError")
    for name in ("herding", "graph_cut"):
        assert said[name][0] == "ok"
        mine = next(row for row in times if row["case"] == name and row["who"] == "fastcore")
        assert "as in float64" in mine["refcheck"] and "right" in mine["refcheck"]
        peer = next(row for row in times if row["case"] == name and row["who"] == "plain torch loop")
        assert float(peer["ratio"]) == pytest.approx(float(peer["value"]) / float(mine["value"]), rel=1e-3)
    met = {case: {row["met"] for row in ours if row["case"] == case and row["target"]} for case in FAULTS}
    assert met.pop("wrong") == met.pop("blind") == {"not met"}  # in time, but not right
    assert list(met.values()) == 4 * [{"not measured"}]
    left = [row for row in rows if row["note"].startswith("left out by --cases")]
    assert {row["case"] for row in left} == CASES.keys() - {"herding", "graph_cut"}


def test_time_that_is_over_leaves_empty_rows(tmp_path: Path) -> None:
    done, rows = script(tmp_path, "--skip", "tests,sanitizer,ceilings", "--deadline", "1")
    assert "no time left" in done.stdout
    wanted = [*phases.planned("cpu"), *schedule.planned(CASES.values(), quick=True)]
    assert [(row["case"], row["who"], row["quantity"]) for row in rows] == [
        (record.case, record.who, record.quantity) for record in wanted
    ]
    for row in rows[1:]:
        assert (row["value"], row["status"]) == ("", "skipped")
        option = {"tests": "tests", "sanitizer": "sanitizer", "ceiling": "ceilings"}.get(row["case"])
        assert row["note"] == (f"left out by --skip {option}" if option else "no time left")


def test_a_wrong_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script_main.arguments(["--cases", "k_centre"])
    assert "'k_centre' is not one of k_center" in capsys.readouterr().err


def fake(request: dict[str, Any], limit: float, end: float) -> dict[str, Any]:
    """Stands for a worker where all is well."""
    work = {"value": 1.0, "low": 1.0, "high": 1.0, "repeats": 1, "work": [1e9, 1e9, "float32"]}
    return {
        "status": "ok",
        "refcheck": "right",
        **(work if request["what"] not in ("check", "reference") else {}),
    }


class Worker:
    ask = staticmethod(fake)


def test_a_whole_run_fills_every_planned_row(tmp_path: Path) -> None:
    out = RecordFile(
        tmp_path / "gpu.csv", {"device": "cuda:0"}, schedule.planned(CASES.values(), quick=False)
    )
    save, out.save = out.save, lambda: None  # type: ignore[method-assign]
    count, all_cases = len(out.records), schedule.Schedule(Worker(), out, CASES, False, 40.0)  # type: ignore[arg-type]
    all_cases.run(list(CASES), schedule.time.monotonic() + 1000)
    out.leave("left", lambda record: True)
    save()
    assert {record.case for record in out.records if record.note == "left"} == {"ceiling"}
    assert len(out.records) == count
    wanted = {"plain torch loop", "plain torch loop, factored", "torch-fps", "triton-submodular"}
    assert {r.who for r in out.records if r.ratio != ""} == wanted
    faster = [r for r in out.records if r.quantity == "speed-up"]
    assert {r.target for r in faster} == {5.0, 30.0} and {r.met for r in faster} == {"not met"}
    assert all(r.note == CASES[r.case].remark for r in out.records if r.value != "" and r.who == "fastcore")
    assert all(CASES[name].remark.startswith("k is 1 %") for name in ("cal", "glister"))
    lines = table(out.records).splitlines()
    assert len(lines) == 2 + count - len(faster)  # a peer and its target share a line
    assert any("torch-fps" in line and "5 x" in line and "not met" in line for line in lines)
    text = short(out.records)
    assert len(text.splitlines()) < 20 and "plain torch loop, factored: 1x (not met)" in text


def test_the_last_case_has_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where all others take all that they may, and where they take what their targets allow and 10 s."""
    now, until, greedy = [0.0], {}, [True]

    def steps(run: Any) -> None:
        until[run.name] = run.until - now[0]
        enough = 10 + sum(size.target or 0.0 for size in run.case.sizes)
        now[0] += until[run.name] if greedy[0] else min(until[run.name], enough)

    monkeypatch.setattr(schedule.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(schedule._Run, "steps", steps)
    out = RecordFile(tmp_path / "gpu.csv", {})
    for greedy[0], least in ((True, 80), (False, 130)):
        now[0] = 0.0
        schedule.Schedule(Worker(), out, CASES, False, 40.0).run(list(CASES), 330.0)  # type: ignore[arg-type]
        assert until["facility_location"] > least and min(until.values()) > 11


def test_a_line_that_is_cut_off_is_a_failure(tmp_path: Path) -> None:
    program = """print('{"status": "ready"}', flush=True); input(); print('{"stat', end='')"""
    with schedule.log_file(tmp_path, "log") as log:
        hand = schedule.Hand("cpu", True, log)
        hand._command = [sys.executable, "-c", program]
        reply = hand.ask({"what": "time"}, 20.0)
        assert reply["status"] == "failed" and "stat" in reply["note"]
        hand._command = [sys.executable, "-c", "import time; time.sleep(60)"]  # a start counts as well
        begin = schedule.time.monotonic()
        assert hand.ask({"what": "time"}, 20.0, begin + 0.5)["status"] == "timeout"
        assert schedule.time.monotonic() - begin < 10
        program = """print('{"status": "ready"}', flush=True); import time; time.sleep(60)"""
        hand._command = [sys.executable, "-c", program]
        begin = schedule.time.monotonic()
        assert hand.ask({"what": "time"}, 20.0, begin + 2)["status"] == "timeout"
        assert schedule.time.monotonic() - begin < 12


def test_a_worker_without_its_device_says_so(tmp_path: Path) -> None:
    with schedule.log_file(tmp_path, "log") as log:
        hand = schedule.Hand("cuda:99", True, log)
        reply = hand.ask({"what": "ceilings"}, 20.0)
        hand.stop()
    assert reply["status"] == "failed" and "process ended" not in reply["note"] and "rror" in reply["note"]


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
    planned = [Record("a", "fastcore", n=10, k=1, target=1.0), Record("b", "peer, lazy")]
    out = RecordFile(tmp_path / "new" / "gpu.csv", {"card": "none, here"}, planned)
    begun = read(out.path)
    assert [(row["case"], row["value"], row["status"]) for row in begun] == [
        ("a", "", "skipped"), ("b", "", "skipped"),
    ]  # fmt: skip
    assert {row["note"] for row in begun} == {"not reached"} and begun[0]["met"] == "not measured"
    out.add(Record("b", "peer, lazy", status="out of memory", note='says "no"'))
    first = out.add(Record("a", "fastcore", n=10, k=1, value=0.5, target=1.0))
    assert read(out.path)[0]["met"] == "met"
    first.refcheck = "differs at 3"
    out.save()
    out.add(Record("a", "fastcore", n=20, value=0.25))
    rows = read(out.path)
    assert [(row["case"], row["n"], row["refcheck"], row["met"], row["card"]) for row in rows] == [
        ("a", "10", "differs at 3", "not met", "none, here"), ("b", "", "", "", "none, here"),
        ("a", "20", "", "", "none, here"),
    ]  # fmt: skip
    assert [path.name for path in out.path.parent.iterdir()] == ["gpu.csv"]
    assert out.trouble() == [first]
    first.refcheck = "failed: ValueError: not 3 different rows of 10"  # the check itself
    assert out.trouble() == [first]
    text = table(out.records)
    assert "500 ms" in text and "out of memory" in text and len(text.splitlines()) == 2 + 3
    out.records[1].note = "left out by --cases"
    assert "out of memory" not in table(out.records) and "and 1 rows" in table(out.records)
    assert summary(out.records).startswith("targets: 0 met, 1 not met, 0 not measured; 1 of 3 rows")


class Answers:
    """Stands for a worker: replies in turn."""

    def __init__(self, *replies: dict[str, Any]) -> None:
        self.replies, self.asked = list(replies), list[str]()

    def ask(self, request: dict[str, Any], limit: float, end: float) -> dict[str, Any]:
        self.asked.append(f"{request['what']} {request.get('size', {}).get('n', '')}".strip())
        return self.replies.pop(0)


def test_a_peer_out_of_memory_is_noted_and_not_tried_again(tmp_path: Path) -> None:
    ok = {"status": "ok", "value": 1.0, "low": 1.0, "high": 1.0, "repeats": 1, "work": [1e9, 1e9, "float32"]}
    checked = {"status": "ok", "refcheck": "right"}
    full = {"status": "out of memory", "note": "CUDA out of memory. Tried to allocate 149 GiB"}
    hand = Answers(
        checked, ok, checked, {"status": "skipped", "note": "not here"}, full, ok, checked, ok, checked
    )
    plain = CASES["facility_location"].steps(quick=False)[:5]
    assert [what for _, what in plain] == [
        "reference",
        "time",
        "check",
        "plain torch loop",
        "triton-submodular",
    ]
    planned = schedule.planned([CASES["facility_location"]], quick=False)
    out = RecordFile(tmp_path / "gpu.csv", {"device": "cpu"}, planned)
    timetable = schedule.Schedule(hand, out, CASES, False, 40.0)  # type: ignore[arg-type]
    timetable.ceilings = {"copy": 2e9, "float32": 4e9}
    timetable.run(["facility_location"], schedule.time.monotonic() + 1000)
    assert not hand.replies
    assert [text for text in hand.asked if "torch" in text or "triton" in text] == [
        "plain torch loop 50000", "triton-submodular 50000",
    ]  # fmt: skip
    peers = [(r.who, r.n, r.status, r.note, r.met) for r in out.records if r.who != "fastcore"]
    for who, met in (("triton-submodular", ""), ("fastcore over triton-submodular", "not measured")):
        assert (who, 50_000, "out of memory", full["note"], met) in peers
        assert (who, 200_000, "skipped", "out of memory at n = 50,000", met) in peers
    for n in (50_000, 200_000):
        assert ("plain torch loop", n, "skipped", "not here", "") in peers
    mine = next(r for r in out.records if r.quantity == "time")
    assert (mine.ceiling, mine.share) == ("copy", 0.5)


def test_nothing_larger_is_tried_where_ours_failed(tmp_path: Path) -> None:
    hand = Answers({"status": "ok", "refcheck": "right"}, {"status": "failed", "note": "no"})
    out = RecordFile(tmp_path / "gpu.csv", {}, schedule.planned([CASES["herding"]], quick=False))
    timetable = schedule.Schedule(hand, out, CASES, False, 40.0)  # type: ignore[arg-type]
    timetable.run(["herding"], schedule.time.monotonic() + 1000)
    empty = [record for record in out.records if record.case == "herding" and record.value == ""]
    assert len(empty) == len(CASES["herding"].sizes) * 3 + 1 and empty[1].note == "no"
    assert {record.note for record in empty[2:]} == {"ours: failed at n = 50,000"}
    assert out.trouble() == [empty[1]]


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
