"""The rule by which every engine chooses: the best value, ties to the lowest row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TIE = 1e-12
"""Values that differ by less than this fraction of the best are a tie (float64 sums err by about 1e-15)."""


def tolerance(best: float, floor: float = 0.0) -> float:
    """How far below the best a value still counts as tied; an infinite best is tied with its equals only."""
    return 0.0 if math.isinf(best) else TIE * abs(best) + floor


def choose(values: Tensor, row_ids: Tensor, floor: float = 0.0) -> int | None:
    """Position of the best of `values` (B,), ties to the lowest of `row_ids` (B,); None if all are -inf."""
    best = float(values.max())
    if best == -math.inf:
        return None
    tied = values >= best - tolerance(best, floor)
    return int(torch.where(tied, row_ids, torch.iinfo(torch.int64).max).argmin())


def wins(
    values: Tensor, position: int, row: int, outside: float, outside_row: int, floor: float = 0.0
) -> bool:
    """Whether the choice at `position` also beats every candidate outside the block.

    `outside` is an upper bound on their values and `outside_row` the lowest row number that reaches it.
    """
    best = float(values.max())
    slack = tolerance(best, floor)
    return best - slack > outside or (best + slack >= outside and row < outside_row)
