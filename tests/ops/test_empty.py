"""Ops on no rows, no candidates and no ground sets: empty results, on every backend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastcore.ops import use_backend
from tests.ops.backends import CUDA, op_of, require

F64 = torch.float64

CALLS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "project": (
        (torch.ones(2, 0, 3), torch.ones(2, 3, dtype=F64)),
        (torch.ones(0, 4, 3), torch.ones(0, 3, dtype=F64)),
    ),
    "squared_norms": ((torch.ones(2, 0, 3),), (torch.ones(0, 4, 3),)),
    "weighted_sum": (
        (torch.ones(2, 0, 3), torch.ones(2, 0, dtype=F64)),
        (torch.ones(2, 4, 0), torch.ones(2, 4, dtype=F64)),
    ),
    "coverage_gains": (
        (torch.ones(2, 0, 3), torch.ones(2, 3, dtype=F64)),
        (torch.ones(2, 3, 0), torch.ones(2, 0, dtype=F64)),
    ),
    "refine_products": (
        (torch.ones(1, 0, 3), torch.ones(1, 3, 2), torch.zeros(1, 0, dtype=torch.int64), torch.ones(1, 3)),
    ),
    "deepfool_step": (
        (torch.ones(0, 5), torch.ones(0, dtype=F64), torch.ones(0, dtype=F64), torch.ones(0, 5), 0.1),
    ),
    "nearest_update": (
        (torch.ones(1, 0, 2), torch.ones(1, 0), torch.ones(1, 2), torch.ones(1, 0))
        + (torch.zeros(1, 0, dtype=torch.int64), torch.ones(1, 0), 0),
    ),
}


@pytest.mark.parametrize("backend", ["reference", "cpu", "simt", CUDA])
@pytest.mark.parametrize("op", CALLS)
def test_nothing_to_do(op: str, backend: str) -> None:
    kind = require(backend)
    device = "cuda" if kind == "cuda" else "cpu"
    for given in CALLS[op]:
        arguments = [each.clone().to(device) if isinstance(each, Tensor) else each for each in given]
        with use_backend(kind):
            found = op_of(op)(*arguments)
        assert found is None or not found.any()
