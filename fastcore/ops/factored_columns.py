"""Products of factored rows with some others, in double."""

from __future__ import annotations

from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.facility_location_block import inner_products


def factored_columns(features: Tensor, second: Tensor, others: Tensor, other_second: Tensor) -> Tensor:
    """Products (sets, rows, others) float64 of rows features (x) [1; second] with others (x) [1; other_second].

    features (sets, rows, width), second (sets, rows, width2), others (sets, others, width) and other_second (sets,
    others, width2) are float32. <x, x'> (1 + <y, y'>) is all that is computed of a pair. Cost: one read of the
    factors, width + width2 multiplications a pair. The native op is for the CPU.
    """
    call = implementation("factored_columns", factored_columns_reference, features)
    return call(features, second, others, other_second)


def factored_columns_reference(
    features: Tensor, second: Tensor, others: Tensor, other_second: Tensor
) -> Tensor:
    return inner_products([features.double(), second.double()], [others.double(), other_second.double()])
