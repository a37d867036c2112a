"""Inputs of herding for the op table, with and without an 8-bit copy of the rows."""

from __future__ import annotations

import numpy as np
import torch

from tests.ops.inputs import Arguments, budgets_of, floor_of, rows_of, tensor

EXACT = 127  # levels


def herding(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, most: int, levels: int = 0
) -> Arguments:
    """With codes from -levels to levels, but for 0: fewer levels leave more rows that may be the best.

    With levels = EXACT rows of length 1 that their codes tell exactly, so that only the residual is rounded.
    """
    sets, rows, width = shape
    x = rows_of(rng, shape, kind)
    scale = np.ones((sets, rows)) if kind == "integer" else rng.random((sets, rows)) + 0.5
    if levels == EXACT:
        x = rng.integers(-126, 127, shape).astype(np.float32)
        x[..., 0] = EXACT
        scale = 1 / np.sqrt((x.astype(np.float64) ** 2).sum(-1))
    scaled = x * scale[..., None]
    # Exact in binary for whole numbers, so that equal scores are equal.
    mean = (scaled.mean(1) * 64).round() / 64
    codes, step, slack = None, None, None
    if levels:
        step = np.abs(x).max(2).astype(np.float64) / levels
        whole = np.rint(np.divide(x, step[..., None], out=np.zeros(shape), where=step[..., None] > 0))
        slack = tensor(scale * np.sqrt(((x - step[..., None] * whole) ** 2).sum(-1)) * (1 + 1e-9))
        codes = tensor(np.pad(whole, ((0, 0), (0, 0), (0, -width % 16))), torch.int8)
        step = tensor(scale * step)
    return {
        "features": tensor(x, torch.float32),
        "codes": codes,
        "step": step,
        "slack": slack,
        "scale": tensor(scale),
        "norms": tensor((scaled**2).sum(-1)),
        "mean": tensor(mean),
        "residual": tensor(mean),
        "taken": tensor(rng.random((sets, rows)) < 0.2, torch.uint8),
        "budgets": budgets_of(sets, most),
        "floor": floor_of(sets, kind, 1e-10 * float((scaled**2).sum(-1).max() + 1)),
        "most": most,
    }
