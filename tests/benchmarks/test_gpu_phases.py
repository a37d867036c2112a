"""Tests, compute-sanitizer and what else the script for a GPU starts: what becomes of it in the rows."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

import benchmarks.gpu.__main__ as script_main
from benchmarks.gpu import phases
from benchmarks.gpu.records import RecordFile

ROOT = Path(__file__).resolve().parents[2]


def ended(tmp_path: Path, name: str, program: str, kind: str = "sanitizer") -> phases.Ended:
    task = phases.Task(name, [sys.executable, "-c", program], 20.0, kind=kind)
    return phases.run_together([task], tmp_path)[0]


RAN = "print('RAN 5 of 9 cases of 3 ops'); "


@pytest.mark.parametrize(
    ("program", "status", "value", "note"),
    [
        (RAN + "print('== ERROR SUMMARY: 0 errors')", "ok", 5.0, "3 ops; ERROR SUMMARY: 0 errors"),
        (RAN + "print('== ERROR SUMMARY: 2 errors'); exit(99)", "failed", 5.0, "SUMMARY: 2 errors"),
        (RAN + "print('not reached: herding'); exit(3)", "timeout", 5.0, "not reached: herding"),
        ("exit(1)", "failed", "", "ended with 1, see tool.log"),
        ("print('== Error: Device not supported.'); exit(1)", "skipped", "", "Error: Device not supported."),
    ],
)  # fmt: skip
def test_what_compute_sanitizer_says(
    tmp_path: Path, program: str, status: str, value: Any, note: str
) -> None:
    record = phases.sanitizer_record(ended(tmp_path, "tool", program))
    assert (record.status, record.value) == (status, value) and note in record.note
    assert (record.case, record.quantity) == ("sanitizer", "cases")
    out = RecordFile(tmp_path / "gpu.csv", {})
    out.add(record)
    assert bool(out.trouble()) == (status == "failed")


def test_a_machine_without_compute_sanitizer_says_so_in_both_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases.shutil, "which", lambda name, path=None: None)
    options = script_main.arguments(["--output", str(tmp_path), "--skip", "tests"])
    out = RecordFile(tmp_path / "gpu.csv", {}, script_main.plan(options))
    script_main.leave_out(options, out)
    script_main.check_phase(options, out, 10.0)
    rows = {(r.case, r.who): (r.status, r.value, r.note) for r in out.records}
    for tool in ("memcheck", "racecheck"):
        assert rows["sanitizer", tool] == ("skipped", "", "compute-sanitizer is not installed")
    assert rows["tests", "op table"] == ("skipped", "", "left out by --skip tests")
    assert rows["ceiling", "tf32 product"] == ("skipped", "", "not reached")
    assert [record.case for record in out.trouble()] == ["build"]  # which has not run


def test_a_report_of_tests_that_is_cut_off(tmp_path: Path) -> None:
    crashed = ended(tmp_path, "contract-0", "import os; os.abort()", "tests")
    crashed.log.with_suffix(".xml").write_text("<testsuite><testcase name=")
    record = phases.test_record("contract", [crashed])
    assert (record.status, record.value, record.who) == ("failed", "", "contract of the methods")
    assert "contract-0 ended with -6" in record.note


def test_tests_run_without_pytest(tmp_path: Path) -> None:
    (tmp_path / "some_tests.py").write_text("""
import pytest
CARD = pytest.param("cuda", marks=pytest.mark.gpu)

@pytest.mark.parametrize("where", ["cpu", CARD])
@pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 2)])
def test_less(a, b, where):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOME", "thing")
        assert a < b

@pytest.mark.gpu
def test_skipped():
    pytest.skip("none here")

def test_plain():
    import os
    assert "SOME" not in os.environ
""")
    program = "import sys\nsys.modules.update(pytest=None, hypothesis=None, tqdm=None)\n"
    program += "from benchmarks.gpu.without_pytest import main\n"
    for key, chosen in (("all", []), ("gpu", ["-m", "gpu"]), ("some", ["-k", "less and not (cuda or 1)"])):
        program += f"print(main({['--xml', f'{key}.xml', *chosen, 'some_tests.py']}))\n"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line for line in done.stdout.splitlines() if len(line) == 1] == ["1", "1", "1"]
    found = {}
    for key in ("all", "gpu", "some"):
        tests = ElementTree.parse(tmp_path / f"{key}.xml").iter("testcase")
        found[key] = {test.get("name"): [part.tag for part in test] for test in tests}
    assert found["all"] == {
        "test_less[1-2-cpu]": [], "test_less[2-2-cpu]": ["failure"], "test_less[1-2-cuda]": [],
        "test_less[2-2-cuda]": ["failure"], "test_skipped": ["skipped"], "test_plain": [],
    }  # fmt: skip
    assert found["gpu"].keys() == {"test_less[1-2-cuda]", "test_less[2-2-cuda]", "test_skipped"}
    assert found["some"].keys() == {"test_less[2-2-cpu]"}
