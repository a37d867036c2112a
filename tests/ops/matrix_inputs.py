"""Inputs of ops on given matrices."""

from __future__ import annotations

import numpy as np
import torch

from tests.ops.inputs import Arguments, tensor


def asymmetry(rng: np.random.Generator, sets: int, rows: int, changes: int) -> Arguments:
    matrix = rng.integers(-3, 4, (sets, rows, rows)).astype(float)
    matrix += np.swapaxes(matrix, 1, 2)
    for _ in range(changes):
        matrix[rng.integers(sets), rng.integers(rows), rng.integers(rows)] += 1
    return {"matrix": tensor(matrix, torch.float32)}
