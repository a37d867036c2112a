"""Inputs of matching pursuit: gradients, and a pursuit that is under way."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastcore.ops.matching_pursuit import matching_pursuit_reference
from tests.ops.inputs import Arguments, budgets_of, rows_of, tensor


def matching_pursuit(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: str, capacity: int, started: bool
) -> Arguments:
    """`started`: some steps were made before, by the reference."""
    sets, rows, width = shape
    delta, h = rows_of(rng, (sets, rows, 3), kind), rows_of(rng, shape, kind)
    gradients = (
        (delta[..., None] * np.insert(h, 0, 1.0, -1)[..., None, :]).reshape(sets, rows, -1).astype(float)
    )
    # Exact in binary for whole numbers, so that equal correlations are equal.
    mean = (gradients.mean(1) * 64).round() / 64
    target, norms = np.einsum("gik,gk->gi", gradients, mean), (gradients**2).sum(-1)
    scale = np.sqrt((mean**2).sum(-1) * norms.max(1)) + 1e-300
    ridge = 1e-3 * norms.mean(1) + 1e-300
    enough = np.where(np.arange(sets) == 1, 0.5, 2.0) * (mean**2).sum(-1)  # the second set stops half way
    factors = (0, -1 if kind == "integer" else 1e-6, 1e-9, 1e-12, 0)
    limits = np.outer(scale, factors)
    limits[:, 0], limits[:, 4] = ridge, enough
    double = {"dtype": torch.float64}
    arguments = {
        "delta": tensor(delta, torch.float32),
        "h": tensor(h, torch.float32),
        "target": tensor(target),
        "limits": tensor(limits),
        "budgets": budgets_of(sets, capacity),
        "taken": tensor(rng.random((sets, rows)) < 0.1, torch.uint8),
        "correlations": tensor(target).clone(),
        "columns": torch.zeros(sets, capacity, rows, **double),
        "whitener": torch.zeros(sets, capacity, capacity, **double),
        "picks": torch.full((sets, capacity), -1),
        "gains": torch.zeros(sets, capacity, **double),
        "weights": torch.zeros(sets, capacity, **double),
        "steps": capacity // 3 if started else 2 * capacity,
    }
    if started:
        matching_pursuit_reference(**arguments)
        arguments["steps"] = 2 * capacity
        for g, active in enumerate(arguments["weights"] > 0):
            inverse = torch.linalg.inv(torch.linalg.cholesky(active_gram(arguments, g)))
            arguments["whitener"][g][: len(inverse), active] = inverse
    return arguments


def active_gram(arguments: Arguments, g: int) -> Tensor:
    """Products of the active rows of set g, plus the ridge."""
    active = arguments["weights"][g] > 0
    gram = arguments["columns"][g, active][:, arguments["picks"][g, active]]
    return gram + arguments["limits"][g, 0] * torch.eye(len(gram), dtype=torch.float64)
