"""Products of float rows with one float64 direction."""

from __future__ import annotations

from torch import Tensor

from fastcore.ops import implementation


def project(features: Tensor, direction: Tensor) -> Tensor:
    """Inner product of every row with a direction, summed in float64.

    features (sets, rows, width) float32 and direction (sets, width) float64 give (sets, rows) float64.
    Reads the features once.
    """
    return implementation("project", project_reference, features)(features, direction)


def project_reference(features: Tensor, direction: Tensor) -> Tensor:
    return (features.double() @ direction.unsqueeze(-1)).squeeze(-1)
