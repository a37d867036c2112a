"""The native library: built on first use, tested once, loaded into torch.

`import fastcore` never comes here; the first call of an op does, through `fastcore.ops`. The library is the
one built ahead of time into the package, else one in this user's cache, else one that is built now.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import shutil
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from fastcore.files import write_atomic
from fastcore.ops import fakes
from fastcore.ops.native import build, cache, selftest, toolchain
from fastcore.ops.native.toolchain import UnavailableError

AHEAD = Path(__file__).resolve().parents[2] / "_native"
"""Where an ahead-of-time build puts the library."""


@dataclass
class Native:
    """The library of this process: the folder that it was loaded from, or why there is none."""

    folder: Path | None
    reason: str = ""
    problems: dict[str, str] = field(default_factory=dict)
    """For each kind of device that was asked for: why its kernels cannot be used, "" if they can."""
    broken: dict[str, str] = field(default_factory=dict)
    """Ops whose CUDA kernels fail the self-test where the others pass it, and how."""


_kernels: set[tuple[str, str]] = set()
"""Found in the loaded library, where they stay."""

_lock = threading.RLock()
_native: Native | None = None


def status() -> Native:
    """Load the library, once per process, building it if need be. Where that fails: one warning, no error."""
    global _native
    with _lock:
        if _native is None:
            try:
                _native = Native(_load())
            except (UnavailableError, OSError) as error:
                _native = Native(None, str(error))
                _warn(f"{error}. Using the reference backend")
        return _native


def problem(device: str) -> str:
    """Why the kernels for a kind of device ("cpu", "cuda") cannot be used; "" if they can."""
    native = status()
    if native.folder is None:
        return native.reason
    with _lock:
        if device not in native.problems:
            native.problems[device] = _device_problem(native.folder, device)
            if native.problems[device] and device == "cuda" and (some := _broken(native.folder)):
                # A card runs kernels that few cards have run: one of them is no reason to do without all.
                _warn(f"{native.problems[device]}. Using the references of these ops")
                native.problems[device], native.broken = "", some
            elif native.problems[device]:
                _warn(f"{native.problems[device]}. Using the reference backend")
        return native.problems[device]


def broken(op: str, device: str) -> str:
    """How the kernel of an op fails the self-test on a kind of device whose other kernels are used; or ""."""
    return _native.broken.get(op, "") if _native is not None and device == "cuda" else ""


def _broken(folder: Path) -> dict[str, str]:
    """The ops that fail the self-test on CUDA, where the failures of one cannot be those of another."""
    if not has_kernel("project", "cuda"):
        return {}
    failed = _tested(folder, "cuda")
    spread = any("CUDA error" in how for how in failed.values())  # after which every call fails
    tested = sum(has_kernel(fake.__name__, "cuda") for fake in fakes.OPS)
    return {} if spread or len(failed) >= tested else failed


def has_kernel(op: str, device: str, namespace: str = "fastcore") -> bool:
    """Whether a loaded library implements an op for a kind of device."""
    kernel = f"{namespace}::{op}", device.upper()
    if kernel in _kernels:
        return True
    try:
        found = bool(torch._C._dispatch_has_kernel_for_dispatch_key(*kernel))
    except RuntimeError:  # no library has it, or torch knows no such kind of device
        return False
    if found:
        _kernels.add(kernel)
    return found


def build_info() -> dict[str, Any]:
    """Compiler, flags, CUDA, instruction sets and threads of the loaded library; {} without one."""
    folder = status().folder
    if folder is None:
        return {}
    facts = _read(folder / build.FACTS)
    module = _info_module(folder)
    return facts if module is None else {**facts, **module.build_info()}


def build_ahead(folder: Path) -> None:
    """Put a tested library into `folder`, for a package that needs no compiler; raises UnavailableError."""
    made = cached_folder()
    _open(made)
    if trouble := _device_problem(made, "cpu"):
        raise UnavailableError(trouble)
    shutil.copytree(made, folder, dirs_exist_ok=True)


def _load() -> Path:
    folder = AHEAD if _ahead_matches() else cached_folder()
    _open(folder)
    return folder


def _open(folder: Path) -> None:
    torch.ops.load_library(folder / build.LIBRARY)
    fakes.register("fastcore")


def _ahead_matches() -> bool:
    if os.environ.get("FASTCORE_CSRC") or not (AHEAD / build.LIBRARY).exists():
        return False
    return _read(AHEAD / build.FACTS).get("torch") == torch.__version__


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def cached_folder() -> Path:
    """The folder of the library in the cache, built now if it is not there; raises UnavailableError."""
    csrc, tools = toolchain.source_folder(), toolchain.find()
    try:
        return _find_or_build(build.plan(csrc, tools))
    except build.BuildError as error:
        if tools.cuda is None:
            raise
        _warn(f"{error}. Building without CUDA; FASTCORE_CUDA=0 does so from the start")
        without = dataclasses.replace(tools, cuda=None, cuda_absent="its kernels did not compile")
        return _find_or_build(build.plan(csrc, without))


def _find_or_build(plan: build.Plan) -> Path:
    root = cache.configured()
    try:
        return _build_in(root, plan)
    except OSError as error:
        other = cache.temporary()
        _warn(
            f"cannot write to {root} ({error.strerror}), using {other}; FASTCORE_CACHE chooses another folder"
        )
        return _build_in(other, plan)


def _build_in(root: Path, plan: build.Plan) -> Path:
    folder = cache.private_folder(root, "libraries", plan.library_key)
    library = folder / build.LIBRARY
    if not library.exists():
        objects = cache.private_folder(root, "objects", plan.objects_key)
        with cache.lock(objects) as descriptor:
            if not library.exists():  # nobody built it while we waited
                build.build(plan, objects, folder, descriptor)
    cache.require_private(library)
    return folder


def _device_problem(folder: Path, device: str) -> str:
    if not has_kernel("project", device):
        why = _read(folder / build.FACTS).get("cuda_absent") or "it was built without"
        return f"the native library has no {device} kernels: {why}"
    failed = _tested(folder, device)
    if not failed:
        return ""
    listed = "; ".join(f"{op}: {what}" for op, what in failed.items())
    return f"the native library fails its self-test on {device} ({listed}); delete {folder} to build it again"


def _tested(folder: Path, device: str) -> dict[str, str]:
    """Failures of the self-test: from the stamp beside the library, or run now."""
    stamp = folder / f"self_test_{device}.json"
    found: dict[str, str] | None = _read(stamp).get("failures")
    if found is None:
        found = selftest.failures(device, has_kernel)
        with contextlib.suppress(OSError):  # a package may be installed read-only: every process tests then
            write_atomic(stamp, json.dumps({"failures": found}, indent=1).encode())
    return found


def _info_module(folder: Path) -> ModuleType | None:
    path = folder / build.INFO
    spec = importlib.util.spec_from_file_location("fastcore.ops._info", path) if path.exists() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _warn(message: str) -> None:
    warnings.warn(f"fastcore: {message}.", RuntimeWarning, stacklevel=3)
