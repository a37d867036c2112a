"""The command line when something is wrong: one line, an exit status, no file, and never a pickle."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fastcore.cli import main

ROOT = Path(__file__).resolve().parents[2]
X = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", np.array(["ant", "bee", "cow"])[np.arange(30) % 3])
    return tmp_path


def run(capsys, *arguments):
    """Exit status, standard output and standard error of the command in this process."""
    status = main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return status, out, err


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def trap_npy():
    np.save("trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    return "trap.npy"


def trap_npz():
    np.savez("trap.npz", x=np.array([Trap()], dtype=object))
    return "trap.npz"


def trap_pt():
    torch.save({"x": Trap()}, "trap.pt")
    return "trap.pt"


def trap_raw(name):
    Path(name).write_bytes(pickle.dumps(Trap()))
    return name


@pytest.mark.parametrize(
    "make",
    [
        trap_npy,
        trap_npz,
        trap_pt,
        *(lambda e=e: trap_raw(f"trap.{e}") for e in ("npy", "npz", "pt", "safetensors", "parquet")),
    ],
)
def test_no_pickle_is_ever_loaded(folder, capsys, make):
    path = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status, out, err = run(capsys, "select", "uniform", path, "-k", 1)
    assert not os.path.exists("sprung")
    assert status == 2 and out == ""
    assert err.startswith(f"fastcore: cannot read {path}: ") and err.count("\n") == 1
    # What numpy and torch say in their place is how to load it all the same.
    assert "trust" not in err and "weights_only" not in err and "allow_pickle" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["select"], 2, "Missing argument"),
        (["selekt"], 2, "No such command 'selekt'"),
        (["select", "uniform", "x.npy", "-k", "many"], 2, "Invalid value for '-k'"),
        (["select", "uniform", "x.npy", "--speed", "3"], 2, "No such option"),
        (["select", "uniform", "x.npy"], 2, "give exactly one of k and fraction, got neither"),
        (["select", "uniform", "x.npy", "-k", "3", "--fraction", "0.1"], 2, "got k=3 and fraction=0.1"),
        (["select", "uniform", "x.npy", "-k", "31"], 2, "k must be between 1 and 30, got k=31"),
        (["select", "unifrom", "x.npy", "-k", "3"], 2, "unknown method 'unifrom': did you mean 'uniform'?"),
        (["select", "uniform", "none.npy", "-k", "3"], 2, "cannot read none.npy: No such file or directory"),
        (["select", "uniform", ".", "-k", "3"], 2, "cannot read .: the ending must be one of .npy, .npz"),
        (["select", "uniform", "x.txt", "-k", "3"], 2, "cannot read x.txt: the ending must be one of"),
        (["select", "uniform", "empty.npy", "-k", "3"], 2, "cannot read empty.npy: the file is empty"),
        (["select", "uniform", "empty.pt", "-k", "3"], 2, "cannot read empty.pt: the file is empty"),
        (["select", "uniform", "short.npy", "-k", "3"], 2, "cannot read short.npy: "),
        (["select", "uniform", "two.npz", "-k", "3"], 2, "two.npz holds 2 arrays: name one; there are a, b"),
        (
            ["select", "uniform", "two.npz", "-k", "3", "--key", "c"],
            2,
            "two.npz has no array 'c'; there are a, b",
        ),
        (["select", "uniform", "y.npy", "-k", "3"], 2, "data must hold real numbers, got dtype <U3"),
        (["select", "uniform", "x.npy", "-k", "3", "--labels", "x.npy"], 2, "labels must have shape (30,)"),
        (
            ["select", "uniform", "x.npy", "-k", "3", "--option", "lam"],
            2,
            "--option must be name=value, got 'lam'",
        ),
        (
            ["select", "uniform", "x.npy", "-k", "3", "--option", "lam=1"],
            2,
            "uniform does not take lam=1 (gradmatch, graph_cut do)",
        ),
        (
            ["select", "uniform", "x.npy", "-k", "3", "--option", "seed=1"],
            2,
            "--option seed: it has an option of its own",
        ),
        (
            ["select", "graph_cut", "x.npy", "-k", "3", "--option", "lam=1", "--option", "lam=2"],
            2,
            "--option lam is given twice",
        ),
        (
            ["select", "uniform", "x.npy", "-k", "3", "--out", "x.doc"],
            2,
            "--out must end in one of .npz, .npy",
        ),
        (
            ["select", "uniform", "x.npy", "-k", "3", "--out", "no/x.npz"],
            1,
            "cannot write no/x.npz: the folder",
        ),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_errors_are_one_line(folder, capsys, arguments, status, message):
    Path("empty.npy").write_bytes(b"")
    Path("empty.pt").write_bytes(b"")
    Path("short.npy").write_bytes(Path("x.npy").read_bytes()[:-7])
    Path("x.txt").write_text("1 2\n")
    np.savez("two.npz", a=X, b=X)
    before = sorted(os.listdir())
    got, out, err = run(capsys, *arguments)
    assert got == status and out == ""
    assert err.startswith("fastcore: ") and err.count("\n") == 1
    assert message in err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"h": X.tolist(), "y": [0] * 30}, "x.parquet holds 2 columns: name one; there are h, y"),
        ({"y": ["ant", "bee"]}, "data must hold real numbers"),
        ({"h": [[1.0], [1.0, 2.0]]}, "column 'h' must hold lists of one length"),
        ({"h": [[1.0], None]}, "column 'h' has 1 missing values"),
        ({"h": [[1.0], [None]]}, "data must be finite in float32, got nan at row 1, column 0"),
    ],
    ids=["two", "text", "ragged", "no list", "no number"],
)
def test_parquet_errors(folder, capsys, columns, message):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table(columns), "x.parquet")
    status, _, err = run(capsys, "select", "uniform", "x.parquet", "-k", 1)
    assert status == 2 and message in err


def raising(error):
    def fail(*arguments, **options):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, None),
        (MemoryError("10 GB"), 1, "fastcore: out of memory 10 GB\n"),
        (RuntimeError("two\n  lines"), 1, "fastcore: two lines\n"),
        (OSError(28, "No space left on device"), 1, "fastcore: No space left on device\n"),
        (AssertionError(), 1, "fastcore: AssertionError\n"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_failures_while_running(folder, capsys, monkeypatch, error, status, line):
    monkeypatch.setattr("fastcore.api.select", raising(error))
    got, out, err = run(capsys, "select", "uniform", "x.npy", "-k", 3, "--out", "out.npz")
    assert got == status and out == ""
    assert err == line or line is None and err.count("\n") <= 1
    assert not os.path.exists("out.npz")


def test_a_warning_is_one_line_without_source(folder):
    settings = {"PYTHONPATH": str(ROOT), "CXX": "/no/compiler", "FASTCORE_CACHE": str(folder / "cache")}
    environment = {name: value for name, value in os.environ.items() if name != "FASTCORE_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-m", "fastcore", "select", "k_center", "x.npy", "-k", "3"],
        capture_output=True,
        text=True,
        env=environment | settings,
    )
    assert done.returncode == 0 and "3 of 30 rows" in done.stdout
    assert done.stderr.startswith("fastcore: CXX=/no/compiler is not a program")
    assert done.stderr.count("\n") == 1 and "Warning" not in done.stderr


def test_a_failed_write_leaves_no_file(folder, capsys, monkeypatch):
    monkeypatch.setattr(os, "fsync", raising(OSError(28, "No space left on device")))
    for ending in ("npz", "csv", "json"):
        status, _, err = run(capsys, "select", "uniform", "x.npy", "-k", 3, "--out", f"out.{ending}")
        assert status == 1 and err == f"fastcore: cannot write out.{ending}: No space left on device\n"
    assert sorted(os.listdir()) == ["x.npy", "y.npy"]
