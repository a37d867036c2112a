"""The library built ahead of time: in the wheel, found there, and left alone where it does not fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fastcore.ops import native
from fastcore.ops.native import build
from tests.native.workshop import ROOT

pytestmark = pytest.mark.slow

CODE = (
    "import torch; from fastcore import ops; from fastcore.ops import native\n"
    "print(ops.active_backend('cpu')); print(native.status().folder)\n"
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The content of a wheel that was built with FASTCORE_AOT=1 from a copy of the sources."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("fastcore", "csrc"):
        ignore = shutil.ignore_patterns("__pycache__", "_native")
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    environment = {**os.environ, "FASTCORE_AOT": "1"}
    done = subprocess.run(
        [*pip, "--wheel-dir", out, "."], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = out.iterdir()
    assert "-py3-none-any" not in wheel.name
    zipfile.ZipFile(wheel).extractall(out / "content")
    return out / "content"


def run(folder: Path, tmp_path: Path) -> tuple[list[str], str]:
    """Run from the unpacked wheel, without a compiler."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("FASTCORE_", "CXX"))
    } | {"PYTHONPATH": str(folder), "PATH": str(tmp_path), "FASTCORE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines(), done.stderr


def test_the_wheel_needs_no_compiler_and_no_cache(unpacked, tmp_path):
    (backend, folder), said = run(unpacked, tmp_path)
    assert backend == "cpu"
    assert Path(folder) == unpacked / "fastcore" / "_native"
    assert said == ""
    assert not (tmp_path / "cache").exists()


def test_a_library_for_another_torch_is_not_loaded(unpacked, tmp_path):
    shutil.copytree(unpacked / "fastcore", tmp_path / "fastcore")
    facts = tmp_path / "fastcore" / "_native" / build.FACTS
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "torch": "2.11.0"}))
    (backend, _), said = run(tmp_path, tmp_path)
    assert backend == "reference"
    assert "no C++ compiler" in said


def test_chosen_sources_win_over_a_library_built_ahead(tmp_path, monkeypatch):
    (tmp_path / build.LIBRARY).touch()
    monkeypatch.setattr(native, "AHEAD", tmp_path)
    monkeypatch.setattr(native, "_read", lambda path: {"torch": native.torch.__version__})
    monkeypatch.delenv("FASTCORE_CSRC", raising=False)
    assert native._ahead_matches()
    monkeypatch.setenv("FASTCORE_CSRC", "anywhere")
    assert not native._ahead_matches()
