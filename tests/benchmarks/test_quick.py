"""The quick mode runs from end to end, and its exit code is about the picks."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import fastcore
from benchmarks.cases import CASES
from benchmarks.compare import main

pytest.importorskip("sklearn")


@pytest.mark.slow
def test_every_case_runs_and_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [word for name in CASES for word in ("--case", name)]
    assert main(["--quick", "--repeats", "1", "--no-memory", "--out", str(tmp_path), *cases]) == 0
    for name in CASES:
        with open(tmp_path / f"{name}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        ours = next(row for row in rows if row["method"] == "fastcore" and row["quantity"] == "time")
        assert ours["refcheck"] == "right" and float(ours["value"]) > 0 and ours["k"] == "60"
        assert not any(row["target"] for row in rows)
    assert (tmp_path / "times.png").exists()
    assert "k-center" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert main(["--quick", "--repeats", "1", "--out", str(tmp_path), "--case", "herding"]) == 0
    rows = list(csv.DictReader(open(tmp_path / "herding.csv", newline="")))
    added = next(float(row["value"]) for row in rows if row["quantity"] == "memory added")
    assert 0 <= added < 64


def test_wrong_picks_fail_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wrong:
        info: dict[str, int] = {}
        indices = np.arange(60)

    monkeypatch.setattr(fastcore, "select", lambda *args, **options: Wrong())
    assert main(["--quick", "--repeats", "1", "--no-memory", "--case", "k_center"]) == 1
    assert "wrong picks: k_center: fastcore is wrong at" in capsys.readouterr().out


def test_a_missing_input_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTCORE_DATA", str(tmp_path))
    monkeypatch.setenv("FASTCORE_FASHION_MNIST", str(tmp_path))
    assert main(["--case", "k_center"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_repeats_must_be_positive(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--quick", "--repeats", "0"])
    assert stopped.value.code == 2
    assert "--repeats is 0" in capsys.readouterr().err
