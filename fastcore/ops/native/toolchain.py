"""What this machine can compile with: C++ compiler, nvcc, flags, and the sources to compile."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

DEFAULT_ARCHS = ("80", "90")
"""CUDA architectures compiled for when no GPU is visible: A100 and H100."""


class UnavailableError(Exception):
    """The native library cannot be had; the message says why and what to do, in one line."""


@dataclass(frozen=True)
class Cuda:
    """An nvcc, the folder of its toolkit, and the architectures to compile for."""

    nvcc: str
    version: str
    toolkit: Path
    archs: tuple[str, ...]


@dataclass(frozen=True)
class Toolchain:
    """Everything that decides how the sources are compiled; equal toolchains give equal objects."""

    cxx: tuple[str, ...]
    cxx_version: str
    cuda: Cuda | None
    cuda_absent: str = field(repr=False)  # why there is no CUDA part, "" if there is one
    torch_version: str = torch.__version__
    python_version: str = platform.python_version()
    machine: str = platform.machine()

    @property
    def instruction_sets(self) -> tuple[str, ...]:
        """Names of the variants in which every CPU kernel is compiled."""
        return ("base", "v3") if self.machine in ("x86_64", "AMD64") else ("base",)


def source_folder() -> Path:
    """The folder of the C++ and CUDA sources: $FASTCORE_CSRC, the one in the package, or the repository's."""
    package = Path(__file__).resolve().parents[2]
    chosen = os.environ.get("FASTCORE_CSRC")
    for folder in [Path(chosen)] if chosen else [package / "csrc", package.parent / "csrc"]:
        if (folder / "library.cpp").is_file():
            return folder
    raise UnavailableError(
        f"the C++ sources are missing from {chosen or package / 'csrc'}; reinstall fastcore-coreset"
    )


def read_flags(folder: Path) -> dict[str, list[str]]:
    """The flags of csrc/flags.txt: lines `name: flag flag ...`."""
    lines = (folder / "flags.txt").read_text().splitlines()
    pairs = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name: shlex.split(flags) for name, _, flags in pairs}


def find() -> Toolchain:
    """The compilers of this machine; raises UnavailableError without a C++ compiler."""
    if sys.platform == "win32":
        raise UnavailableError("no native build on Windows yet; the reference backend gives the same picks")
    cxx = find_cxx()
    cuda, why = find_cuda()
    return Toolchain(cxx, version_of(*cxx, "--version"), cuda, why)


def find_cxx() -> tuple[str, ...]:
    """The command of the C++ compiler: $CXX, else the first of c++, g++, clang++ on the PATH."""
    chosen = os.environ.get("CXX")
    for command in [shlex.split(chosen)] if chosen else [["c++"], ["g++"], ["clang++"]]:
        if command and (found := shutil.which(command[0])):
            return (found, *command[1:])
    wanted = f"CXX={chosen} is not a program" if chosen else "no C++ compiler on the PATH"
    raise UnavailableError(f"{wanted}; install g++ or clang++, or set CXX")


def version_of(*command: str) -> str:
    """What a compiler says of its version; raises UnavailableError when it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{shlex.join(command)} does not run: {error}") from error
    return done.stdout.strip()


def find_cuda() -> tuple[Cuda | None, str]:
    """The CUDA compiler to use, or None and the reason."""
    asked = os.environ.get("FASTCORE_CUDA", "auto").lower()
    if asked in ("0", "off"):
        return None, f"FASTCORE_CUDA={asked}"
    if torch.version.cuda is None and asked not in ("1", "on"):
        return None, "this torch is a CPU build"
    nvcc = find_nvcc()
    if nvcc is None:
        return None, "no nvcc; install the CUDA toolkit or set CUDA_HOME"
    try:
        version = re.search(r"release ([\d.]+)", version_of(nvcc, "--version"))
        return Cuda(nvcc, version.group(1) if version else "?", toolkit_of(nvcc), cuda_archs()), ""
    except UnavailableError as error:
        return None, str(error)


def find_nvcc() -> str | None:
    """The compiler of $CUDA_HOME, of the PATH, or of the usual folder."""
    home = os.environ.get("CUDA_HOME")
    of_home = shutil.which("nvcc", path=os.path.join(home, "bin")) if home else None
    return of_home or shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def toolkit_of(nvcc: str) -> Path:
    """The toolkit's folder as nvcc itself sees it: the nvcc on the PATH may be a wrapper script."""
    done = subprocess.run(
        [nvcc, "--dryrun", "-E", "-x", "cu", os.devnull],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    top = re.search(r"^#\$ TOP=(.+)$", done.stderr, re.MULTILINE)
    return Path(top.group(1)).resolve() if top else Path(nvcc).resolve().parents[1]


def cuda_archs() -> tuple[str, ...]:
    """$FASTCORE_CUDA_ARCHS ("80;90"), else those of this machine's GPUs, else 80 and 90."""
    if chosen := os.environ.get("FASTCORE_CUDA_ARCHS"):
        return tuple(re.findall(r"\d+a?", chosen))
    # Asking torch would initialise CUDA, after which the process can no longer fork workers.
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return DEFAULT_ARCHS
    found = {int(major + minor) for major, minor in re.findall(r"^(\d+)\.(\d+)", done.stdout, re.MULTILINE)}
    return tuple(map(str, sorted(found))) or DEFAULT_ARCHS
