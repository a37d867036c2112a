"""``fastcore report``: what it prints, what it writes, and one line for every error."""

from __future__ import annotations

import json
import os

import pytest

from fastcore.cli import main
from tests.train.test_report_results import SMALL, config, rows, write

pytest.importorskip("matplotlib")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return write(tmp_path / "run", rows(SMALL), config())


def run(capsys, *arguments):
    status = main(["report", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_prints_the_table_and_writes_beside_the_results(folder, capsys):
    status, out, err = run(capsys, "run")
    assert (status, err) == (0, "")
    assert "herding  41.0 ± 1.0 ▼  71.3 ± 1.0  90.2 ± 0.2" in out
    assert "no contact sheet" in out and "run/report/report.md" in out
    assert {"report.md", "table.csv", "accuracy.png"} <= set(os.listdir(folder / "report"))


def test_a_results_file_and_another_folder(folder, capsys, tmp_path):
    status, out, _ = run(
        capsys, "run/results.parquet", "--output", "there", "--format", "csv", "--no-pictures"
    )
    assert status == 0 and out.split() == ["there/table.csv"]
    assert os.listdir(tmp_path / "there") == ["table.csv"]
    assert run(capsys, "run/results.parquet", "--no-pictures")[0] == 0
    assert (folder / "report" / "report.md").exists()


def test_json_alone_is_printed(folder, capsys):
    status, out, _ = run(capsys, "run", "--json", "--accuracy", "best", "--no-pictures")
    held = json.loads(out)
    assert status == 0 and held["tables"][0]["accuracy"] == "best"
    assert held["tables"][0]["rows"][0]["cells"][0]["mean"] == pytest.approx(52)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 1, "cannot read nowhere"),
        (["text.parquet"], 2, "cannot read text.parquet"),
        (["run", "--accuracy", "first"], 2, "accuracy must be one of 'last', 'best', got 'first'"),
        (["run", "--format", "html"], 2, "formats must be one of"),
        (["run", "--fraction", "0.3"], 2, "fraction must be one of 0.01, 0.1, got 0.3"),
        (["run", "--picture-format", "gif"], 2, "kinds must be one of"),
        ([], 2, "FOLDER"),
    ],
)
def test_an_error_is_one_line(folder, capsys, tmp_path, arguments, status, message):
    (tmp_path / "text.parquet").write_text("no parquet")
    got, out, err = run(capsys, *arguments)
    assert (got, out) == (status, "")
    assert message in err and err.startswith("fastcore: ") and err.count("\n") == 1
    assert not (folder / "report").exists()
