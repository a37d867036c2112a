"""The command line: every kind of file in and out, one line for every error, and the exit status of each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fastcore
from fastcore.cli import main

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(1)
X = RNG.normal(size=(30, 4)).astype(np.float32)
Y = np.array(["ant", "bee", "cow"])[np.arange(30) % 3]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    return tmp_path


def run(capsys, *arguments):
    """Exit status, standard output and standard error of the command in this process."""
    status = main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def selected(capsys, *arguments):
    status, out, err = run(capsys, "select", *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


EXPECTED = fastcore.select("k_center", X, 6, seed=3).indices.tolist()


# ---- files in -----------------------------------------------------------------------------------


def save_npz(**arrays):
    np.savez("x.npz", **arrays)
    return "x.npz"


def save_torch(value, name="x.pt"):
    torch.save(value, name)
    return name


def save_safetensors(**tensors):
    pytest.importorskip("safetensors.torch").save_file(tensors, "x.safetensors")
    return "x.safetensors"


def save_parquet(fixed=False, chunks=1, **columns):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def column(rows):
        if rows.ndim == 1:
            return arrow.chunked_array([arrow.array(part) for part in np.array_split(rows, chunks)])
        kind = arrow.list_(arrow.from_numpy_dtype(rows.dtype), rows.shape[1] if fixed else -1)
        return arrow.chunked_array(
            [arrow.array(part.tolist(), kind) for part in np.array_split(rows, chunks)]
        )

    table = arrow.table({name: column(rows) for name, rows in columns.items()})
    parquet.write_table(table, "x.parquet", row_group_size=max(1, len(X) // chunks))
    return "x.parquet"


T = torch.from_numpy(X)
FILES = {
    "npy": lambda: ["x.npy"],
    "npy fortran": lambda: np.save("f.npy", np.asfortranarray(X)) or ["f.npy"],
    "npy double": lambda: np.save("d.npy", X.astype(np.float64)) or ["d.npy"],
    "npz of one": lambda: [save_npz(a=X)],
    "npz of two": lambda: [save_npz(a=X, b=Y), "--key", "a"],
    "pt": lambda: [save_torch(T)],
    "pth": lambda: [save_torch(T, "x.pth")],
    "pt dict": lambda: [save_torch({"h": T, "y": torch.zeros(3), "epoch": 3}), "--key", "h"],
    "pt dict of one": lambda: [save_torch({"h": T.requires_grad_(False), "epoch": 3})],
    "pt dict of numbers": lambda: [save_torch({0: T, 1: T[:3].clone()}), "--key", "0"],
    "safetensors": lambda: [save_safetensors(h=T)],
    "safetensors of two": lambda: [save_safetensors(h=T, b=T[:3].clone()), "--key", "h"],
    "parquet": lambda: [save_parquet(h=X)],
    "parquet fixed": lambda: [save_parquet(fixed=True, h=X)],
    "parquet in chunks": lambda: [save_parquet(chunks=4, h=X, y=Y), "--column", "h"],
}


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file(folder, capsys, kind):
    result = selected(capsys, "k_center", *FILES[kind](), "-k", 6, "--seed", 3)
    assert result["indices"] == EXPECTED


@pytest.mark.parametrize("kind", ["npy", "npz", "pt", "parquet"])
def test_labels_from_every_kind_of_file(folder, capsys, kind):
    codes = np.arange(30) % 3
    labels = {
        "npy": lambda: ["y.npy"],
        "npz": lambda: [save_npz(x=X, y=codes), "--labels-key", "y"],
        "pt": lambda: [save_torch(torch.from_numpy(codes))],
        "parquet": lambda: [save_parquet(x=X, y=Y), "--labels-key", "y"],
    }[kind]()
    result = selected(capsys, "k_center", "x.npy", "-k", 6, "--labels", *labels)
    assert result["indices"] == fastcore.select("k_center", X, 6, labels=Y).indices.tolist()


def test_arguments_reach_select(folder, capsys):
    np.save("taken.npy", np.array([1, 2]))
    result = selected(
        capsys, "graph_cut", "x.npy", "--fraction", 0.2, "--metric", "rbf", "--optimizer", "stochastic",
        "--seed", 5, "--weights", "cluster", "--backend", "reference", "--device", "cpu",
        "--preselected", "taken.npy",
        "--option", "lam=0.25", "--option", "epsilon=0.2", "--option", "gamma=0.5",
    )  # fmt: skip
    direct = fastcore.select(
        "graph_cut", X, fraction=0.2, metric="rbf", optimizer="stochastic", seed=5, weights="cluster",
        preselected=[1, 2], lam=0.25, epsilon=0.2, gamma=0.5, backend="reference",
    )  # fmt: skip
    assert result["indices"] == direct.indices.tolist()
    assert result["weights"] == direct.weights.tolist()
    assert result["info"]["options"]["lam"] == 0.25 and result["info"]["backend"] == "reference"
    assert (
        selected(capsys, "k_center", "x.npy", "-k", 3, "--option", "start=mean")["info"]["options"]["start"]
        == "mean"
    )
    assert selected(capsys, "k_center", "x.npy", "-k", 3, "--option", "start=7")["indices"][0] == 7
    stored = selected(capsys, "k_center", "x.npy", "-k", 3, "--storage", "bfloat16")["info"]["memory"]
    assert stored["storage"] == "bfloat16"


# ---- results out --------------------------------------------------------------------------------


def test_results_as_files(folder, capsys):
    direct = fastcore.select("k_center", X, 6, seed=3, weights="cluster")
    for ending in ("npz", "npy", "txt", "csv", "json"):
        status, out, err = run(
            capsys,
            "select",
            "k_center",
            "x.npy",
            "-k",
            6,
            "--seed",
            3,
            "--weights",
            "cluster",
            "--out",
            f"out.{ending}",
        )
        assert status == 0 and err == ""
        assert out.startswith("6 of 30 rows") and out.rstrip().endswith(f"out.{ending}")
    assert fastcore.load("out.npz").indices.tolist() == EXPECTED
    assert np.load("out.npy").tolist() == EXPECTED
    assert Path("out.txt").read_text() == "".join(f"{row}\n" for row in EXPECTED)
    lines = Path("out.csv").read_text().splitlines()
    assert lines[0] == "row,gain,weight" and len(lines) == 7
    assert lines[2] == f"{EXPECTED[1]},{direct.gains[1]},{direct.weights[1]}"
    held = json.loads(
        Path("out.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
    )
    assert (
        held["indices"] == EXPECTED
        and held["gains"][0] is None
        and held["weights"] == direct.weights.tolist()
    )
    assert not [name for name in os.listdir() if name.startswith(".fastcore")]


def test_a_table_without_out(folder, capsys):
    status, out, _ = run(capsys, "select", "k_center", "x.npy", "-k", 12, "--seed", 3)
    assert status == 0
    assert "k_center: 12 of 30 rows" in out and "and 2 more" in out
    first = next(line for line in out.splitlines() if f" {EXPECTED[0]} " in line)
    assert "inf" in first


# ---- the other commands -------------------------------------------------------------------------


def test_methods(capsys):
    status, out, _ = run(capsys, "methods", "--json")
    listed = json.loads(out)
    assert status == 0 and [each["name"] for each in listed] == fastcore.list_methods()
    assert {"summary", "metrics", "options", "cost", "paper", "prefix"} <= set(listed[0])
    status, out, _ = run(capsys, "methods")
    assert status == 0 and all(name in out for name in fastcore.list_methods())


def test_doctor(capsys):
    status, out, err = run(capsys, "doctor", "--json")
    assert status == 0, err
    assert json.loads(out)
    status, out, err = run(capsys, "doctor")
    assert status == 0 and torch.__version__ in out


def test_demo_is_called_with_its_arguments(capsys, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("fastcore.demo.run", lambda output, quick: calls.append((output, quick)) or 0)
    assert run(capsys, "demo", "--output", tmp_path / "d", "--quick")[0] == 0
    assert calls == [(tmp_path / "d", True)]
    monkeypatch.setattr("fastcore.demo.run", lambda output, quick: 1)
    assert run(capsys, "demo")[0] == 1


def test_version_and_help(capsys):
    assert run(capsys, "--version") == (0, f"fastcore {fastcore.__version__}\n", "")
    status, out, _ = run(capsys, "--help")
    assert status == 0 and all(name in out for name in ("select", "methods", "doctor", "demo"))
    status, out, err = run(capsys)
    assert "select" in out + err and status in (0, 2)


def shell(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastcore", *arguments],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options,
    )  # fmt: skip


def test_the_command_in_a_shell(folder):
    done = shell("select", "k_center", "x.npy", "-k", "6", "--seed", "3", "--out", "out.npy")
    assert done.returncode == 0, done.stderr
    assert np.load("out.npy").tolist() == EXPECTED
    failed = shell("select", "k_center", "x.npy", "-k", "600")
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr == "fastcore: k must be between 1 and 30, got k=600: there are 30 rows\n"


def test_help_loads_no_torch(folder):
    code = "import sys; from fastcore.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_a_reader_that_leaves_is_no_crash(folder):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fastcore", "select", "uniform", "x.npy", "-k", "20", "--json"],
            stdout=write, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    finally:
        os.close(write)
    assert done.returncode == 1 and done.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_an_interrupt_leaves_no_file(folder):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts with it ignored
        "from fastcore import api, cli\n"
        "api.select = lambda *arguments, **options: print('started', flush=True) or time.sleep(60)\n"
        "sys.exit(cli.main(['select', 'uniform', 'x.npy', '-k', '3', '--out', 'out.npz']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and out == ""
    assert sorted(os.listdir()) == ["x.npy", "y.npy"]


def test_import_loads_nothing_heavy_beyond_torch():
    heavy = ("matplotlib", "ninja", "pandas", "pyarrow", "pybind11", "rich", "scipy", "sklearn", "typer")
    code = (
        "import sys, torch, numpy\n"
        "import fastcore; fastcore.select, fastcore.list_methods()\n"
        f"print([name for name in {heavy} + ('torch.utils.cpp_extension',) if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"


def test_a_foreign_fastcore_is_named(tmp_path):
    # fast.ai's package of the same name, installed into the same folder.
    import shutil

    shutil.copytree(ROOT / "fastcore", tmp_path / "fastcore", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", "import fastcore"]
    clean = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert clean.returncode == 0 and clean.stderr == ""
    (tmp_path / "fastcore" / "basics.py").write_text("")
    mixed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert mixed.returncode == 0 and "fast.ai's fastcore" in mixed.stderr
