"""Products of factored rows with one direction for each set, in double."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation


def factored_project(features: Tensor, second: Tensor, direction: Tensor) -> Tensor:
    """Products (sets, rows) float64 of rows features (x) [1; second] with direction (sets, width, 1 + width2).

    features (sets, rows, width) and second (sets, rows, width2) are float32, direction is float64. Cost: one
    read of the factors, width * width2 multiplications a row. The native op is for the CPU, and for directions
    that fit its cache.
    """
    call = implementation("factored_project", factored_project_reference, features)
    return call(features, second, direction)


def factored_project_reference(features: Tensor, second: Tensor, direction: Tensor) -> Tensor:
    inner = torch.baddbmm(direction[:, None, :, 0], second.double(), direction[:, :, 1:].mT)
    return inner.mul_(features).sum(2)
