"""``fastcore train``: what it prints and writes, and how it fails."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import fastcore
from fastcore import cli
from fastcore.signals import Dynamics
from fastcore.train import DataConfig, evaluate, networks
from fastcore.train.datasets import load

pytest.importorskip("sklearn")
pytest.importorskip("yaml")

SHORT = ["--network", "mlp", "--rows", "200", "--test-rows", "100", "--device", "cpu"]
SHORT += ["--set", "epochs=2", "--set", "train.learning_rate=5e-2"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Exit status, standard output and standard error of ``fastcore train digits ...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        status = cli.main(["train", "digits", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def splits():
    return load(DataConfig("digits", rows=200, test_rows=100))


def test_a_table(run):
    status, out, err = run(*SHORT)
    assert (status, err) == (0, "")
    for text in ("mlp on digits, seed 0, cpu", "accuracy", "best", "images/s", "200"):
        assert text in out
    assert len(out.splitlines()) < 10


def test_json_is_the_result_of_fit(run, splits):
    status, out, err = run(*SHORT, "--seed", 3, "--json")
    told = json.loads(out)
    assert (status, err) == (0, "")
    assert (told["data"], told["network"], told["rows"], told["seed"]) == ("digits", "mlp", 200, 3)
    assert told["train"]["learning_rate"] == 0.05 and told["train"]["epochs"] == 2
    model = networks.build("mlp", shape=splits.train.shape, classes=10, seed=3)
    expected = fastcore.train.fit(
        model,
        splits.train,
        fastcore.train.TrainConfig(epochs=2, learning_rate=0.05),
        test=splits.test,
        seed=3,
    )
    assert told["accuracy_last"] == expected.accuracy_last and told["steps"] == expected.steps
    assert [line["loss"] for line in told["history"]] == [line["loss"] for line in expected.history]
    assert told["images_per_second"] == pytest.approx(400 / told["seconds"])


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_the_weights_are_those_that_were_tested(run, splits, ending):
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
        from safetensors.torch import load_file as read
    else:
        read = torch.load
    told = json.loads(run(*SHORT, "--out", f"model{ending}", "--json")[1])
    model = networks.build("mlp", shape=splits.train.shape, classes=10)
    model.load_state_dict(read(f"model{ending}"))
    assert evaluate(model, splits.test) == told["accuracy_last"]


def test_a_coreset_trains_its_rows_with_its_weights(run, splits):
    features = splits.train.normalised(splits.train.images).flatten(1)
    chosen = fastcore.select("facility_location", features, 30, weights="cluster", progress=False)
    chosen.save("chosen.npz")
    np.save("rows.npy", chosen.indices)
    coreset = json.loads(run(*SHORT, "--coreset", "chosen.npz", "--record", "record.npz", "--json")[1])
    plain = json.loads(run(*SHORT, "--indices", "rows.npy", "--json")[1])
    assert coreset["rows"] == plain["rows"] == 30
    assert coreset["history"][0]["loss"] != plain["history"][0]["loss"], "the weights count"
    record = Dynamics.load("record.npz")
    assert record.epochs == 2 and sorted(record.seen[0, 0].nonzero()[:, 0].tolist()) == sorted(chosen)


def test_a_checkpoint_goes_on(run, monkeypatch):
    first = json.loads(run(*SHORT, "--checkpoint", "run.pt", "--json")[1])
    again = json.loads(run(*SHORT, "--checkpoint", "run.pt", "--json")[1])
    assert first == again
    status, out, err = run(*SHORT, "--checkpoint", "run.pt", "--seed", 1)
    assert (status, out) == (2, "") and "seed is 0 there and 1 here" in err


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--set", "epoch=2"], 2, "train has no field 'epoch': did you mean 'epochs'?"),
        (["--set", "epochs=-2"], 2, "train.epochs must be an integer of at least 0, got -2"),
        (["--set", "epochs"], 2, "a setting must be written field=value, got 'epochs'"),
        (["--network", "lenett"], 2, "did you mean 'lenet'?"),
        (["--coreset", "none.npz"], 2, "cannot read none.npz: No such file"),
        (["--indices", "none.npy"], 2, "cannot read none.npy: No such file"),
        (["--coreset", "a.npz", "--indices", "b.npy"], 2, "give one of them"),
        (["--out", "model.onnx"], 2, "--out must end in one of .pt, .safetensors, got 'model.onnx'"),
        (["--out", "none/model.pt"], 1, "cannot write none/model.pt"),
        (["--record", "record.pt"], 2, "--record must end in .npz"),
        (["--device", "tpu"], 2, "device must"),
        (
            ["--set", "learning_rate=1e38", "--set", "weight_decay=1e3"],
            1,
            "the loss is nan in epoch 1, step 2, at learning rate",
        ),
    ],
    ids=str,
)
def test_errors_are_one_line(run, arguments, status, message):
    found, out, err = run(*SHORT, *arguments)
    assert (found, out) == (status, "")
    assert message in err and err.startswith("fastcore: ") and err.count("\n") == 1


def test_a_coreset_of_other_rows(run):
    fastcore.select("uniform", np.zeros((50, 2), np.float32), 5).save("other.npz")
    status, _, err = run(*SHORT, "--coreset", "other.npz")
    assert status == 2 and "other.npz selects from 50 rows, but there are 200 to train on" in err
