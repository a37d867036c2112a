"""Rows whose span takes in the most of some rows."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation

LEAST = 1e-6


def spanning(gram: Tensor, count: int) -> Tensor:
    """(sets, count) int64 of the rows with Gram matrix (sets, rows, rows), chosen one by one to take in the most.

    Each next row is the one along whose rest, apart from those before it, the rests of all rows have the largest
    sum of squares; the square of a rest counts as no less than a millionth of the largest at first. gram is
    float64, and changed to no further use. Cost: rows^2 a row. The native op is for the CPU. Farahat, Ghodsi and
    Kamel, "A novel greedy algorithm for greedy Nystrom approximation", 2011.
    """
    return implementation("spanning", spanning_reference, gram)(gram, count)


def spanning_reference(gram: Tensor, count: int) -> Tensor:
    own = gram.diagonal(dim1=1, dim2=2)  # which changes with it
    least, chosen = LEAST * own.amax(1, keepdim=True).clamp(min=1e-300), []
    for _ in range(count):
        # A row with next to no rest takes in less than it would.
        square = torch.maximum(own, least)
        row = torch.linalg.vector_norm(gram, dim=2).square_().div_(square).argmax(1, keepdim=True)
        chosen.append(row)
        column = gram.gather(1, row.unsqueeze(2).expand(-1, -1, gram.shape[2]))
        gram.baddbmm_(column.mT, column / square.gather(1, row).unsqueeze(2), alpha=-1)
    return torch.cat(chosen, 1)
