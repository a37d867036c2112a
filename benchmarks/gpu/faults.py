"""Cases that go wrong on purpose. The test of the script runs them, and `--cases raises,wrong` does."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from typing import Any

import torch

import fastcore
from benchmarks.gpu.case import Case, Data, Size, Work


def _make(size: Size, device: torch.device) -> Data:
    return Data(torch.zeros(size.n, 1, device=device))


class _Fault(Case):
    def reference(self, quick: bool, device: torch.device) -> str:
        return "none"

    def select(self, data: Data, size: Size, **options: Any) -> Any:
        if self.name == "hangs":
            time.sleep(3600)
        if self.name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.name == "fills":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 149 GiB")
        if self.name in ("wrong", "blind"):
            return fastcore.select("uniform", data.rows, size.k, progress=False)
        raise ArithmeticError("wrong on purpose")

    def check(self, data: Data, size: Size, selection: Any) -> str:
        if self.name == "blind":
            raise ValueError("not 2 different rows of 10")
        return "differs from float64 at 0"


_SIZES = (Size(10, 1, target=1.0), Size(20, 2))
_FIRST = _Fault("raises", "uniform", _SIZES, _SIZES, _make, lambda size, info: Work(0, 0), width=1)
FAULTS: dict[str, Case] = {
    name: dataclasses.replace(_FIRST, name=name)
    for name in ("raises", "hangs", "dies", "fills", "wrong", "blind")
}
