"""Products of rows with a few directions."""

from __future__ import annotations

from torch import Tensor

from fastcore.ops import implementation


def coordinates(features: Tensor, along: Tensor) -> Tensor:
    """Coordinates (sets, r, rows) of features (sets, rows, width) along directions (sets, r, width).

    All are float32; each coordinate is an inner product summed in float32. Cost: one read of the features. The
    native op is for the CPU, where general products are slow at this shape.
    """
    return implementation("coordinates", coordinates_reference, features)(features, along)


def coordinates_reference(features: Tensor, along: Tensor) -> Tensor:
    return along @ features.mT
