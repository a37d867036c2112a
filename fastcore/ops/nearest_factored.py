"""The nearest pick of each gradient, whose distances are bounded from a few coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import TIE
from fastcore.ops.facility_location_block import inner_products

ROWS = 1024  # of a set that the reference compares with all picks at a time


def nearest_factored(
    features: Tensor,
    second: Tensor,
    reduced: Tensor,
    left_out: Tensor,
    norms: Tensor,
    members: Tensor,
    picks: Tensor,
    blur: Tensor,
    relative: float,
    absolute: float,
) -> Tensor:
    """(sets, m) position of the nearest pick of each row of `members`, the earlier of equal picks; 0 for padding.

    The rows (rows, ...) are one set of those of facility_location_factored; members (sets, m) and picks (sets, P)
    are their numbers, -1 for padding, which comes last in picks. Equal are squared distances within TIE of
    themselves and blur (rows,) float64, that of the row. Cost: m P (width + r) multiplications, and (width +
    second width) for each pair that bounds leave open. The native op is for the CPU.
    """
    call = implementation("nearest_factored", nearest_factored_reference, features)
    rows = features, second, reduced, left_out, norms
    nearest: Tensor = call(*rows, members, picks, blur, relative, absolute)
    return nearest


def nearest_factored_reference(
    features: Tensor,
    second: Tensor,
    reduced: Tensor,
    left_out: Tensor,
    norms: Tensor,
    members: Tensor,
    picks: Tensor,
    blur: Tensor,
    relative: float,
    absolute: float,
) -> Tensor:
    nearest = torch.zeros_like(members)
    for g, at in enumerate(picks):
        at = at[at >= 0]
        others = [factor[at].double() for factor in (features, second)]
        for start in range(0, members.shape[1] if len(at) else 0, ROWS):
            rows = members[g, start : start + ROWS]
            products = inner_products([factor[rows].double() for factor in (features, second)], others)
            squared = norms[rows].unsqueeze(1) + norms[at] - 2 * products
            best = squared.amin(1)
            equal = squared <= (best + TIE * best.abs() + blur[rows]).unsqueeze(1)
            nearest[g, start : start + ROWS] = equal.byte().argmax(1).masked_fill_(rows < 0, 0)
    return nearest
