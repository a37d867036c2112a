"""The wheel: what is in it, and that it works where the repository is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow

# What a working copy holds beside the sources; a wheel built there must hold none of it.
LEFTOVERS = [
    "csrc/library.o",
    "csrc/cpu/old.so",
    "build/lib/fastcore/stale.py",
    "fastcore/_native/fastcore.so",
    "fastcore/ops/__pycache__/project.cpython-311.pyc",
    "fastcore/csrc/kernels.o",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built, as a stranger would, from a copy of the sources with leftovers of earlier builds."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(
        ".*", "build", "dist", "__pycache__", "*.egg-info", "_native", "demo-output"
    )
    shutil.copytree(ROOT, copy, ignore=ignore, dirs_exist_ok=True)
    for name in LEFTOVERS:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("left over")
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, "."], copy)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel installed. It borrows torch and the rest from the running one."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel], folder)
    site = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip()
    # A folder named in a .pth file is searched, but its own .pth files are not read: an editable install of
    # fastcore over there stays invisible here.
    Path(site, "borrowed.pth").write_text("\n".join({sysconfig.get_path(k) for k in ("purelib", "platlib")}))
    return folder / "bin"


def test_the_wheel_holds_the_native_sources_and_no_leftovers(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {path.relative_to(ROOT / "csrc") for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    wanted = {str(path) for path in sources if path.suffix in {".h", ".cpp", ".cu", ".cuh", ".txt"}}
    packed = {name.partition("csrc/")[2] for name in names if "csrc/" in name}
    assert wanted and wanted <= packed
    assert [name for name in names if name.endswith((".so", ".o", ".pyc")) or "stale" in name] == []
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"fastcore", "fastcore_coreset"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "fastcore").rglob("*.py")}
    assert modules <= names


def test_the_wheel_is_pure_python_and_names_itself(wheel):
    assert wheel.name.startswith("fastcore_coreset-")
    assert wheel.name.endswith("-py3-none-any.whl")
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = archive.read(name).decode()
    assert "\nName: fastcore-coreset\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert "\nRequires-Dist: torch>=2.11\n" in metadata
    assert any(name.endswith("LICENSE") for name in archive.namelist())


def test_the_installed_package_selects_from_another_folder(elsewhere, tmp_path):
    code = (
        "import fastcore, numpy as np, pathlib, sys\n"
        "assert pathlib.Path(fastcore.__file__).is_relative_to(sys.prefix), fastcore.__file__\n"
        "points = np.array([[0, 0], [1, 0], [9, 0], [9, 9]], np.float32)\n"
        "chosen = fastcore.select('k_center', points, 3, start=0)\n"
        "print(chosen.indices.tolist(), chosen.info['backend'])\n"
    )
    expected = "cpu" if shutil.which("c++") or shutil.which("g++") else "reference"
    assert run([elsewhere / "python", "-c", code], tmp_path).strip() == f"[0, 3, 2] {expected}"


def test_the_installed_command_runs_from_another_folder(elsewhere, tmp_path):
    np.save(tmp_path / "features.npy", np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32))
    fastcore = elsewhere / "fastcore"
    run([fastcore, "select", "k_center", "features.npy", "-k", "5", "--out", "chosen.npz"], tmp_path)
    assert (tmp_path / "chosen.npz").exists()
    assert "facility_location" in run([fastcore, "methods"], tmp_path)


def run(command: list[str | Path], folder: Path) -> str:
    """Standard output of a command that must succeed, run in ``folder`` without the repository in sight."""
    hidden = {"PYTHONPATH", "FASTCORE_AOT", "FASTCORE_BACKEND", "FASTCORE_CSRC"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    result = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{command} failed:\n{result.stdout}{result.stderr}"
    return result.stdout
