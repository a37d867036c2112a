"""docs/training.md is true: its tables are the dataclasses, its commands and examples run."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from fastcore.cli import main
from fastcore.train import datasets, load, reading
from fastcore.train.datasets.catalogue import SOURCES
from fastcore.train.experiment import plan

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "training.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def block(language, name):
    """The block that begins with the name of its file."""
    return next(each for each in blocks(language) if each.startswith(f"# {name}\n"))


def commands():
    """Arguments of every call of fastcore, without what starts it."""
    lines = [line for text in blocks("sh") for line in text.splitlines() if "fastcore " in line]
    words = [shlex.split(line, comments=True) for line in lines]
    return [each[each.index("fastcore") + 1 :] for each in words]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to run things in, with the files that the guide shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")
    (tmp_path / "own.py").write_text(block("python", "own.py"), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(block("yaml", "mine.yaml"), encoding="utf-8")
    return tmp_path


def test_the_tables_of_settings_are_what_the_dataclasses_say():
    spec = importlib.util.spec_from_file_location("fields", DOCS / "fields.py")
    assert spec is not None and spec.loader is not None
    fields = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fields)
    assert len(fields.TABLE.findall(TEXT)) == 5
    assert fields.written(TEXT) == TEXT, "write them anew with: .venv/bin/python docs/fields.py"


def test_every_recipe_and_data_set_is_there_with_its_folders():
    assert {name for name in re.findall(r"`(\w+)`", TEXT.split("## Data sets")[0])} >= set(reading.recipes())
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", TEXT.split("| `data.name` |")[1], re.MULTILINE))
    assert set(rows) >= set(datasets.names())
    for name in set(datasets.names()) - {"digits"}:
        files, folders, download = (each.strip() for each in rows[name].strip("| ").split(" | "))
        assert re.findall(r"`([^`]+)`", folders) == list(SOURCES[name].folders)
        assert files and download == ("yes" if SOURCES[name].torchvision else "no")


def test_the_experiments_can_be_run(folder, capsys):
    experiments = [each for each in commands() if each[0] == "experiment"]
    assert len(experiments) >= 9
    for words in experiments:
        assert main([*words, "--dry-run"]) == 0, words
    assert "30 runs" in capsys.readouterr().out
    assert [run.label for run in plan(load("mine.yaml"))].count("features") == 2


def test_a_training_and_its_record_become_a_coreset(folder, capsys):
    words = [each for each in commands() if each[0] in ("train", "select")]
    assert [each[0] for each in words] == ["train", "select", "train"]
    for each in words:
        assert main(each) == 0, each
    assert "300" in capsys.readouterr().out


def test_an_experiment_with_data_and_network_of_ones_own(folder, capsys):
    (words,) = [each for each in commands() if "data.name=own:data" in each]
    few = ["--set", "methods=[uniform, margin]", "--set", "seeds=[0]", "--set", "train.epochs=1"]
    assert main([*words, *few]) == 0
    assert main(["report", "own", "--no-pictures"]) == 0
    assert "own:data" in capsys.readouterr().out and (folder / "own/report/report.md").exists()


def test_the_loop_with_the_loader_runs(digits):
    (example,) = [each for each in blocks("python") if "ReselectingLoader" in each]
    features, labels = (torch.tensor(each) for each in digits)
    names = {"train": TensorDataset(features[:600], labels[:600])}
    torch.manual_seed(0)
    exec(compile(example, "training.md", "exec"), names)
    assert len(names["loader"].selection) == 60
    assert names["state"]["epoch"] == 20 and names["loader"].warm_epochs == 1
    right = names["network"](features[600:]).argmax(1) == labels[600:]
    assert float(right.float().mean()) > 0.75
