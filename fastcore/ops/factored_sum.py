"""Weighted sums of factored rows, in double."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation


def factored_sum(features: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Sums (sets, width, 1 + width2) float64 of rows features (x) [1; second], times weights (sets, rows) float64.

    features (sets, rows, width) and second (sets, rows, width2) are float32. Cost: one read of the factors,
    width * width2 multiplications a row. The native op is for the CPU, and for sums that fit its cache.
    """
    return implementation("factored_sum", factored_sum_reference, features)(features, second, weights)


def factored_sum_reference(features: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    scaled = features.double() * weights.unsqueeze(2)
    return torch.cat([scaled.sum(1).unsqueeze(2), scaled.mT @ second.double()], 2)
