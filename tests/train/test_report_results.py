"""A results file with fixed numbers, for the tests of the report, and how the report reads results files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastcore.train.config import DataConfig, ExperimentConfig, MethodConfig, SelectionConfig, TrainConfig
from fastcore.train.reading import dump, plain

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

from fastcore.train.experiment.results import COLUMNS  # noqa: E402
from fastcore.train.report.results import labelled, read  # noqa: E402

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
    method: str, fraction: float, seed: int, last: float, experiment: ExperimentConfig | None = None, **changes: Any
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


SMALL = {
    "uniform": {0.01: [50.0, 51.0, 52.0], 0.1: [70.0, 71.0, 72.0]},
    "herding": {0.01: [40.0, 42.0, 41.0], 0.1: [70.5, 71.0, 72.5]},
    "log_det": {0.01: [60.0, 61.0, 62.5]},
    "full": {1.0: [90.0, 90.2, 90.4]},
}
