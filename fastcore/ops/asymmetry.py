"""Whether matrices are symmetric and finite."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation

TILE = 512


def asymmetry(matrix: Tensor) -> Tensor:
    """How many entries of each matrix (sets, rows, rows) float32 differ from their mirror image: (sets,) int64.

    NaN and infinity differ from everything, so that 0 says that all entries are finite as well. One pass over the
    matrices, tile by tile; -0.0 equals 0.0. The native op is for the CPU.
    """
    return implementation("asymmetry", asymmetry_reference, matrix)(matrix)


def asymmetry_reference(matrix: Tensor) -> Tensor:
    found = torch.zeros(len(matrix), dtype=torch.int64, device=matrix.device)
    for start in range(0, matrix.shape[1], TILE):
        part = slice(start, start + TILE)
        found += ((matrix[:, part] - matrix[:, :, part].mT) != 0).sum((1, 2))
    return found
