"""A results file with fixed numbers, for the tests of the report, and how the report reads results files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastcore.train.config import DataConfig, ExperimentConfig, SelectionConfig, TrainConfig
from fastcore.train.reading import dump, plain

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

from fastcore.train.experiment.results import COLUMNS  # noqa: E402
from fastcore.train.report.grids import Grid  # noqa: E402
from fastcore.train.report.results import labelled, read  # noqa: E402
from fastcore.train.report.tables import Table, tables  # noqa: E402

CIFAR: dict[str, Any] = {
    "data": DataConfig(name="cifar10"),
    "networks": ("resnet18",),
    "train": TrainConfig(epochs=200),
}
NEED_NO_NETWORK = {"uniform", "full"}


def config(**changes: Any) -> ExperimentConfig:
    """The experiment that rows belong to by default: LeNet on Fashion-MNIST, 20 epochs, three seeds."""
    values: dict[str, Any] = {
        "name": "trial",
        "data": DataConfig(name="fashion_mnist"),
        "networks": ("lenet",),
        "seeds": (0, 1, 2),
        "train": TrainConfig(epochs=20),
        "selection": SelectionConfig(epochs=(10,)),
    }
    return ExperimentConfig(**{**values, **changes})


def row(
    method: str,
    fraction: float,
    seed: int,
    last: float,
    experiment: ExperimentConfig | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A row of a results file; ``last`` is the accuracy of the last epoch in [0, 1], the best is 0.01 above."""
    experiment = experiment or config()
    plainly = method in NEED_NO_NETWORK
    values: dict[str, Any] = {
        "experiment": experiment.name,
        "dataset": experiment.data.name,
        "network": experiment.networks[0],
        "method": method,
        "method_name": "uniform" if method == "full" else method,
        "options": "{}",
        "fraction": fraction,
        "k": round(fraction * 60000),
        "n": 60000,
        "seed": seed,
        "selection_network": None if plainly else experiment.networks[0],
        "selection_epochs": None if plainly else experiment.selection.epochs[0],
        "accuracy_last": last,
        "accuracy_best": min(1.0, last + 0.01),
        "best_epoch": experiment.train.epochs - 1,
        "epochs": experiment.train.epochs,
        "selection_seconds": 0.25,
        "pretrain_seconds": 0.0 if plainly else 30.0,
        "signal_seconds": 0.0 if plainly else 2.5,
        "training_seconds": 40 * fraction,
        "evaluation_seconds": 1.0,
        "peak_bytes": 10**6,
        "device": "cpu",
        "indices_file": None,
        "config": json.dumps(plain(experiment)),
        "versions": json.dumps({"fastcore": "0.3.0", "torch": "2.13.0"}),
        "git_commit": "0123456789abcdef",
        "finished": f"2030-01-01T00:00:{seed:02d}Z",
        "history": json.dumps([[experiment.train.epochs, last]]),
    }
    values |= changes
    place = ("network", "selection_network", "selection_epochs", "method", "options", "fraction", "seed")
    return {"key": json.dumps([values[name] for name in place] + [values["config"]]), **values}


def rows(accuracies: dict[str, dict[float, list[float]]], **changes: Any) -> list[dict[str, Any]]:
    """Rows of accuracies in % by method and fraction, the first for seed 0."""
    return [
        row(method, fraction, seed, value / 100, **changes)
        for method, cells in accuracies.items()
        for fraction, values in cells.items()
        for seed, value in enumerate(values)
    ]


def write(folder: Path, results: list[dict[str, Any]], recipe: ExperimentConfig | None = None) -> Path:
    """An experiment folder with these results."""
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(results), folder / "results.parquet")
    if recipe is not None:
        (folder / "recipe.yaml").write_text(dump(recipe))
    return folder


def made(
    folder: Path,
    results: list[dict[str, Any]],
    accuracy: str = "last",
    recipe: ExperimentConfig | None = None,
) -> list[Table]:
    """The tables of some results."""
    return tables(read([write(folder / "experiment", results, recipe)]), accuracy)


def cells(grid: Grid) -> dict[tuple[str, str], str]:
    """Cells of a grid by the first label of a line and the heading of a column."""
    return {
        (line.labels[0], column): cell
        for line in grid.lines
        for column, cell in zip(grid.columns, line.cells)
    }


SMALL = {
    "uniform": {0.01: [50.0, 51.0, 52.0], 0.1: [70.0, 71.0, 72.0]},
    "herding": {0.01: [40.0, 42.0, 41.0], 0.1: [70.5, 71.0, 72.5]},
    "log_det": {0.01: [60.0, 61.0, 62.5]},
    "full": {1.0: [90.0, 90.2, 90.4]},
}


def test_reads_folders_and_files_alike(tmp_path):
    folder = write(tmp_path / "a", rows(SMALL))
    assert read([folder]) == read([folder / "results.parquet"])
    assert len(read([folder])) == 18
    first = next(each for each in read([folder]) if each.method == "uniform")
    assert (first.fraction, first.seed, first.accuracy_last, first.indices) == (0.01, 0, 0.5, None)


def test_the_path_of_a_selection_starts_at_its_folder(tmp_path):
    folder = write(tmp_path / "a", [row("margin", 0.1, 0, 0.5, indices_file="selections/x.npz")])
    assert read([folder / "results.parquet"])[0].indices == folder / "selections/x.npz"


def test_a_run_in_two_folders_counts_once(tmp_path):
    a, b = write(tmp_path / "a", rows(SMALL)), write(tmp_path / "b", rows(SMALL))
    assert len(read([a, b])) == 18


def test_of_the_same_run_made_twice_the_later_counts(tmp_path):
    old = row("margin", 0.1, 0, 0.5, finished="2030-01-01T00:00:00Z", key="a")
    new = row("margin", 0.1, 0, 0.6, finished="2030-01-02T00:00:00Z", key="b")
    for number, pair in enumerate(([old, new], [new, old])):
        (found,) = read([write(tmp_path / str(number), pair)])
        assert found.accuracy_last == 0.6


def test_one_label_for_several_methods_is_made_longer(tmp_path):
    results = [
        row("craig", 0.1, 0, 0.5, options='{"metric": "cosine"}'),
        row("craig", 0.1, 0, 0.6, options="{}"),
        row("margin", 0.1, 0, 0.6),
    ]
    labels = {label for label, _ in labelled(read([write(tmp_path, results)]))}
    assert labels == {"craig", "craig metric=cosine", "margin"}


def test_seeds_come_from_the_recipe_where_there_is_one(tmp_path):
    recipe = config(seeds=(0, 1, 2, 3, 4), paper_table="table1_cifar10_resnet18")
    results = read([write(tmp_path, rows(SMALL), recipe)])
    assert results[0].config["seeds"] == [0, 1, 2, 3, 4]
    assert results[0].config["paper_table"] == "table1_cifar10_resnet18"


def test_settings_tell_trainings_apart_and_nothing_else(tmp_path):
    same = [config(), config(data=DataConfig(name="fashion_mnist", root="/elsewhere", workers=0), seeds=(7,))]
    other = config(train=TrainConfig(epochs=21))
    results = [row("margin", 0.1, seed, 0.5, each) for seed, each in enumerate([*same, other])]
    a, b, c = (each.settings for each in read([write(tmp_path, results)]))
    assert a == b != c


def test_what_is_no_results_file_is_told_in_one_line(tmp_path):
    with pytest.raises(OSError, match="cannot read .*results.parquet: No such file"):
        read([tmp_path])
    text = tmp_path / "text.parquet"
    text.write_text("no parquet")
    with pytest.raises(ValueError, match="cannot read .*text.parquet") as error:
        read([text])
    assert "\n" not in str(error.value)
    for name in ("accuracy_best", "pretrain_seconds", "config"):
        assert name in COLUMNS
        short = [{key: value for key, value in each.items() if key != name} for each in rows(SMALL)]
        with pytest.raises(ValueError, match=f"no column '{name}'"):
            read([write(tmp_path / name, short)])
    empty = parquet.read_table(write(tmp_path / "full", rows(SMALL)) / "results.parquet").slice(0, 0)
    parquet.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="empty.parquet holds no finished run"):
        read([tmp_path / "empty.parquet"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy_last": 87.5}, r"accuracy_last of row 0 must be in \[0, 1\], got 87.5"),
        ({"accuracy_best": float("nan")}, "accuracy_best of row 0 must be a number, got nan"),
        ({"fraction": 0.0}, r"fraction of row 0 must be in \(0, 1\], got 0.0"),
        ({"method": None}, "method of row 0 must be a text, got None"),
        ({"config": "[1]"}, r"config of row 0 must be the JSON of a mapping, got '\[1\]'"),
        ({"versions": "{"}, "versions of row 0 must be the JSON of a mapping"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read([write(tmp_path, [{**row("margin", 0.1, 0, 0.5), **changes}])])
