"""Every method on the device of $FASTCORE_GPU_DEVICE against the reference backend on the processor."""

from __future__ import annotations

import numpy as np
import pytest

import fastcore
from benchmarks.gpu.on_device import DEVICE
from tests.api.material import METHODS, select

SOURCE = np.random.default_rng(5)
N, WIDTH, K = 300, 33, 60
KINDS = {
    "random": SOURCE.normal(size=(N, WIDTH)) + 0.5,
    "duplicates": np.repeat(SOURCE.normal(size=(N // 4, WIDTH)), 4, axis=0),
    "integers": SOURCE.integers(-2, 3, size=(N, 5)).astype(float),
    "large": SOURCE.normal(size=(N, WIDTH)) * 1e4,
    "far": SOURCE.normal(size=(N, WIDTH)) + 1e3,
    "zeros": np.where(np.arange(N)[:, None] % 3 == 0, 0, SOURCE.normal(size=(N, WIDTH))),
}
LABELS = SOURCE.choice(4, size=N, p=[0.5, 0.3, 0.15, 0.05])
CASES = [(name, metric) for name in METHODS for metric in fastcore.get_method(name).metrics or [None]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("balanced", [False, True], ids=["whole", "balanced"])
@pytest.mark.parametrize(("name", "metric"), CASES)
def test_same_picks(name: str, metric: str | None, balanced: bool, kind: str) -> None:
    options = {"metric": metric, "labels": LABELS if balanced else None}
    here = select(name, KINDS[kind], K, device=DEVICE, **options)
    there = select(name, KINDS[kind], K, device="cpu", backend="reference", **options)
    assert here.indices.tolist() == there.indices.tolist()
    if here.gains is not None:
        scale = float(np.abs(there.gains[np.isfinite(there.gains)]).max(initial=0.0))
        np.testing.assert_allclose(here.gains, there.gains, rtol=1e-5, atol=1e-6 * scale)


def test_the_device_is_used() -> None:
    found = fastcore.select("k_center", KINDS["random"], 5, start=0, device=DEVICE)
    assert found.info["device"] == DEVICE
    assert found.info["backend"] == DEVICE.partition(":")[0], "the native kernels did not run"


@pytest.mark.parametrize("device", sorted({DEVICE, DEVICE.partition(":")[0]}))
def test_a_device_without_a_number(device: str) -> None:
    assert len(fastcore.select("herding", KINDS["random"], 5, device=device)) == 5
