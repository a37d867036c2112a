"""Memory that runs out where a test says."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Shortage(TorchDispatchMode):
    """Raises torch.OutOfMemoryError instead of running the operations with these numbers.

    Counted are operations that take memory: those with a result that is no view and no argument. With `largest`,
    every operation whose result has more bytes fails, as on a small card, after it ran.
    """

    def __init__(self, *failing: int, largest: int | None = None) -> None:
        super().__init__()
        self.failing, self.largest, self.count, self.raised = set(failing), largest, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        takes = any(returned.alias_info is None for returned in func._schema.returns)
        takes |= not func._schema.returns or "index_put" in func.name()  # our own ops; a sort inside
        if takes:
            self.count += 1
            if self.count - 1 in self.failing:
                self.fail(0)
        result = func(*args, **(kwargs or {}))
        if self.largest is not None and takes and isinstance(result, torch.Tensor):
            size = result.numel() * result.element_size()
            if size > self.largest:
                self.fail(size)
        return result

    def fail(self, size: int) -> None:
        self.raised += 1
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes. (made up)")
