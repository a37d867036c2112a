"""Signals in files: the same as in memory, resumed after a kill, never those of another model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from fastcore.signals import compute, store
from tests.signals.networks import data, small

ROOT = Path(__file__).resolve().parents[2]
ALL = ("embeddings", "logits", "labels", "losses")
X, Y = data()
KINDS = ["signals", "signals.safetensors"]


class Counting(torch.nn.Module):
    """Counts the rows it is run on, and fails or dies once it has seen some."""

    def __init__(self, most: int = 10**9, die: bool = False) -> None:
        super().__init__()
        self.inner, self.rows, self.most, self.die = small(), 0, most, die

    def forward(self, x):
        self.rows += len(x)
        if self.rows > self.most:
            if self.die:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("broken")
        return self.inner(x)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_memory_holds(kind, tmp_path):
    path = tmp_path / "new folder" / kind
    plain = compute(small(), (X, Y), ALL, batch_size=8)
    written = compute(small(), (X, Y), ALL, batch_size=8, path=path)
    for name in ALL:
        assert torch.equal(getattr(plain, name), getattr(written, name))
    assert [each.name for each in path.parent.iterdir()] == [kind]
    # The result is a private map of the file.
    written.logits[0] = 7
    assert torch.equal(store.load(path)["logits"], plain.logits)


def test_a_bar_counts_every_row(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(store, "FLUSH_SECONDS", -1.0)
    compute(small(), (X, Y), batch_size=8, progress=False)
    assert capfd.readouterr().err == ""
    compute(small(), (X, Y), batch_size=8, progress=True)
    assert f"{len(X)}/{len(X)}" in capfd.readouterr().err
    with pytest.raises(RuntimeError, match="broken"):
        compute(Counting(most=30), (X, Y), batch_size=5, path=tmp_path / "a")
    compute(Counting(), (X, Y), batch_size=5, path=tmp_path / "a", progress=True)
    assert f"{len(X)}/{len(X)}" in capfd.readouterr().err


def test_other_programs_read_the_files(tmp_path):
    plain = compute(small(), (X, Y), ALL)
    compute(small(), (X, Y), ALL, path=tmp_path / "a")
    assert np.array_equal(np.load(tmp_path / "a" / "labels.npy"), Y.numpy())
    compute(small(), (X, Y), ALL, path=tmp_path / "a.safetensors")
    held = pytest.importorskip("safetensors.torch").load_file(tmp_path / "a.safetensors")
    assert sorted(held) == sorted(ALL)
    assert all(torch.equal(held[name], getattr(plain, name)) for name in ALL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_file_is_read_and_not_computed_again(kind, tmp_path):
    compute(Counting(), (X, Y), ALL, path=tmp_path / kind)
    model = Counting()
    again = compute(model, (X, Y), ("labels", "logits"), batch_size=4, path=tmp_path / kind)
    assert model.rows <= 8  # the first batch tells what to look for
    assert torch.equal(again.logits, compute(small(), (X, Y)).logits) and again.embeddings is None


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_where_it_stopped(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FLUSH_SECONDS", -1.0)
    path = tmp_path / kind
    with pytest.raises(RuntimeError, match="broken"):
        compute(Counting(most=30), (X, Y), ALL, batch_size=5, path=path)
    assert not path.exists()
    assert json.loads((tmp_path / f"{kind}.partial" / "manifest.json").read_text())["done"] == 25
    model = Counting()
    resumed = compute(model, (X, Y), ALL, batch_size=6, path=path)
    assert model.rows == 2 * 6 + 12  # the first batch twice, to find the layer, and the rest
    plain = compute(small(), (X, Y), ALL, batch_size=5)
    for name in ALL:
        torch.testing.assert_close(getattr(resumed, name), getattr(plain, name), rtol=1e-6, atol=1e-6)
    assert [each.name for each in tmp_path.iterdir()] == [kind]


class Others:
    """The rows, but for the third: its input is moved, or its label another."""

    def __init__(self, x=None, y=None):
        self.x, self.y = X.clone(), Y.clone()
        self.x[2] += 0 if x is None else x
        self.y[2] = self.y[2] if y is None else y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], int(self.y[row])


@pytest.mark.parametrize("state", ["finished", "stopped"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "what"), [({"x": 0.5}, "embeddings"), ({"y": (int(Y[2]) + 1) % 5}, "labels")], ids=str
)
def test_rows_that_changed_after_the_first_are_noticed(change, what, kind, state, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FLUSH_SECONDS", -1.0)
    path = tmp_path / kind
    if state == "stopped":
        with pytest.raises(RuntimeError, match="broken"):
            compute(Counting(most=20), Others(), batch_size=5, path=path)
    else:
        compute(Counting(), Others(), batch_size=5, path=path)
    with pytest.raises(ValueError, match=f"holds signals of another data set, with other {what}: choose"):
        compute(Counting(), Others(**change), batch_size=5, path=path)
    same = compute(Counting(), Others(), batch_size=7, path=path)
    torch.testing.assert_close(same.logits, compute(small(), (X, Y)).logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_off_is_named(kind, tmp_path):
    path = tmp_path / kind
    compute(small(), (X, Y), path=path)
    cut = path / "logits.npy" if path.is_dir() else path
    os.truncate(cut, cut.stat().st_size - 40)
    with pytest.raises(ValueError, match=rf"{path} is damaged, delete it to compute it anew: [^\n]+$"):
        compute(small(), (X, Y), path=path)


def test_a_header_without_its_entries_is_named(tmp_path):
    path = tmp_path / "signals.safetensors"
    compute(small(), (X, Y), path=path)
    path.write_bytes(path.read_bytes().replace(b"data_offsets", b"data_0ffsets", 1))
    with pytest.raises(ValueError, match=rf"{path} is damaged, delete it to compute it anew: "):
        compute(small(), (X, Y), path=path)


@pytest.mark.parametrize("path", [None, *KINDS])
def test_no_batch_is_kept(path, tmp_path):
    """Bounded memory: of the tensors of earlier batches none is alive, but for the result."""
    seen: list[weakref.ref] = []
    alive: list[int] = []

    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small()

        def forward(self, x):
            alive.append(sum(each() is not None for each in seen))
            h = self.inner.embed(x)
            z = self.inner.fc(h)
            seen.extend(weakref.ref(each) for each in (x, h, z))
            return z

    class Rows:
        def __len__(self):
            return len(X)

        def __getitem__(self, row):
            return X[row].clone(), int(Y[row])

    compute(Watched(), Rows(), ALL, batch_size=2, path=None if path is None else tmp_path / path)
    assert len(alive) == 20 and max(alive) <= 6  # of 3 a batch; the last one is alive while the next is made


def test_a_path_that_is_none_is_named():
    with pytest.raises(TypeError, match="path must be None, a folder or a .safetensors file, got 3"):
        compute(small(), (X, Y), path=3)


SCRIPT = """
import sys
import torch
from fastcore.signals import compute, store
from tests.signals.networks import data
from tests.signals.test_store import Counting
torch.set_num_threads(1)
store.FLUSH_SECONDS = -1.0
quantities = ("embeddings", "logits", "labels", "losses")
compute(Counting(most=30, die=True), data(), quantities, batch_size=5, path=sys.argv[1])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_is_resumed(kind, tmp_path):
    path = tmp_path / kind
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(path)]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not path.exists()
    model = Counting()
    resumed = compute(model, (X, Y), ALL, batch_size=5, path=path)
    assert model.rows == 2 * 5 + 12
    plain = compute(small(), (X, Y), ALL, batch_size=5)
    for name in ALL:
        torch.testing.assert_close(getattr(resumed, name), getattr(plain, name), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("done", [False, True])
def test_signals_of_something_else_are_refused(kind, done, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FLUSH_SECONDS", -1.0)
    path = tmp_path / kind
    if done:
        compute(Counting(), (X, Y), ("embeddings", "logits"), path=path)
    else:
        with pytest.raises(RuntimeError):
            compute(Counting(most=30), (X, Y), ("embeddings", "logits"), batch_size=5, path=path)
    trained = Counting()
    trained.inner.conv.bias.data[0] += 1e-6
    statistics = Counting()
    statistics.inner.norm.running_mean[0] += 1e-6
    other = X.clone()
    other[0] += 1
    asked = ("embeddings", "logits")
    for model, dataset, quantities, options, message in [
        (trained, (X, Y), asked, {}, "another model"),
        (statistics, (X, Y), asked, {}, "another model"),
        (Counting(), (X[:-1], Y[:-1]), asked, {}, "another data set"),
        (Counting(), (other, Y), asked, {}, "another data set"),
        (Counting(), (X, Y), asked, {"layer": "inner.fc"}, "another layer"),
        (Counting(), (X, Y), asked, {"amp": torch.bfloat16}, "another amp"),
        (Counting(), (X, Y), ALL, {}, "no labels" if done else "other quantities"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            compute(model, dataset, quantities, path=path, **options)
        assert str(tmp_path) in str(caught.value)
    compute(Counting(), (X, Y), asked, path=path)  # nothing was changed by the refusals


def test_what_is_there_is_never_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("text")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 20)
    for name in ("folder", "file", "a.safetensors"):
        with pytest.raises(ValueError, match=f"path must be new or hold signals, but .*{name} is there"):
            compute(small(), (X, Y), path=tmp_path / name)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    compute(small(), (X, Y), path=tmp_path / "empty")
    with pytest.raises(ValueError, match="there is no manifest.json in it"):
        store.load(tmp_path / "folder")


def test_a_start_that_was_killed_before_its_manifest_is_cleared(tmp_path):
    (tmp_path / "a.partial").mkdir()
    (tmp_path / "a.partial" / "logits.npy").write_bytes(b"half")
    compute(small(), (X, Y), path=tmp_path / "a")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "b.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="b.partial must be ours to write, but holds thesis.txt"):
        compute(small(), (X, Y), path=tmp_path / "b")
    assert (tmp_path / "b.partial" / "thesis.txt").exists()


def test_a_disk_that_is_full_is_an_error_before_the_work(tmp_path, monkeypatch):
    def full(descriptor, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="cannot write .*No space left on device"):
        compute(small(), (X, Y), path=tmp_path / "a")
    assert not (tmp_path / "a").exists()
