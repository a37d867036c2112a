"""What is compiled with, and what happens where something of it is missing or broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from fastcore.ops import native
from fastcore.ops.native import build, toolchain
from fastcore.ops.native.toolchain import UnavailableError
from tests.native.workshop import ROOT

NVCC = """\
#!/bin/sh
case "$*" in
    --version) echo "Cuda compilation tools, release 13.0, V13.0.88" ;;
    *--dryrun*) echo '#$ TOP=/opt/toolkit/bin/..' >&2 ;;
    *) echo "csrc/cuda/toy.cu(1): error: no kernel today" >&2; exit 1 ;;
esac
"""


def script(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def nvcc(here, monkeypatch) -> Path:
    """An nvcc that finds an error in everything, first on the PATH, asked for by FASTCORE_CUDA=1."""
    path = script(here.folder / "bin", "nvcc", NVCC)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FASTCORE_CUDA", "1")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    return path


def test_without_a_compiler_the_reference_runs_after_one_warning(workshop):
    environment = workshop.environment
    del environment["CXX"], environment["FASTCORE_CSRC"]
    environment["PATH"] = str(workshop.folder / "hold")
    code = (
        "import torch; from fastcore import ops; from fastcore.ops.squared_norms import squared_norms\n"
        "print(squared_norms(torch.full((1, 2, 3), 2.0)).tolist(), ops.active_backend('cpu'))\n"
        "with ops.use_backend('cpu'):\n"
        "    try: squared_norms(torch.ones(1, 2, 3))\n"
        "    except RuntimeError as error: print(error)\n"
    )
    out, said = workshop.run(code)
    result, forced = out.splitlines()
    assert result == "[[12.0, 12.0]] reference"
    assert forced.startswith("the backend 'cpu' is not available: no C++ compiler on the PATH; install g++")
    assert said.count("RuntimeWarning") == 1
    assert "no C++ compiler on the PATH; install g++ or clang++, or set CXX" in said
    assert not workshop.cache.exists()


def test_a_compiler_may_come_with_arguments(here, monkeypatch):
    plain = toolchain.find_cxx()
    monkeypatch.setenv("CXX", f"{plain[0]} -pipe '-DNAME=a b'")
    assert toolchain.find_cxx() == (*plain, "-pipe", "-DNAME=a b")
    assert (native.cached_folder() / build.LIBRARY).exists()


def test_a_compiler_that_is_not_there_is_named(here, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(UnavailableError, match="CXX=no-such-compiler -O2 is not a program"):
        toolchain.find()


def test_a_compiler_that_does_not_run_is_named(here, monkeypatch):
    broken = script(here.folder / "bin", "broken", "#!/bin/sh\nexit 3\n")
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(UnavailableError, match=f"{broken} --version does not run"):
        toolchain.find()


def test_an_error_of_the_compiler_is_quoted(here):
    here.write("cpu/first.cpp", "int first() { return undeclared; }\n")
    with pytest.raises(build.BuildError, match="csrc/cpu/first.cpp:1:.*error.*undeclared.*build.log"):
        native.cached_folder()
    here.compiled()
    here.write("cpu/first.cpp", "namespace FASTCORE_ISA { int first() { return 1; } }\n")
    native.cached_folder()
    assert set(here.compiled()) == {"cpu/first.cpp"}


def test_a_failed_edit_does_not_bring_the_old_library_back(here):
    here.write("cpu/first.cpp", "#error one\n")
    for _ in range(2):
        with pytest.raises(build.BuildError, match="#error one"):
            native.cached_folder()


def test_without_the_module_of_facts_the_library_is_used(here):
    here.write("info.cpp", "#error no headers\n")
    with pytest.warns(RuntimeWarning, match="no module of build facts: .*no headers"):
        folder = native.cached_folder()
    assert (folder / build.LIBRARY).exists()
    assert not (folder / build.INFO).exists()


def test_missing_sources_are_reported(here, monkeypatch):
    monkeypatch.setenv("FASTCORE_CSRC", str(here.folder / "nowhere"))
    with pytest.raises(UnavailableError, match="sources are missing from .*nowhere"):
        native.cached_folder()


def test_cuda_is_left_out_where_torch_has_none_or_the_user_says_so(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.delenv("FASTCORE_CUDA", raising=False)
    assert toolchain.find_cuda() == (None, "this torch is a CPU build")
    monkeypatch.setenv("FASTCORE_CUDA", "0")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert toolchain.find_cuda() == (None, "FASTCORE_CUDA=0")


def test_a_missing_nvcc_is_reported(here, monkeypatch):
    monkeypatch.setattr(toolchain, "find_nvcc", lambda: None)
    monkeypatch.setenv("FASTCORE_CUDA", "1")
    found, reason = toolchain.find_cuda()
    assert found is None
    assert "no nvcc" in reason


def test_the_toolkit_is_the_one_that_nvcc_names(nvcc):
    found, reason = toolchain.find_cuda()
    assert reason == ""
    assert found is not None
    assert (found.nvcc, found.version, found.toolkit) == (str(nvcc), "13.0", Path("/opt/toolkit"))


@pytest.mark.parametrize(
    ("answer", "archs"),
    [
        ("echo 9.0; echo 8.6; echo 9.0", ("86", "90")),
        ("echo 12.0", ("120",)),
        ("echo '[N/A]'", ("80", "90")),
        ("exit 9", ("80", "90")),
    ],
)
def test_architectures_are_those_of_the_gpus_or_80_and_90(nvcc, answer, archs):
    script(nvcc.parent, "nvidia-smi", f"#!/bin/sh\n{answer}\n")
    assert toolchain.cuda_archs() == archs


def test_architectures_can_be_chosen(monkeypatch):
    monkeypatch.setenv("FASTCORE_CUDA_ARCHS", "75;90a")
    assert toolchain.cuda_archs() == ("75", "90a")


def test_where_the_cuda_kernels_do_not_compile_the_rest_is_used(here, nvcc):
    here.write("cuda/toy.cu", "__global__ void toy() {}\n")
    with pytest.warns(RuntimeWarning, match="no kernel today.*Building without CUDA"):
        folder = native.cached_folder()
    facts = json.loads((folder / build.FACTS).read_text())
    assert facts["cuda"] == ""
    assert facts["cuda_absent"] == "its kernels did not compile"


def test_the_flags_are_one_list_for_every_build():
    flags = toolchain.read_flags(ROOT / "csrc")
    assert "-ffp-contract=off" in flags["cxx"]
    assert flags["torch"] == ["-DTORCH_TARGET_VERSION=0x020b000000000000"]
    read = "foreach(name " + " ".join(name for name in flags if name != "link") + ")"
    assert read in (ROOT / "CMakeLists.txt").read_text()
