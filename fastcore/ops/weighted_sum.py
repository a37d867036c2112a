"""Weighted sums of float rows."""

from __future__ import annotations

from torch import Tensor

from fastcore.ops import implementation


def weighted_sum(features: Tensor, weights: Tensor) -> Tensor:
    """Sum of all rows, each times its weight, in float64.

    features (sets, rows, width) float32 and weights (sets, rows) float64 give (sets, width) float64.
    Reads the features once.
    """
    return implementation("weighted_sum", weighted_sum_reference, features)(features, weights)


def weighted_sum_reference(features: Tensor, weights: Tensor) -> Tensor:
    return (weights.unsqueeze(1) @ features.double()).squeeze(1)
