"""Rounding: how far float32 products may be from the truth, and the settings under which that holds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor

UNIT = 2.0**-24
"""Unit roundoff of float32."""

LARGEST_TF32 = (2 - 2.0**-10) * 2.0**127
LEAST = 2.0**-126
"""The smallest normal number: tensor cores may take smaller ones for 0."""

LEAST_HALF = 2.0**-14
"""The same of float16."""

_tensor_cores: ContextVar[bool | None] = ContextVar("fastcore_tensor_cores", default=None)


def product_error(width: int) -> float:
    """Bound on the error of a float32 inner product of two `width`-vectors, relative to |x| |y|.

    The smaller of the worst case, width * u, and of the probabilistic bound 8 sqrt(width) * u, which fails
    with probability below 1e-13 a product (Higham and Mary, "A new approach to probabilistic rounding error
    analysis", 2019). Four units are added for the rounding of the operands.
    """
    return (min(width, 8 * math.sqrt(width)) + 4) * UNIT


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Runs a block in plain float32: no autograd, no autocast, no TF32 or bfloat16 products or convolutions.

    Picks must not depend on `torch.set_float32_matmul_precision`, on `torch.backends.*.fp32_precision` or on a
    surrounding autocast. The user's settings are put back at the end.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", "cuda"} if torch.cuda.is_available() else {"cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        backends, mkldnn = cast(Any, torch.backends), cast(Any, torch.backends.mkldnn)
        layers = backends.cudnn.conv, backends.cudnn.rnn
        for setting in (*layers, backends.cuda.matmul, mkldnn.matmul, mkldnn.conv, mkldnn.rnn):
            before = setting.fp32_precision
            if before != "none" and setting not in layers:  # which have "tf32" of their own
                setting.fp32_precision = "none"
                if setting.fp32_precision == before:  # it comes from `torch.backends.fp32_precision`
                    before = "none"
            stack.callback(setattr, setting, "fp32_precision", before)
            setting.fp32_precision = "ieee"
        # The older setting is apart from these. It can be read only where they do not contradict it, as now.
        precision = torch.get_float32_matmul_precision()
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
            stack.callback(torch.set_float32_matmul_precision, precision)  # changes the others: they follow
        yield


def tensor_core_error(width: int) -> float:
    """Bound on what tensor cores add to the error of an inner product of two `width`-vectors that TF32 holds.

    Relative to the sum of the sizes of its terms. The products are exact; it is assumed that each addition errs by
    at most 4 units of that sum. NVIDIA documents no bound; tests by others, on cards before the H100, found that
    a few terms are lined up with the largest of them, and what is below its last places is cut off (Fasi, Higham,
    Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021). A float32
    product errs by less.
    """
    return 4 * (width + 4) * UNIT


def round_to_tf32(x: Tensor) -> Tensor:
    """float32 numbers rounded to the 10 bits behind the first that tensor cores read: to nearest, ties to even.

    Numbers below the smallest normal one become 0, and none becomes infinite.
    """
    bits = x.contiguous().view(torch.int32)
    rounded = ((bits + (0xFFF + ((bits >> 13) & 1))) & ~0x1FFF).view(torch.float32)
    return rounded.clamp_(-LARGEST_TF32, LARGEST_TF32).masked_fill_(x.abs() < LEAST, 0.0)


def round_up_to_tf32(x: Tensor) -> Tensor:
    """Numbers >= 0 rounded up to one that TF32 holds, and to a normal one; inf where there is none."""
    least = x.float().clamp(min=LEAST)
    least = torch.where(least.double() < x, torch.nextafter(least, torch.full_like(least, torch.inf)), least)
    bits = least.contiguous().view(torch.int32)
    return ((bits + 0x1FFF) & ~0x1FFF).view(torch.float32)


def round_to_half(x: Tensor) -> Tensor:
    """Numbers up to 65504 as float16, to nearest; those below the smallest normal one become 0."""
    return x.half().masked_fill_(x.abs() < LEAST_HALF, 0.0)


def round_up_to_half(x: Tensor) -> Tensor:
    """Numbers >= 0 rounded up to float16, and to a normal one; inf where there is none."""
    least = x.clamp(min=LEAST_HALF).half()
    above = (least.view(torch.int16) + 1).view(torch.float16)
    return torch.where(least.double() < x, above, least)


@contextlib.contextmanager
def tensor_cores() -> Iterator[None]:
    """Inside `full_precision`: float32 products on a GPU may read 10 bits behind the first, in this block."""
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32 = False
        matmul.fp32_precision = before


def tensor_cores_pay(device: torch.device) -> bool:
    """Whether TF32 products are several times as fast as float32 ones on a device."""
    chosen = _tensor_cores.get()
    if chosen is not None:
        return chosen
    if device.type != "cuda" or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


@contextlib.contextmanager
def assume_tensor_cores(there: bool) -> Iterator[None]:
    """Takes it that there are tensor cores, or none, on any device: for tests and measurements."""
    token = _tensor_cores.set(there)
    try:
        yield
    finally:
        _tensor_cores.reset(token)
