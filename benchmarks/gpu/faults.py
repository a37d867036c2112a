"""Cases that go wrong on purpose: one raises, one never ends, one is killed. The test of the script runs them."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from typing import Any

import torch

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
        raise ArithmeticError("wrong on purpose")


_SIZES = (Size(10, 1, target=1.0), Size(20, 2))
_FIRST = _Fault("raises", "uniform", _SIZES, _SIZES, _make, lambda size, info: Work(0, 0), width=1)
FAULTS: dict[str, Case] = {
    name: dataclasses.replace(_FIRST, name=name) for name in ("raises", "hangs", "dies")
}
