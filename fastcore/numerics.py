"""Rounding: how far float32 products may be from the truth, and the settings under which that holds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch

UNIT = 2.0**-24
"""Unit roundoff of float32."""


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

    Picks must not depend on `torch.set_float32_matmul_precision` or on a surrounding autocast. The user's
    settings are put back at the end.
    """
    precision = torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", "cuda"} if torch.cuda.is_available() else {"cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
            stack.callback(torch.set_float32_matmul_precision, precision)
        cudnn: Any = torch.backends.cudnn
        for layer in (cudnn.conv, cudnn.rnn):  # TF32 by default
            stack.callback(setattr, layer, "fp32_precision", layer.fp32_precision)
            layer.fp32_precision = "ieee"
        yield
