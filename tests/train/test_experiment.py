"""Experiments end to end, on digits: what is made, what is shared, what is not made again."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
import torch

import fastcore
from fastcore.signals import Dynamics
from fastcore.train import datasets, networks, reading
from fastcore.train.config import ExperimentConfig
from fastcore.train.experiment import COLUMNS, IncompleteError, models, plan, read_results, run, worker
from fastcore.train.experiment.selecting import material
from tests.train.experiment_material import FAULTY, experiment, lasting


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")


@pytest.fixture(scope="module")
def splits():
    return datasets.load(experiment().data)


@pytest.fixture
def trained(monkeypatch):
    """The trainings that were made: for each the number of rows, None for all."""
    made = []

    def counted(*arguments, indices=None, **rest):
        made.append(None if indices is None else len(indices))
        return fit(*arguments, indices=indices, **rest)

    fit = models.fit
    for module in (models, worker):
        monkeypatch.setattr(module, "fit", counted)
    return made


def make(config, folder, **rest):
    return read_results(run(config, folder, device="cpu", progress=False, **rest))


def test_an_experiment_end_to_end(tmp_path, splits, trained, capsys):
    config = experiment(fractions=[0.05, 0.1, 1])
    rows = read_results(run(config, tmp_path / "out", device="cpu"))
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == len(rows) == 14
    assert "14/14" in told.err.splitlines()[-1] and "left" in told.err.splitlines()[0]
    # Two networks that select, one a seed, for six selections each.
    assert sorted(map(str, trained)) == sorted(["None"] * 4 + ["15"] * 6 + ["30"] * 6)

    assert [row["fraction"] for row in rows] == [0.05] * 6 + [0.1] * 6 + [1] * 2
    data = worker.fingerprint(splits)
    assert [row["key"] for row in rows] == [each.key(data) for each in plan(config)]
    for row in rows:
        assert tuple(row) == COLUMNS
        assert (row["experiment"], row["dataset"], row["network"]) == ("tiny", "digits", "mlp")
        assert row["n"] == 300 and row["k"] == round(300 * row["fraction"])
        assert 0 <= row["accuracy_last"] <= row["accuracy_best"] <= 1 and row["best_epoch"] in (1, 2)
        history = json.loads(row["history"])
        assert [epoch for epoch, _ in history] == [1, 2] and history[-1][1] == row["accuracy_last"]
        assert row["epochs"] == 2 and row["device"] == "cpu" and row["peak_bytes"] > 1e6
        assert row["training_seconds"] > 0 and row["evaluation_seconds"] > 0
        assert reading.build(ExperimentConfig, json.loads(row["config"])) == config
        assert json.loads(row["versions"])["torch"] == torch.__version__
        assert row["finished"].endswith("+00:00")
        selects = row["method"] in ("herding", "el2n")
        assert (row["selection_network"], row["selection_epochs"]) == (
            ("mlp", 2) if selects else (None, None)
        )
        assert (row["pretrain_seconds"] > 0) == (row["signal_seconds"] > 0) == selects
        assert (row["indices_file"] is None) == (row["selection_seconds"] == 0) == (row["method"] == "full")
        if row["indices_file"]:
            selection = fastcore.load(tmp_path / "out" / row["indices_file"])
            assert len(selection) == row["k"] and selection.info["method"] == row["method_name"]
            counts = np.bincount(splits.train.labels[selection.indices], minlength=10)
            assert counts.max() - counts.min() <= 1  # the classes are of one size
    assert reading.load(tmp_path / "out" / "recipe.yaml") == config
    assert list((tmp_path / "out" / "checkpoints").iterdir()) == []
    assert [each.name for each in (tmp_path / "out" / "locks").iterdir()] == ["results.lock"]

    # Again: nothing is left to do, and nothing is touched.
    before = (tmp_path / "out" / "results.parquet").read_bytes()
    assert make(config, tmp_path / "out") == rows and len(trained) == 16
    assert (tmp_path / "out" / "results.parquet").read_bytes() == before

    # Another folder with the same cache: the same numbers, and no network that selects is trained again.
    again = make(experiment(seeds=[1]), tmp_path / "again", cache=tmp_path / "out" / "cache")
    old = lasting([row for row in rows if row["seed"] == 1 and row["fraction"] < 1])
    for key, row in lasting(again).items():
        assert {**row, "config": ""} == {**old[key], "config": ""}
    assert len(trained) == 16 + 6
    first, second = ([row["accuracy_last"] for row in rows if row["seed"] == seed] for seed in (0, 1))
    assert all(a != b for a, b in zip(first, second))


def test_more_methods_fractions_and_seeds_cost_only_themselves(tmp_path, trained):
    small = experiment(methods=["uniform", "herding"], fractions=[0.05], seeds=[0])
    rows = make(small, tmp_path)
    trained.clear()
    more = make(experiment(fractions=[0.05, 0.1], seeds=[0, 1]), tmp_path)
    assert more[:2] == rows and len(more) == 12
    assert trained.count(None) == 1  # the network that selects for the new seed
    assert len(trained) == 10 + 1
    trained.clear()
    changed = ["uniform", "herding", {"name": "el2n", "keep": "easy"}]
    after = make(experiment(fractions=[0.05, 0.1], seeds=[0, 1], methods=changed), tmp_path)
    assert after[:12] == more and {row["method"] for row in after[12:]} == {"el2n"}
    assert sorted(trained) == [15, 15, 30, 30]


def test_a_method_that_is_called_otherwise_is_not_run_again(tmp_path, trained):
    make(experiment(methods=["uniform"], seeds=[0]), tmp_path)
    trained.clear()
    rows = make(experiment(methods=[{"name": "uniform", "label": "random"}], seeds=[0]), tmp_path)
    assert trained == [] and [row["method"] for row in rows] == ["random", "random"]


def test_a_row_can_be_made_again_from_what_it_holds(tmp_path, splits):
    (row,) = make(experiment(methods=["craig"], fractions=[0.1], seeds=[3]), tmp_path)
    config = reading.build(ExperimentConfig, json.loads(row["config"]))
    (again,) = plan(config)
    selection = fastcore.load(tmp_path / row["indices_file"])
    network = networks.build("mlp", shape=(1, 8, 8), classes=10, seed=again.seed_for("initialisation"))
    result = worker.fit(
        network,
        splits.train,
        config.train,
        test=splits.test,
        indices=selection.indices,
        weights=selection.weights,  # without them the accuracy is another one
        seed=again.seed_for("order"),
        progress=False,
    )
    assert selection.weights is not None and result.accuracy_last == row["accuracy_last"]
    assert [[each["epoch"], each["accuracy"]] for each in result.history] == json.loads(row["history"])


# ---- selection ------------------------------------------------------------------------------------


def test_every_kind_of_method_gets_what_it_needs(tmp_path):
    methods = [
        *("uniform", "k_center", "craig", "gradmatch", "glister", "cal", "margin", "forgetting", "deepfool"),
        {"name": "el2n", "label": "early", "epoch": 0},
        {"name": "grand", "layers": "all"},
        {"name": "uniform", "label": "counted", "weights": "cluster"},
    ]
    config = experiment(
        methods=methods,
        fractions=[0.05],
        seeds=[0],
        train={"epochs": 1},
        selection={"epochs": [0, 2]},
    )
    rows = make(config, tmp_path)
    found = {(row["method"], row["selection_epochs"]) for row in rows}
    labels = {each.label for each in config.methods}
    assert found == {("uniform", None)} | {
        (label, epochs)
        for label in labels - {"uniform"}
        for epochs in (0, 2)
        if epochs or label not in ("forgetting", "early")
    }
    assert all(row["pretrain_seconds"] >= 0 for row in rows)
    picked = {
        (row["method"], row["selection_epochs"]): fastcore.load(tmp_path / row["indices_file"])
        for row in rows
    }
    weighted = {label for (label, _), selection in picked.items() if selection.weights is not None}
    assert weighted == {"craig", "gradmatch", "counted"}
    assert set(picked["margin", 0]) != set(picked["margin", 2])


def test_norms_are_averaged_over_networks_with_seeds_of_their_own(tmp_path, splits):
    methods = ["el2n", "grand", {"name": "grand", "label": "all", "layers": "all"}, "deepfool", "herding"]
    config = experiment(methods=methods, fractions=[0.1], seeds=[0], selection={"runs": 2, "epochs": [1]})
    cache = models.SelectionModels(tmp_path, splits.train, torch.device("cpu"))
    for each in plan(config):
        made = material(each, cache, 300)
        if each.label == "herding":
            continue
        single = [
            material(type(each)(**{**vars(each), "models": (model,)}), cache, 300) for model in each.models
        ]
        assert len(single) == 2 and not torch.equal(single[0].data, single[1].data)
        mean = (single[0].data + single[1].data) / 2
        assert torch.allclose(made.data, mean, rtol=1e-12, atol=0)
        assert made.pretrain_seconds == pytest.approx(sum(one.pretrain_seconds for one in single))
        assert made.signal_seconds == pytest.approx(sum(one.signal_seconds for one in single))


def test_a_network_that_selects_is_trained_on_all_rows_and_recorded(tmp_path, splits):
    model = plan(experiment(selection={"epochs": [3]}))[1].models[0]
    cache = models.SelectionModels(tmp_path, splits.train, torch.device("cpu"))
    dynamics = cache.dynamics(model)
    assert isinstance(dynamics, Dynamics) and (dynamics.epochs, dynamics.n) == (3, 300)
    signals, seconds = cache.signals(model)
    assert signals.has("embeddings", "logits", "labels") and seconds > 0
    assert torch.equal(signals.labels, splits.train.labels)
    accuracy = (signals.logits.argmax(1) == signals.labels).float().mean()
    assert accuracy > 0.5
    other = models.SelectionModels(tmp_path, splits.train, torch.device("cpu"))
    assert other.signals(model)[1] == seconds and other.seconds(model) == cache.seconds(model)
    folder = tmp_path / model.key(splits.train.fingerprint)
    assert {each.name for each in tmp_path.iterdir()} == {folder.name}
    assert reading.plain(model).items() <= json.loads((folder / "model.json").read_text()).items()


def test_another_network_can_select(tmp_path):
    config = experiment(
        networks=["mlp", "lenet"],
        methods=["herding"],
        fractions=[0.1],
        seeds=[0],
        selection={"networks": ["lenet"], "epochs": [1]},
        train={"epochs": 1},
    )
    mlp, lenet = make(config, tmp_path)
    assert (mlp["network"], lenet["network"]) == ("mlp", "lenet")
    assert mlp["selection_network"] == lenet["selection_network"] == "lenet"
    assert mlp["indices_file"] == lenet["indices_file"] and mlp["key"] != lenet["key"]
    assert len(list((tmp_path / "cache" / "models").iterdir())) == 1


def test_rows_can_be_selected_again_while_training(tmp_path, trained):
    config = experiment(
        methods=["uniform", "craig"],
        fractions=[0.1, 1],
        seeds=[0],
        train={"epochs": 4},
        selection={"reselect_every": 2},
    )
    rows = make(config, tmp_path)
    assert [row["method"] for row in rows] == ["uniform", "craig", "full"]
    assert trained == [None] * 3  # no network is trained to select
    for row in rows[:2]:
        assert row["selection_network"] is None and row["pretrain_seconds"] == 0 < row["selection_seconds"]
        assert len(fastcore.load(tmp_path / row["indices_file"])) == row["k"] == 30
    assert make(config, tmp_path) == rows


# ---- what goes wrong ------------------------------------------------------------------------------


@pytest.fixture
def order(tmp_path, monkeypatch):
    monkeypatch.setenv("FAULTY_NETWORK", str(tmp_path / "order"))
    return tmp_path / "order"


def test_a_run_that_fails_is_reported_and_the_others_are_made(tmp_path, order, capsys):
    order.write_text("fail")
    config = experiment(networks=[FAULTY, "mlp"], methods=["uniform"], fractions=[0.1])
    with pytest.raises(IncompleteError, match="2 of 4 runs are not done.*failures") as caught:
        run(config, tmp_path / "out", device="cpu")
    assert "\n" not in str(caught.value)
    lines = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert len(lines) == 2 and "this network cannot be made" in lines[0] and "seed 0" in lines[0]
    assert [row["network"] for row in read_results(tmp_path / "out")] == ["mlp", "mlp"]
    notes = [each.read_text() for each in (tmp_path / "out" / "failures").iterdir()]
    assert len(notes) == 2 and all("Traceback" in note for note in notes)

    order.unlink()
    assert len(make(config, tmp_path / "out")) == 4
    assert list((tmp_path / "out" / "failures").iterdir()) == []


def test_a_full_disk_ends_it_and_leaves_what_is_whole(tmp_path, monkeypatch):
    config = experiment(methods=["uniform"], fractions=[0.05], seeds=[0, 1])
    make(experiment(methods=["uniform"], fractions=[0.05], seeds=[0]), tmp_path)
    before = (tmp_path / "results.parquet").read_bytes()
    replace = os.replace

    def full(source, target):
        if str(target).endswith(".parquet"):
            raise OSError(28, "No space left on device")
        return replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write .*results\.parquet: No space left"):
        make(config, tmp_path)
    assert (tmp_path / "results.parquet").read_bytes() == before
    assert not list(tmp_path.rglob("*.tmp")) and not (tmp_path / "failures").exists()
    monkeypatch.undo()
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")
    assert len(make(config, tmp_path)) == 2


def test_a_killed_building_of_a_network_that_selects_is_begun_again(tmp_path, splits):
    model = plan(experiment())[1].models[0]
    key = model.key(splits.train.fingerprint)
    (tmp_path / f"{key}.building").mkdir(parents=True)
    (tmp_path / f"{key}.building" / "weights.pt").write_bytes(b"half")
    (tmp_path / f"{key}.pt").write_bytes(b"half a checkpoint")
    cache = models.SelectionModels(tmp_path, splits.train, torch.device("cpu"))
    assert cache.signals(model)[0].n == 300
    assert {each.name for each in tmp_path.iterdir()} == {key}


def test_a_checkpoint_of_something_else_is_not_trained_on(tmp_path):
    config = experiment(methods=["uniform"], fractions=[0.1], seeds=[0])
    (row,) = make(config, tmp_path / "a")
    (tmp_path / "b" / "checkpoints").mkdir(parents=True)
    (tmp_path / "b" / "checkpoints" / f"{row['key']}.pt").write_bytes(b"of another version")
    assert lasting(make(config, tmp_path / "b")) == lasting([row])


def test_nothing_is_made_where_the_recipe_cannot_be_run(tmp_path):
    with pytest.raises(ValueError, match="networks"):
        run(experiment(networks=["mpl"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="processes must be an integer of at least 1"):
        run(experiment(), tmp_path / "out", processes=0)


def test_the_commit_is_that_of_the_checkout_or_none(monkeypatch):
    from fastcore.train.experiment import record

    record.git_commit.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    assert record.git_commit() is None
    record.git_commit.cache_clear()
    monkeypatch.undo()
    commit = record.git_commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40
    record.git_commit.cache_clear()


def test_importing_experiments_loads_no_parquet():
    import subprocess

    code = (
        "import sys, fastcore.train.experiment; print([n for n in ('pyarrow', 'yaml') if n in sys.modules])"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"
