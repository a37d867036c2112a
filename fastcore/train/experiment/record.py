"""What is written of a finished run, beside its numbers: with what, when and on what it ran."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import fastcore
from fastcore import environment


def versions() -> dict[str, Any]:
    """Versions of what a run depends on, and the number of threads, which may change the last bits of a sum."""
    return {**environment.versions(), "threads": torch.get_num_threads()}


@functools.cache
def git_commit() -> str | None:
    """The commit of the checkout that fastcore runs from, with "-dirty" after it where files differ from it.

    None where fastcore is installed otherwise, or where git does not say.
    """
    checkout = Path(fastcore.__file__).resolve().parents[1]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    variables = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # another git may be at work
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=variables)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip() or None


def device_name(device: torch.device) -> str:
    """A device in words: "cpu", or the kind of GPU."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return str(device)


def now() -> str:
    """The time, UTC, ISO."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def forget_peak(device: torch.device) -> None:
    """Lets the peak memory be counted anew, where the system can do that: on Linux and for GPUs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_bytes(device: torch.device) -> int:
    """Peak memory since ``forget_peak``: resident in this process for a CPU, allocated by torch for a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return environment.peak_bytes()["cpu"]
