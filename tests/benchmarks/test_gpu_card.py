"""The steps of the GPU script on a card that is none: data, checks and loops on the device, times by events."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.gpu import clock
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.worker import Worker
from fastcore.ops import native
from tests.card import card


@pytest.mark.parametrize("name", CASES)
def test_every_case(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    native.status()
    monkeypatch.setattr(clock, "FLUSH_BYTES", 1 << 10)
    size = CASES[name].quick[0]
    request = {"case": name, "size": dataclasses.asdict(size), "budget": 0.05}
    with card(kernels="cpu", free=1 << 34):
        worker = Worker(torch.device("cuda", 0), quick=True)
        made = {what: worker.answer(request | {"what": what}) for what in ("reference", "time", "check")}
        if CASES[name].loop is not None and name != "deepfool":  # which takes seconds
            assert worker.answer(request | {"what": "plain torch loop"})["value"] > 0
    assert made["time"]["backend"] == "cuda" or name == "deepfool"
    assert made["time"]["value"] > 0
    for what in ("reference", "check"):
        assert "differs" not in made[what]["refcheck"] and made[what]["refcheck"]


def test_the_ceilings() -> None:
    with card():
        found = clock.ceilings(clock.Clock(torch.device("cuda", 0)), quick=True)
    assert found.keys() == {"copy", *clock.PRODUCTS} and all(value > 0 for value in found.values())
