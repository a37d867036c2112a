"""What a number depends on: card, driver, versions, commit."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import torch

from benchmarks import harness

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = "unknown: nvidia-smi does not say"


def facts(device: str) -> dict[str, str]:
    """The columns that are the same in every row. CUDA is not initialised."""
    card, driver = _card() if device.startswith("cuda") else (f"none: {harness.processor()}", "none")
    return {
        "device": device,
        "card": card,
        "driver": driver,
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "nvcc": _nvcc(),
        "python": platform.python_version(),
        "commit": os.environ.get("FASTCORE_COMMIT") or harness.commit(),
        "sources": sources(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
    }


def sources() -> str:
    """A hash of the package and of the kernels: what was measured, where there is no commit to name it."""
    digest = hashlib.sha256()
    for folder in ("fastcore", "csrc"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".cpp", ".h", ".cu", ".cuh", ".txt"):
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _card() -> tuple[str, str]:
    """Name and driver of the first card, as nvidia-smi says them."""
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/local/nvidia/bin")
    said = _said(program, "--query-gpu=name,driver_version", "--format=csv,noheader") if program else ""
    name, _, driver = said.partition("\n")[0].rpartition(",")
    return name.strip() or UNKNOWN, driver.strip() or UNKNOWN


def _nvcc() -> str:
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    said = _said(nvcc, "--version") if nvcc else ""
    return next(
        (line.split("release ")[1].split(",")[0] for line in said.splitlines() if "release" in line), "none"
    )
