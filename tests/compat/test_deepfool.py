"""DeepFool beside torchattacks and foolbox, where they are installed."""

from __future__ import annotations

import pytest
from torch import Tensor

from fastcore.signals.deepfool import Perturbations, deepfool
from tests.signals.test_deepfool import OVERSHOOT, images, network


def test_torchattacks() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    model, x = network(), 0.5 + 0.05 * images()  # it keeps pixels in [0, 1]
    found = deepfool(model, x, candidates=None)
    labels = model(x).argmax(1)
    moved = torchattacks.DeepFool(model, steps=50, overshoot=OVERSHOOT)(x, labels)
    assert_close_norms(found, moved - x)


def test_foolbox() -> None:
    foolbox = pytest.importorskip("foolbox")
    model, x = network(), images()
    attack = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=3, overshoot=OVERSHOOT)
    _, moved, _ = attack(foolbox.PyTorchModel(model, bounds=(-50, 50)), x, model(x).argmax(1), epsilons=None)
    assert_close_norms(deepfool(model, x, candidates=3), moved - x)


def assert_close_norms(found: Perturbations, theirs: Tensor) -> None:
    wanted = theirs.double().flatten(1).norm(dim=1) / (1 + OVERSHOOT)
    error = (found.distances - wanted).abs() / wanted
    assert found.crossed.all() and error.median() < 1e-2 and error.max() < 5e-2
