"""Numbers as tensor cores read them: to nearest, or rounded up."""

from __future__ import annotations

import numpy as np
import torch

from fastcore.numerics import (
    LARGEST_TF32,
    LEAST,
    LEAST_HALF,
    round_to_half,
    round_to_tf32,
    round_up_to_half,
    round_up_to_tf32,
)


def test_rounding_to_nearest() -> None:
    rng = np.random.default_rng(1)
    bits = rng.integers(-(2**31), 2**31, 20_000).astype(np.int32)
    x = torch.from_numpy(bits).view(torch.float32)
    x = torch.cat([x[x.isfinite()], torch.tensor([0.0, -0.0, 3.4028235e38, -3.4028235e38, 1e-45, LEAST])])
    rounded = round_to_tf32(x)
    assert bool((rounded.view(torch.int32) & 0x1FFF == 0).all()) and bool(rounded.isfinite().all())
    assert bool((rounded[x.abs() < LEAST] == 0).all())
    inside = (x.abs() >= LEAST) & (x.abs() <= LARGEST_TF32)
    error = (x.double() - rounded.double()).abs()[inside]
    assert bool((error <= 2.0**-11 * x.double().abs()[inside]).all())
    assert float((error / x.double().abs()[inside]).max()) > 0.95 * 2.0**-11  # nearest, not better
    up = round_up_to_tf32(x.abs().double())
    assert bool((up.double() >= x.abs().double()).all()) and bool((up >= LEAST).all())
    assert bool((up.view(torch.int32) & 0x1FFF == 0).all())
    ordinary = (x.abs() >= LEAST) & (x.abs() < LARGEST_TF32)
    assert bool((up[ordinary].double() <= x.abs()[ordinary].double() * (1 + 2.0**-10)).all())
    assert round_up_to_tf32(torch.tensor([1 + 2.0**-40], dtype=torch.float64)) == 1 + 2.0**-10


def test_rounding_to_half() -> None:
    rng = np.random.default_rng(4)
    x = torch.from_numpy(
        (rng.standard_normal(20_000) * 10.0 ** rng.uniform(-9, 4, 20_000)).astype(np.float32)
    )
    x = torch.cat(
        [x.clamp(-65504, 65504), torch.tensor([0.0, 65504.0, LEAST_HALF, 0.99 * LEAST_HALF, 1e-30])]
    )
    rounded, up = round_to_half(x), round_up_to_half(x.abs().double())
    ordinary = x.abs() >= LEAST_HALF
    assert rounded.dtype == up.dtype == torch.float16
    assert bool((rounded[~ordinary] == 0).all()) and bool(rounded.isfinite().all())
    error = (x.double() - rounded.double()).abs()[ordinary] / x.double().abs()[ordinary]
    assert 0.95 * 2.0**-11 < float(error.max()) <= 2.0**-11
    assert bool((up.double() >= x.abs().double()).all()) and bool((up >= LEAST_HALF).all())
    assert bool((up[ordinary].double() <= x.abs()[ordinary].double() * (1 + 2.0**-10)).all())
    assert round_up_to_half(torch.tensor([1 + 2.0**-40], dtype=torch.float64)) == 1 + 2.0**-10
