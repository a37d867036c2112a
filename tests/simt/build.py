"""Compiles the CUDA kernels against the stand-in and loads them as the CPU ops `fastcore_simt`."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from fastcore.ops import fakes
from fastcore.ops.native.toolchain import UnavailableError, find_cxx, read_flags, source_folder

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "simt"
__all__ = ["SCHEDULES", "UnavailableError", "cxx", "find_cxx", "library", "load", "program"]

SCHEDULES = ("forward", "reverse", "1")


def cxx(*flags: str) -> list[str]:
    """The compiler command for a source that uses the stand-in."""
    csrc = source_folder()
    includes = [f"-I{csrc}", f"-I{csrc / 'cuda'}", f"-I{HERE}"]
    standard = [flag for flag in read_flags(csrc)["cxx"] if flag != "-O3"]
    # -O1: the tests compile more than they run. Without FORTIFY, see simt.h.
    return [*find_cxx(), *standard, "-O1", "-DFASTCORE_SIMT", "-U_FORTIFY_SOURCE", *includes, *flags]


def compiled(source: Path, *flags: str) -> Path:
    """The object of a source file, from the cache if nothing that it includes has changed."""
    command = cxx("-x", "c++", *flags)
    text = subprocess.run([*command, "-E", str(source)], check=True, capture_output=True).stdout
    key = hashlib.sha256(repr(command).encode() + text).hexdigest()[:20]
    target = CACHE / f"{source.stem}-{key}.o"
    if not target.exists():
        _make(target, [*command, "-c", str(source)])
    return target


def _make(target: Path, command: list[str]) -> None:
    """Run a compiler so that `target` is there as a whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    subprocess.run([*command, "-o", str(partial)], check=True)
    os.replace(partial, target)


def library(*flags: str) -> Path:
    """The library with the glue and all launchers, built with extra flags such as -fsanitize=address."""
    csrc = source_folder()
    root = Path(torch.__file__).parent
    glue = [*read_flags(csrc)["torch"], "-isystem", str(root / "include")]
    kernels = sorted((csrc / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(compiled, csrc / "library.cpp", *glue, *flags)]
        jobs += [pool.submit(compiled, kernel, *flags) for kernel in kernels]
        objects = [str(job.result()) for job in jobs]
    link = [*find_cxx(), "-shared", *flags, *objects, f"-L{root / 'lib'}", *read_flags(csrc)["link_torch"]]
    target = CACHE / f"libfastcore_simt-{hashlib.sha256(repr(link).encode()).hexdigest()[:20]}.so"
    if not target.exists():
        _make(target, link)
    return target


@functools.cache
def program(source: Path, *flags: str) -> Path:
    """A program of one source file that uses the stand-in."""
    unit = compiled(source, *flags)
    target = unit.with_suffix("")
    if not target.exists():
        _make(target, [*find_cxx(), *flags, str(unit)])
    return target


@functools.cache
def load() -> None:
    """Build and load; afterwards `use_backend("simt")` runs the CUDA kernels on the CPU.

    $FASTCORE_SIMT_FLAGS are more compiler flags, for a process that has a sanitizer's runtime.
    """
    torch.ops.load_library(library(*os.environ.get("FASTCORE_SIMT_FLAGS", "").split()))
    fakes.register("fastcore_simt")
