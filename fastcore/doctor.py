"""What is on this machine, which backend each op will use, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
import warnings
from typing import Any

import torch

from fastcore import __version__, ops
from fastcore.ops import fakes, native
from fastcore.ops.native import cache, toolchain


def report() -> dict[str, Any]:
    """Facts in reading order: versions, compilers, the native library, the backend of each op, advice.

    Builds the native library if it is not there, since only a build shows whether it can be built; not where
    FASTCORE_BACKEND=reference. Values are strings, lists and dictionaries of strings. "advice" is empty where
    nothing is missing.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    with warnings.catch_warnings():  # what they say is in the report
        warnings.simplefilter("ignore", RuntimeWarning)
        backends = {device: _backends(device) for device in devices}
        library, built, problems = _library(devices)
    return {
        "fastcore": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        or "none that torch sees",
        "compiler": _compiler(),
        "nvcc": _nvcc(),
        "cache": _cache(),
        "library": library,
        "built with": built,
        "backends": backends,
        "advice": [*_forced(), *problems],
    }


def _backends(device: str) -> dict[str, str]:
    try:
        return {fake.__name__: ops.backend_of(fake.__name__, device) for fake in fakes.OPS}
    except (RuntimeError, ValueError) as error:  # FASTCORE_BACKEND asks for what is not there
        return {"none": str(error)}


def _forced() -> list[str]:
    """What to do about FASTCORE_BACKEND where it keeps native ops from running."""
    name = os.environ.get("FASTCORE_BACKEND") or "auto"
    if name == "reference":
        return ["FASTCORE_BACKEND=reference: unset it to use the native library"]
    if name == "cuda" and not torch.cuda.is_available():
        return ["FASTCORE_BACKEND=cuda: unset it, since torch sees no CUDA device"]
    if name not in ops.BACKENDS:
        return [f"FASTCORE_BACKEND={name}: unset it, or set it to one of {', '.join(ops.BACKENDS)}"]
    return []


def _library(devices: list[str]) -> tuple[str, dict[str, str], list[str]]:
    """Where the native library is, how it was built, and what keeps it from being used."""
    if os.environ.get("FASTCORE_BACKEND") == "reference":
        return "not loaded", {}, []
    folder = native.status().folder
    built = {
        name: ", ".join(value) if isinstance(value, list | tuple) else str(value or "none")
        for name, value in native.build_info().items()
    }
    problems = [f"{device}: {native.problem(device)}" for device in devices if native.problem(device)]
    broken = native.status().broken.items()
    problems += [
        f"cuda: the kernel of {op} fails its self-test ({how}); its reference runs" for op, how in broken
    ]
    return str(folder or "none"), built, problems


def _compiler() -> str:
    try:
        found = toolchain.find_cxx()
        return f"{' '.join(found)}, {toolchain.version_of(*found, '--version').splitlines()[0]}"
    except toolchain.UnavailableError as error:
        return f"none: {error}"


def _nvcc() -> str:
    found, reason = toolchain.find_cuda()
    if found is None:
        return f"not used: {reason}"
    return f"{found.nvcc}, CUDA {found.version}, for architectures {', '.join(found.archs)}"


def _cache() -> str:
    root = cache.configured()
    if not root.exists():
        return f"{root}, not made yet"
    try:
        cache.require_private(root)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    except (toolchain.UnavailableError, OSError) as error:
        return str(error)
    return f"{root}, {size / 1e6:.1f} MB"
