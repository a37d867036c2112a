"""Products of factored rows with a few directions."""

from __future__ import annotations

from torch import Tensor

from fastcore.ops import implementation


def factored_coordinates(features: Tensor, second: Tensor, second_along: Tensor, along: Tensor) -> Tensor:
    """Coordinates (sets, r, rows) of rows features (x) [1; second], whose second factor is narrowed first.

    features (sets, rows, width), second (sets, rows, width2), second_along (sets, o, 1 + width2), the directions
    of [1; second], and along (sets, r, width * o), those of features (x) the o coordinates along them. All are
    float32; each coordinate is an inner product summed in float32. Cost: one read of the factors,
    o (width2 + r width) multiplications a row. The native op is for the CPU.
    """
    call = implementation("factored_coordinates", factored_coordinates_reference, features)
    return call(features, second, second_along, along)


def factored_coordinates_reference(
    features: Tensor, second: Tensor, second_along: Tensor, along: Tensor
) -> Tensor:
    outer = second_along[:, :, 1:] @ second.mT + second_along[:, :, :1]
    return along @ (features.mT.unsqueeze(2) * outer.unsqueeze(1)).flatten(1, 2)
