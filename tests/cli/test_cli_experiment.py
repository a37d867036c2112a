"""``fastcore experiment``: the plan, the runs, and one line for whatever is wrong."""

from __future__ import annotations

import json

import pytest

from fastcore.cli import main
from fastcore.train import reading
from fastcore.train.experiment import read_results
from tests.train.experiment_material import FAULTY, experiment


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")
    monkeypatch.chdir(tmp_path)
    write()


def write(**fields):
    with open("recipe.yaml", "w") as file:
        file.write(reading.dump(experiment(**fields)))


def run(capsys, *arguments):
    """Exit status, standard output and standard error of the command in this process."""
    status = main(["experiment", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_recipe_is_run_and_its_settings_can_be_others(capsys, tmp_path):
    over = ["--set", "seeds=[3]", "--set", "fractions=[0.1]", "--set", "train.epochs=1", "--device", "cpu"]
    status, out, err = run(capsys, "recipe.yaml", "--output", "out", *over)
    assert status == 0 and out == "3 runs: out/results.parquet\n"
    assert len(err.splitlines()) == 3 and all(" %, " in line for line in err.splitlines())
    rows = read_results("out")
    assert {(row["seed"], row["epochs"]) for row in rows} == {(3, 1)}

    status, out, err = run(capsys, "recipe.yaml", "--output", "out", *over, "--json", "--cache", "elsewhere")
    assert (status, err) == (0, "3 of 3 runs are done already\n")
    found = json.loads(out)
    assert [each["key"] for each in found["runs"]] == [row["key"] for row in rows]
    assert found["runs"][0]["accuracy_last"] == rows[0]["accuracy_last"]


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(capsys, tmp_path):
    write(methods=["uniform", "forgetting"], fractions=[0.1, 1], selection={"epochs": [0, 5]})
    status, out, err = run(capsys, "recipe.yaml", "--dry-run", "--output", "out", "--root", "/nowhere")
    assert (status, err) == (0, "")
    assert "6 runs" in out and "2 networks are trained to select" in out
    assert "forgetting needs a record of training" in " ".join(out.split())
    assert not (tmp_path / "out").exists()
    status, out, err = run(capsys, "recipe.yaml", "--dry-run", "--json")
    runs = json.loads(out)
    assert len(runs) == 6 and runs[0]["label"] == "uniform" and runs[-1]["fraction"] == 1


def test_without_a_recipe_those_of_the_package_are_listed(capsys):
    status, out, err = run(capsys)
    assert (status, err) == (0, "") and out.split() == reading.recipes()
    status, out, err = run(capsys, "fashion_mnist_smal", "--output", "out")
    assert status == 2 and "'fashion_mnist_small'" in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, ["--output"]),
        (["--output", "out", "--set", "train.epoch=3"], 2, ["train", "'epoch'", "'epochs'"]),
        (["--output", "out", "--set", "nonsense"], 2, ["field=value", "nonsense"]),
        (["--output", "out", "--set", "networks=[mpl]"], 2, ["networks", "'mpl'", "'mlp'"]),
        (["--output", "out", "--processes", "0"], 2, ["processes", "0"]),
        (["--output", "recipe.yaml/out"], 1, ["recipe.yaml/out", "cannot make the folder"]),
        (["--output", "out", "--set", "data.name=mnist", "--root", "nowhere"], 1, ["nowhere"]),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_made(capsys, arguments, status, words):
    found, out, err = run(capsys, "recipe.yaml", *arguments)
    assert (found, out) == (status, "")
    assert len(err.splitlines()) == 1 and err.startswith("fastcore: ")
    for word in words:
        assert word in err


def test_another_recipe_needs_another_folder_or_force(capsys):
    over = ["--set", "methods=[uniform]", "--set", "fractions=[0.1]", "--set", "seeds=[0]", "--output", "out"]
    assert run(capsys, "recipe.yaml", *over)[0] == 0
    status, out, err = run(capsys, "recipe.yaml", *over, "--set", "train.epochs=1")
    assert status == 2 and "train.epochs=2, not 1" in err and "--force" in err
    assert run(capsys, "recipe.yaml", *over, "--set", "train.epochs=1", "--force")[0] == 0
    assert [row["epochs"] for row in read_results("out")] == [2, 1]


def test_an_interruption_ends_with_130_and_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FAULTY_NETWORK", str(tmp_path / "order"))
    (tmp_path / "order").write_text("interrupt")
    over = ["--set", f"networks=['{FAULTY}']", "--set", "fractions=[1]", "--set", "train.epochs=6"]
    status, out, err = run(capsys, "recipe.yaml", "--output", "out", *over)
    assert (status, out) == (130, "")
    assert err == "fastcore: interrupted; the same command goes on from here\n"
    status, out, err = run(capsys, "recipe.yaml", "--output", "out", *over)
    assert (status, out) == (0, "2 runs: out/results.parquet\n")


def test_runs_that_fail_give_status_1_at_the_end(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FAULTY_NETWORK", str(tmp_path / "order"))
    (tmp_path / "order").write_text("fail")
    over = ["--set", f"networks=['{FAULTY}']", "--set", "fractions=[1]", "--set", "seeds=[0]"]
    status, out, err = run(capsys, "recipe.yaml", "--output", "out", *over)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 2 and "1 of 1 runs are not done" in err.splitlines()[1]
