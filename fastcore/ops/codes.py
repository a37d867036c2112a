"""An 8-bit copy of rows, and how far it is from them."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_COLUMNS = 65_536
"""Products of codes with a residual of 15 bits stay below 2^31 up to here."""

ALIGNMENT = 16
LEVELS = 127
DIVISION = 1e-5
"""Above the rounding of a quotient of up to 127 in float32."""

TINY = 1e-42
"""Rows whose largest number is smaller have no step in float32: their codes are 0."""


def encode(features: Tensor, scale: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (sets, rows, width rounded up to a multiple of 16) int8, steps and slacks (sets, rows) float64.

    scale * features, of features (sets, rows, width) float32 and scale (sets, rows) float64, is steps * codes and
    a rest of length slacks at most: about 0.007 of a row's length for the features of a network. `tile` rows at a
    time; reads the features once.
    """
    sets, rows, width = features.shape
    codes = torch.zeros(
        sets, rows, -(-width // ALIGNMENT) * ALIGNMENT, dtype=torch.int8, device=features.device
    )
    steps, slacks = torch.zeros_like(scale), torch.zeros_like(scale)
    for start in range(0, rows, tile):
        part = slice(start, start + tile)
        step = features[:, part].abs().amax(2) / LEVELS
        quotients = features[:, part] / torch.where(step > 0, step, 1.0).unsqueeze(2)
        whole = quotients.round().clamp_(-LEVELS, LEVELS)
        codes[:, part, :width] = whole
        rest = quotients.sub_(whole).square_().sum(2, dtype=torch.float64).sqrt() + DIVISION * width**0.5
        steps[:, part] = step.double()
        slacks[:, part] = (step.double() * rest * (1 + 1e-6) + TINY * width**0.5) * scale[:, part]
    return codes, steps.mul_(scale), slacks
