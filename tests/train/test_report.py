"""A whole report from a fixed results file: its files, what they say, and that they stay the same."""

from __future__ import annotations

import json
import os
import re

import pytest

from fastcore.train.config import DataConfig
from fastcore.train.report import TABLES, report
from tests.train.test_report_results import CIFAR, SMALL, config, row, rows, write

pytest.importorskip("matplotlib")


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "experiment", rows(SMALL), config())


def test_the_files_of_a_report(folder, tmp_path):
    made = report(folder, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [
        *("accuracy.png", "report.md", "table.csv", "table.tex"),
        *("table_agreement.tex", "table_difference.tex", "time.png"),
    ]
    assert made.left_out == ("Fashion-MNIST, lenet: no contact sheet, there are no files of selections",)
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in made.files().items())


def test_the_same_results_give_the_same_files(folder):
    first, second = (report(folder, pictures=False) for _ in range(2))
    assert first.files() == second.files() and first.as_json() == second.as_json()


def test_what_the_markdown_says(folder, tmp_path):
    report(folder, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("# trial\n\n18 finished runs.")
    for line in (
        "## Fashion-MNIST, lenet",
        "| herding | 41.0 ± 1.0 ▼ | 71.3 ± 1.0 | 90.2 ± 0.2 |",
        "| herding | −10.0 ± 0.6 ▼ | +0.3 ± 0.2 |",
        "| herding [1] | ▼ / = | = / ▼ | 0 | 0 | 2 |",
        "![accuracy](accuracy.png)",
        "![time](time.png)",
        "| seeds | 0; 1; 2 |",
        "| epochs | 20 |",
        "| device | cpu |",
        "| versions | fastcore 0.3.0, torch 2.13.0 |",
        "| commit | 0123456789abcdef |",
        "  learning_rate: 0.1",
    ):
        assert line in text.splitlines(), line
    assert "[1] herding: the published code picks the farthest row" in text
    assert "paper |" not in text  # Fashion-MNIST is not in the paper


def test_formats_and_pictures_on_request(folder):
    made = report(folder, formats=["csv"], pictures=False)
    assert list(made.files()) == ["table.csv"]
    assert set(report(folder, formats=["terminal"], pictures=False).files()) == set()
    made = report(folder, formats=["markdown"], kinds=["svg", "pdf"])
    assert set(made.files()) == {"report.md", "accuracy.svg", "accuracy.pdf", "time.svg", "time.pdf"}
    assert "![accuracy](accuracy.svg)" in made.files()["report.md"].decode()


def test_nothing_is_written_without_output_or_files(folder, tmp_path):
    report(folder)
    report(folder, tmp_path / "out", formats=["terminal"], pictures=False)
    assert os.listdir(tmp_path) == ["experiment"]


def test_several_folders_make_one_report(folder, tmp_path):
    cifar = config(name="other", **CIFAR)
    accuracies = {"uniform": {0.01: [36, 38]}, "margin": {0.01: [28, 29]}}
    other = write(tmp_path / "other", rows(accuracies, experiment=cifar))
    more = write(tmp_path / "more", rows({"margin": {0.01: [45, 46, 47]}}))
    made = report([folder, other, more], tmp_path / "out", pictures=False)
    assert [part.table.title for part in made.parts] == ["CIFAR-10, resnet18", "Fashion-MNIST, lenet"]
    assert {"table_cifar10_resnet18.csv", "table_fashion_mnist_lenet.tex"} <= set(
        os.listdir(tmp_path / "out")
    )
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.splitlines()[0] in ("# other, trial", "# trial, other")
    assert "| margin | 46.0 ± 1.0 ▼ |  | 90.2 ± 0.2 |" in text  # beside the methods of the first folder
    assert "| *paper* | *36.7 ± 1.7* |" in text and "| *paper [2]* | *28.2 ± 1.0* |" in text


def test_a_paper_table_of_a_recipe(tmp_path):
    assert "table3_cross_architecture" in TABLES
    recipe = config(
        data=DataConfig(name="cifar10"), networks=("resnet18",), paper_table="table3_cross_architecture"
    )
    made = report(write(tmp_path / "x", rows({"uniform": {0.01: [36]}}, experiment=recipe), recipe))
    cell = json.loads(made.as_json())["tables"][0]["rows"][0]["cells"][0]
    assert cell["paper"] == {"mean": 36.74, "std": 1.69, "n": 5}  # 1.7 in table 1


@pytest.mark.parametrize(
    ("more", "asked", "shown"),
    [({}, None, "1 %"), ({0.005: [40], 0.02: [60]}, None, "1 %"), ({}, 0.1, "10 %")],
)
def test_the_fraction_of_the_pictures(tmp_path, more, asked, shown):
    accuracies = {"uniform": {0.001: [9], 0.01: [50], 0.1: [70]}, "margin": {0.01: [40], 0.1: [60]}}
    accuracies["margin"] |= more
    accuracies["uniform"] |= more
    made = report(write(tmp_path, rows(accuracies)), kinds=["svg"], fraction=asked)
    text = "".join(re.findall(r"<!-- (.*?) -->", made.files()["time.svg"].decode()))
    assert f"time of selection with {shown} of the rows" in text


def test_json(folder):
    held = json.loads(report(folder, pictures=False).as_json())
    (table,) = held["tables"]
    assert table["columns"] == [0.01, 0.1, 1.0] and table["accuracy"] == "last"
    herding, log_det = table["rows"][1:]
    assert herding["label"] == "herding" and herding["selector"] == "lenet"
    assert herding["cells"][0]["n"] == 3 and herding["cells"][0]["mean"] == pytest.approx(41)
    assert herding["cells"][0]["difference"]["sign"] == -1
    assert log_det["cells"][1] == {"n": 0, "mean": None, "std": None, "difference": None, "paper": None}
    assert table["agreement"]["rows"]["herding"] == {
        **{"ours": [-1, 0], "paper": [0, -1]},
        **{"agree": 0, "opposite": 0, "open": 2},
    }


def test_the_contact_sheet_of_real_selections(tmp_path):
    pytest.importorskip("sklearn")
    import fastcore
    from fastcore.train import datasets

    experiment = config(data=DataConfig(name="digits"), networks=("mlp",))
    train = datasets.load(experiment.data).train
    (tmp_path / "x" / "selections").mkdir(parents=True)
    chosen = fastcore.select(
        "uniform", train.labels[:, None].float(), 30, labels=train.labels, backend="reference"
    )
    chosen.save(tmp_path / "x" / "selections" / "a.npz")
    results = [row("uniform", 0.05, 0, 0.5, experiment, indices_file="selections/a.npz")]
    made = report(write(tmp_path / "x", results), picks=3)
    names = {"contact_sheet.png", "contact_sheet_uniform.png"}
    assert names <= set(made.files()) and not any("contact" in line for line in made.left_out)
    lost = report(
        write(tmp_path / "x", [{**results[0], "config": results[0]["config"].replace("digits", "mnist")}])
    )
    assert any("no contact sheet" in line for line in lost.left_out)  # its files are not there
    assert "contact_sheet.png" not in lost.files()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accuracy": "first"}, "accuracy must be one of 'last', 'best', got 'first'"),
        ({"formats": ["html"]}, "formats must be one of 'terminal', 'markdown', 'latex', 'csv', got 'html'"),
        ({"kinds": ["gif"]}, "kinds must be one of 'png', 'svg', 'pdf', got 'gif'"),
        ({"fraction": 0.3}, "fraction must be one of 0.01, 0.1, got 0.3"),
        ({"picks": -1}, "picks must be an integer of at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_named(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        report(folder, **arguments)


def test_no_sources():
    with pytest.raises(ValueError, match="sources must name at least one folder or file"):
        report([])


def test_a_folder_that_cannot_be_made_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        report(folder, tmp_path / "file" / "out", pictures=False)


def test_nothing_is_written_when_a_part_fails(folder, tmp_path, monkeypatch):
    from fastcore.train.report import formats

    monkeypatch.setattr(formats, "comma_separated", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
