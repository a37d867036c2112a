"""What a result was made by, and what it took: versions and peak memory."""

from __future__ import annotations

import contextlib
import platform
import sys

import numpy as np
import torch

import fastcore


def peak_bytes() -> dict[str, int]:
    """Peak bytes so far by device: resident in this process for the CPU, allocated by torch for a GPU."""
    peaks = {"cpu": _peak_resident()}
    if torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            peaks[f"cuda:{index}"] = torch.cuda.max_memory_allocated(index)
    return peaks


def _peak_resident() -> int:
    # On Linux getrusage starts from the peak of the process that started this one; the status file does not.
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return 0


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {
        "fastcore": fastcore.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
