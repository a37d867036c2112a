"""The 8-bit copy of rows that herding bounds its scores with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcore.ops.codes import ALIGNMENT, encode
from tests.ops.inputs import KINDS, rows_of

SHAPE = (2, 90, 33)


def check(features: torch.Tensor, scale: torch.Tensor, tile: int) -> torch.Tensor:
    """The slacks, which must hold in exact arithmetic (here: float64)."""
    codes, steps, slacks = encode(features, scale, tile)
    sets, rows, width = features.shape
    assert codes.dtype == torch.int8 and codes.shape == (sets, rows, -(-width // ALIGNMENT) * ALIGNMENT)
    assert not codes[:, :, width:].any() and codes.min() >= -127
    rest = features.double() * scale.unsqueeze(2) - codes[:, :, :width].double() * steps.unsqueeze(2)
    assert torch.all(rest.norm(dim=2) <= slacks)
    return slacks


@pytest.mark.parametrize("size", [1e-45, 1e-42, 1e-38, 1e-20, 1.0, 1e20, 1e33])
@pytest.mark.parametrize("kind", KINDS)
def test_the_slack_holds(kind: str, size: float) -> None:
    rng = np.random.default_rng(3)
    features = torch.from_numpy(rows_of(rng, SHAPE, kind).astype(np.float64) * size).float()
    assert torch.isfinite(features).all()
    check(features, torch.from_numpy(rng.random(SHAPE[:2]) + 0.5), 32)


def test_the_slack_is_small_and_does_not_depend_on_the_tiles() -> None:
    rng = np.random.default_rng(4)
    features = torch.from_numpy(rows_of(rng, (1, 50, 512), "random"))
    scale = torch.ones(1, 50, dtype=torch.float64)
    slacks = check(features, scale, 7)
    assert torch.equal(slacks, check(features, scale, 50))
    assert float((slacks / features.double().norm(dim=2)).max()) < 0.01
