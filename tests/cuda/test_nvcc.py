"""What can be known of the CUDA kernels without a card: nvcc takes them, and the library with them loads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastcore.ops import fakes
from fastcore.ops.native.toolchain import find_nvcc, source_folder
from tests.ops.backends import CPU_ONLY

CSRC = source_folder()
SOURCES = sorted((CSRC / "cuda").glob("*.cu"))
ARCHS = ("80", "90")

pytestmark = pytest.mark.skipif(find_nvcc() is None, reason="no nvcc on this machine")


def test_every_op_has_a_source() -> None:
    ops = {fake.__name__ for fake in fakes.OPS} - set(CPU_ONLY)
    assert {source.stem for source in SOURCES} == ops


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_compiles_alone_and_spills_nothing(source: Path, tmp_path: Path) -> None:
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ARCHS]
    flags = [
        "-std=c++17",
        "-O3",
        f"-I{CSRC}",
        f"-I{CSRC / 'cuda'}",
        "-Werror=all-warnings",
        "-Xptxas=-v",
        *codes,
    ]
    command = [str(find_nvcc()), *flags, "-c", str(source), "-o", str(tmp_path / "object.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels = re.findall(r"Compiling entry function '(\w+)' for 'sm_(\d+)'", done.stderr)
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    stacks = re.findall(r"(\d+) bytes stack frame", done.stderr)
    assert {arch for _, arch in kernels} == set(ARCHS)
    assert len(spills) >= len(kernels)
    assert set(spills) == {("0", "0")} and set(stacks) == {"0"}, done.stderr


LOAD = """
import json, torch
from fastcore.ops import native
assert native.status().folder is not None, native.status().reason
names = torch._C._dispatch_get_registrations_for_dispatch_key("CUDA")
x = torch.ones(1, 3, 2)
squares = torch.ops.fastcore.squared_norms(x).tolist()
ops = [name.removeprefix("fastcore::") for name in names if name.startswith("fastcore::")]
print(json.dumps([sorted(ops), squares]))
"""


@pytest.mark.slow
def test_the_library_with_cuda_kernels_loads_without_a_card() -> None:
    """Built with the CUDA objects, linked, and loaded into whatever torch is here; the CPU kernels work."""
    settings = {"FASTCORE_CUDA": "1", "FASTCORE_CUDA_ARCHS": ";".join(ARCHS)}
    environment = {**os.environ, **settings}
    command = [sys.executable, "-c", LOAD]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    registered, squares = json.loads(done.stdout)
    assert registered == sorted(source.stem for source in SOURCES)
    assert squares == [[2.0, 2.0, 2.0]]
