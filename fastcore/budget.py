"""Budgets: how many rows to pick, and how many from each class."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastcore import checks


@dataclass(frozen=True, eq=False)
class Partition:
    """The rows of a data set split into ground sets, with the number of picks each one may make.

    A ground set is a class when the selection is balanced, or all rows together when it is not.
    All members are int64 tensors on the CPU.

    Attributes:
        rows: (n,) row numbers, grouped by ground set and ascending within each.
        offsets: (C + 1,) ground set c holds ``rows[offsets[c]:offsets[c + 1]]``.
        budgets: (C,) picks for each ground set; 0 is possible when there are fewer picks than classes.
    """

    rows: Tensor
    offsets: Tensor
    budgets: Tensor

    @classmethod
    def whole(cls, n: int, k: int) -> Partition:
        """One ground set of all n rows, with k picks."""
        rows = torch.arange(n, device="cpu")
        return cls(rows, torch.tensor([0, n], device="cpu"), torch.tensor([k], device="cpu"))

    @classmethod
    def by_label(cls, labels: Tensor, k: int, *, preselected: Tensor | None = None) -> Partition:
        """One ground set per distinct label, with k picks shared in proportion to the class sizes.

        ``labels`` is (n,) of any integer dtype; classes come in ascending order of label. Rows that are
        ``preselected`` stay in their ground set but cannot be picked again, so they lower what their
        class can give. O(n log n), without a loop over rows or classes.
        """
        _, codes, sizes = torch.unique(labels.cpu(), return_inverse=True, return_counts=True)
        room = sizes.clone()
        if preselected is not None:
            room -= torch.bincount(codes[preselected], minlength=len(sizes))
        offsets = torch.zeros(len(sizes) + 1, dtype=torch.int64, device="cpu")
        torch.cumsum(sizes, 0, out=offsets[1:])
        return cls(torch.argsort(codes, stable=True), offsets, share(k, sizes, room))

    @property
    def sets(self) -> int:
        """Number of ground sets."""
        return len(self.budgets)

    @property
    def sizes(self) -> Tensor:
        """(C,) number of rows of each ground set."""
        return self.offsets.diff()

    @property
    def membership(self) -> Tensor:
        """(n,) the ground set of each entry of ``rows``."""
        return torch.repeat_interleave(self.sizes)


def share(k: int, sizes: Tensor, room: Tensor) -> Tensor:
    """Divides k picks over classes in proportion to their sizes, by largest remainder, in exact integers.

    ``sizes`` and ``room`` are (C,) int64: the rows of each class and how many of them can still be picked.
    The result sums to k and never exceeds ``room``: a class whose share does not fit is filled, and the
    others divide the rest in proportion. Equal remainders go to the class that comes first.
    """
    if not 0 <= k <= int(room.sum()):
        raise ValueError(f"k must be between 0 and the {int(room.sum())} rows that can be picked, got {k}")
    budgets = torch.zeros_like(sizes)
    is_open = room > 0
    while k > 0:
        total = int(sizes[is_open].sum())
        overfull = is_open & (k * sizes > room * total)
        if not overfull.any():
            quotas = torch.where(is_open, k * sizes, 0)
            budgets += quotas // total
            spare = k - int((quotas // total).sum())
            budgets[torch.argsort(quotas % total, descending=True, stable=True)[:spare]] += 1
            break
        budgets[overfull] = room[overfull]
        k -= int(room[overfull].sum())
        is_open &= ~overfull
    return budgets


def resolve_budget(n: int, k: Any = None, fraction: Any = None, *, preselected: int = 0) -> int:
    """Number of picks from ``k`` or from a ``fraction`` of the n rows, checked.

    A fraction becomes ``fraction * n`` rounded half up, at least 1. ``preselected`` is how many of the
    n rows are in the coreset already and cannot be picked again.
    """
    if (k is None) == (fraction is None):
        given = "neither" if k is None else f"k={k!r} and fraction={fraction!r}"
        raise ValueError(f"give exactly one of k and fraction, got {given}")
    if k is None:
        share_of_rows = checks.number("fraction", fraction, "(0, 1]")
        budget, given = max(1, math.floor(share_of_rows * n + 0.5)), f"fraction={fraction!r}"
    else:
        budget, given = _as_count(k), f"k={k!r}"
    if not 1 <= budget <= n - preselected:
        taken = f" of which {preselected} are preselected" if preselected else ""
        picks = "" if k is not None else f" ({budget} picks)"
        raise ValueError(
            f"k must be between 1 and {n - preselected}, got {given}{picks}: there are {n} rows{taken}"
        )
    return budget


def _as_count(k: Any) -> int:
    if isinstance(k, bool):
        raise TypeError(f"k must be an integer, got {k!r}")
    try:
        return operator.index(k)
    except TypeError:
        raise TypeError(f"k must be an integer, got {k!r}; for a share of the rows use fraction=") from None
