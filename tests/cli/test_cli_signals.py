"""Gradients, signals and records of training from files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import fastcore
from fastcore.cli import main
from fastcore.signals import DynamicsRecorder, Signals

RNG = np.random.default_rng(8)
H = RNG.normal(size=(40, 5)).astype(np.float32)
Z = RNG.normal(size=(40, 3)).astype(np.float32)
Y = RNG.integers(0, 3, 40)
SIGNALS = Signals(embeddings=H, logits=Z, labels=Y)


def picks(capsys, *arguments):
    status = main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)["indices"]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_arrays_go_by_their_names(capsys, tmp_path, ending):
    gradients, outputs = tmp_path / f"gradients.{ending}", tmp_path / f"outputs.{ending}"
    arrays = {"delta": SIGNALS.gradients.delta.numpy(), "h": H}, {"embeddings": H, "logits": Z, "labels": Y}
    for path, held in zip((gradients, outputs), arrays, strict=True):
        if ending == "npz":
            np.savez(path, **held)
        else:
            pytest.importorskip("safetensors.numpy").save_file(held, path)
    expected = fastcore.select("gradmatch", SIGNALS.gradients, 7).indices.tolist()
    assert picks(capsys, "select", "gradmatch", gradients, "-k", 7) == expected
    balanced = fastcore.select("craig", SIGNALS, 7).indices.tolist()
    assert picks(capsys, "select", "craig", outputs, "-k", 7) == balanced
    embeddings = fastcore.select("herding", H, 7).indices.tolist()
    assert picks(capsys, "select", "herding", outputs, "-k", 7, "--key", "embeddings") == embeddings


def test_a_record_of_training(capsys, tmp_path):
    recorder = DynamicsRecorder(40)
    for shift in range(3):
        recorder.update(torch.arange(40), torch.roll(SIGNALS.logits, shift, 1), SIGNALS.labels)
        recorder.end_epoch()
    recorder.dynamics.save(tmp_path / "record.npz")
    expected = fastcore.select("forgetting", recorder.dynamics, 9).indices.tolist()
    assert picks(capsys, "select", "forgetting", tmp_path / "record.npz", "-k", 9) == expected


def test_what_is_missing_is_named(capsys, tmp_path):
    np.savez(tmp_path / "x.npz", logits=Z)
    assert main(["select", "cal", str(tmp_path / "x.npz"), "-k", "3"]) != 0
    assert "Signals without embeddings" in capsys.readouterr().err
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and nothing")
    assert main(["select", "cal", str(tmp_path / "broken.npz"), "-k", "3"]) != 0
    assert "cannot read" in capsys.readouterr().err
