"""A graphics card that is none: tensors that say that they are on one, and are computed on the CPU.

Inside `card()` the device "cuda:0" is there. As on a real one, operations want all their tensors in one place,
numpy reads none of it, and whoever looks at a number waits: `waits` counts that. Our own ops run by their
references, by the CPU kernels, or by the CUDA kernels on the stand-in of tests/simt.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from fastcore import ops
from fastcore.ops import native
from tests.ops.backends import CPU_ONLY, require

CARD = torch.device("cuda", 0)

READS = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "cpu")
SIZES = ("nonzero", "masked_select", "unique", "argwhere")
"""What waits for the device: it gives a number, or a size that depends on numbers."""

ANYWHERE = ("copy_", "to", "__getitem__", "__setitem__", "index_put_", "_has_compatible_shallow_copy_type")
"""What takes tensors of the CPU beside others: copies, row numbers, and the question whether a module can move."""

FOREIGN = ("numpy", "__array__", "data_ptr")


class OnCard(torch.Tensor):
    """A tensor on the card."""

    device = property(lambda self: CARD)  # type: ignore[assignment]
    is_cuda = True  # type: ignore[assignment]
    is_cpu = False  # type: ignore[assignment]


def is_there(value: Any) -> bool:
    """Whether a tensor is on the card; sparse ones cannot be of a class of their own."""
    return isinstance(value, OnCard) or getattr(value, "on_card", False)


class Card(TorchFunctionMode):
    """Keeps apart what is on the card and what is not.

    Attributes:
        waits: how often the host waited for a result.
        calls: operations on the card.
        size, used, peak: bytes of its memory, of the tensors in it, and of those at any time. Where a result does
            not fit, torch.OutOfMemoryError; memory that an operation takes for itself is not counted.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.waits = self.calls = self.used = self.peak = 0
        self.size = size
        self._held: dict[int, int] = {}  # tensors in each piece of memory

    def placed(self, value: Any, there: bool) -> Any:
        """A result, on the card or not."""
        if not isinstance(value, torch.Tensor) or is_there(value) == there:
            return value
        if value.layout != torch.strided:
            value = value.clone()
            value.on_card = there
            return value
        if not there:
            return value.as_subclass(torch.Tensor)
        value = value.as_subclass(OnCard)
        memory = value.untyped_storage()
        where, size = memory.data_ptr(), memory.nbytes()
        if where not in self._held:
            self.used += size
        self._held[where] = self._held.get(where, 0) + 1
        weakref.finalize(value, self._drop, where, size)
        if self.used > self.size:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes (made up)")
        self.peak = max(self.peak, self.used)
        return value

    def _drop(self, where: int, size: int) -> None:
        self._held[where] -= 1
        if self._held[where] == 0:
            del self._held[where]
            self.used -= size

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        kwargs.pop("pin_memory", None)
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        ours = [each for each in given if is_there(each)]
        there = self._there(func, name, args, kwargs, bool(ours))
        if name == "__get__" and func.__self__.__name__ == "device" and is_there(args[0]):
            return CARD
        if not (given or there):
            return func(*args, **kwargs)
        if ours and name in FOREIGN:
            raise TypeError(f"can't convert cuda:0 device type tensor to numpy: {name}")
        self._check(name, args, ours, given)
        self._count(name, args, kwargs, bool(ours), there)
        moved = name in ("to", "cpu", "cuda") and there != bool(ours)
        cpu = torch.device("cpu")
        if name == "to":
            args = tuple(cpu if isinstance(each, torch.device | str) else each for each in args)
        if kwargs.get("device") is not None:
            kwargs["device"] = cpu
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
            if moved:
                result = result.clone()
            return tree_map(lambda value: self.placed(value, there), result)

    @staticmethod
    def _there(func: Any, name: str, args: Any, kwargs: Any, ours: bool) -> bool:
        """Whether the result is on the card."""
        device = kwargs.get("device")
        if name == "to":
            for each in args[1:]:
                if isinstance(each, torch.Tensor | torch.device | str):
                    device = each.device if isinstance(each, torch.Tensor) else each
        if name in ("cpu", "cuda"):
            device = name
        if name in ("copy_", "__setitem__"):
            return is_there(args[0])
        return ours if device is None else torch.device(device).type == "cuda"

    @staticmethod
    def _check(name: str, args: Any, ours: list[Any], given: list[Any]) -> None:
        """Raises where an operation got tensors from two places, as torch does."""
        others = [each for each in given if not is_there(each) and each.dim() > 0]
        if not ours or not others:
            return
        apart = f"Expected all tensors to be on the same device, but got two of them in {name}"
        if name not in ANYWHERE:
            raise RuntimeError(apart)
        if name not in ("__getitem__", "__setitem__", "index_put_"):
            return
        at = [each for each in tree_leaves(args[1]) if isinstance(each, torch.Tensor)]
        if not is_there(args[0]) and any(map(is_there, at)):
            raise RuntimeError("indices should be on the CPU or on the same device as the indexed tensor")
        value = args[2] if len(args) > 2 else None
        if at and isinstance(value, torch.Tensor) and value.dim() and is_there(value) != is_there(args[0]):
            raise RuntimeError(apart)

    def _count(self, name: str, args: Any, kwargs: Any, ours: bool, there: bool) -> None:
        self.calls += there
        masks = name in ("__getitem__", "__setitem__") and any(
            isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in tree_leaves(args[1])
        )
        sized = name == "repeat_interleave" and "output_size" not in kwargs
        home = name in ("to", "copy_") and not there
        self.waits += ours and (name in READS or name in SIZES or masks or sized or home)


class Stream:
    """A stream, on which all is done at once, or an event."""

    def __init__(self, device: Any = None, enable_timing: bool = False) -> None:
        self.at = 0.0

    def wait_event(self, event: Any) -> None:
        pass

    wait_stream = wait_event

    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Stream) -> float:
        return 1e3 * (end.at - self.at)


@contextlib.contextmanager
def card(free: int = 1 << 30, kernels: str = "reference") -> Iterator[Card]:
    """A block in which there is a card with `free` bytes, and ops run by "reference", "cpu" or "simt" kernels."""
    require(kernels)
    given = {
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "empty_cache": None,
        "synchronize": None,
        "set_device": None,
        "reset_peak_memory_stats": None,
        "get_device_name": "no card",
        "max_memory_allocated": 0,
        "get_device_capability": (9, 0),
        "get_device_properties": SimpleNamespace(uuid="no card"),
        "current_stream": Stream(),
    }
    generator, made = torch.Generator, Card(free)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setattr(torch.cuda, name, lambda device=None, value=value: value)
        for name in ("memory_reserved", "memory_allocated"):
            patch.setattr(torch.cuda, name, lambda device=None: made.used)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free - made.used, free))
        patch.setattr(torch.version, "cuda", "13.0")
        patch.setattr(torch, "Generator", lambda device="cpu": generator())
        # Parameters that move are made anew: their class says where they are.
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "Event", Stream)
        patch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
        if kernels != "reference":
            has = native.has_kernel
            patch.setitem(ops.NAMESPACES, "cuda", ops.NAMESPACES[kernels])
            patch.setattr(native, "problem", lambda device: "")
            patch.setattr(
                native,
                "has_kernel",
                lambda op, device, name: (op not in CPU_ONLY or device == "cpu") and has(op, "cpu", name),
            )
        with ops.use_backend("auto" if kernels != "reference" else kernels), made:
            yield made
