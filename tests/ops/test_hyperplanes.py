"""The step of DeepFool, given what must not become a direction."""

from __future__ import annotations

import pytest
import torch

from tests.ops.backends import CUDA, run


@pytest.mark.parametrize("backend", ["reference", "cpu", "simt-forward", CUDA])
def test_hostile_hyperplanes(backend: str) -> None:
    """No normal, one that overflows, NaN in normal or value, NaN before; and a tie."""
    finite = [1.0, 2.0, 2.0]
    normals = torch.tensor(
        [[0.0] * 3, [0.0] * 3, [1.0, torch.inf, 1.0], [torch.nan, 0, 0], finite, finite, finite]
    )
    values = torch.tensor([0.0, 1, 1, 1, torch.nan, 3, -3], dtype=torch.float64)
    nearest = torch.tensor([torch.inf] * 5 + [torch.nan, 1.0], dtype=torch.float64)
    arguments = {
        "normals": normals,
        "values": values,
        "nearest": nearest,
        "step": torch.ones(7, 3),
        "least": 0.1,
    }
    results = run("deepfool_step", arguments, backend)
    nan = float("nan")
    wanted = torch.tensor([torch.inf, torch.inf, nan, nan, nan, nan, 1.0], dtype=torch.float64)
    torch.testing.assert_close(results["nearest"], wanted, equal_nan=True, rtol=0, atol=0)
    assert (results["step"] == 1).all()
