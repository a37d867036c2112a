"""What DeepFool refuses: models, inputs and options that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastcore.signals.deepfool import boundary_distances, deepfool
from tests.signals.test_deepfool import images, mlp

BAD_MODELS: list[tuple[Callable[[Tensor], Any], type[Exception], str]] = [
    (lambda x: 3, TypeError, "model must return logits"),
    (lambda x: x[:, :1], ValueError, "at least two classes"),
    (lambda x: x[0], ValueError, "at least two classes"),
    (lambda x: x[:, None], ValueError, r"logits \(b, C\)"),
    (lambda x: x / x[:, :1].ceil(), ValueError, "outputs of model must be finite.*row 0"),
    (lambda x: x.clamp(min=0).sqrt() - 1, ValueError, "gradients of model must be finite.*row 2"),
]


@pytest.mark.parametrize(("forward", "error", "message"), BAD_MODELS)
def test_models_that_do_not_fit(
    forward: Callable[[Tensor], Any], error: type[Exception], message: str
) -> None:
    model = nn.Module()
    model.forward = forward  # type: ignore[method-assign]
    x = torch.tensor([[0.2, 0.3], [0.5, 0.1], [0.0, 0.4]])
    if "outputs" in message:
        x = x - 0.5
    with pytest.raises(error, match=message):
        deepfool(model, x)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"candidates": 1}, ValueError),
        ({"candidates": 2.5}, TypeError),
        ({"iterations": 0}, ValueError),
        ({"overshoot": -0.1}, ValueError),
        ({"batch_size": 0}, ValueError),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        deepfool(mlp(), images(), **options)


def test_inputs_that_cannot_be_perturbed() -> None:
    with pytest.raises(TypeError, match=r"floating-point.*int64 at row 0"):
        boundary_distances(mlp(), torch.zeros(4, 64, dtype=torch.int64))
    with pytest.raises(TypeError, match="floating-point.*dict"):
        boundary_distances(mlp(), [{"a": images(1)[0], "b": images(1)[0]}], keys=(("a", "b"), None))
