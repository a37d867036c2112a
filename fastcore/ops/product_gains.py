"""Facility-location gains of many candidates from products by tensor cores, without writing these out."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation


def product_gains(features: Tensor, candidates: Tensor, coverage: Tensor) -> Tensor:
    """What each candidate would add to the coverage: sum over rows of max(0, <row, candidate> - coverage).

    features (sets, rows, width) and candidates (sets, block, width), both float16, or both float32 of which no
    more than 10 bits behind the first are set (`round_to_tf32`); rows of 16 bytes or a multiple. coverage (sets,
    rows) float64, +inf for padding. Returns (sets, block) float64: at least the exact gains for products as tensor
    cores make them (`tensor_core_error`), but for the rounding of a sum in float64, and above them by less than
    `coverage_gains.EXCESS` says; the same bits on every run. Native on CUDA alone. Cost: 2 rows * block * width
    operations, and one read of the rows while the candidates stay in a cache.
    """
    return implementation("product_gains", product_gains_reference, features)(features, candidates, coverage)


def product_gains_reference(features: Tensor, candidates: Tensor, coverage: Tensor) -> Tensor:
    products = torch.bmm(candidates.float(), features.float().mT)
    return (products.double() - coverage.unsqueeze(1)).clamp_(min=0).sum(-1)
