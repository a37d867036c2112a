"""What ``fit`` and ``evaluate`` say when something is wrong: one line that names it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fastcore.train.training import evaluate, fit, learning_rate
from tests.train.training_cases import Chooser, config, hooked, images, network, plain_network, train


@pytest.mark.parametrize("step", [0, 7, 14])
def test_a_loss_that_is_not_finite_is_named(step):
    model = network()
    model.register_forward_hook(lambda module, given, logits: logits * (torch.nan if bad else 1.0))
    bad = []
    hooked(model, lambda: bad.append(1), step)
    epoch, place = divmod(step, 5)
    rate = learning_rate(config(), epoch, place, 5)
    place = f"epoch {epoch + 1}, step {place + 1}, at learning rate {rate:.4g}"
    with pytest.raises(FloatingPointError, match=place) as caught:
        train(model)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_named():
    with pytest.raises(
        FloatingPointError, match=r"weights .* after epoch 1, step 1, at learning rate 1e\+38"
    ):
        train(plain_network(), config(learning_rate=1e38, batch_size=70, weight_decay=1e3, epochs=1))


def test_evaluate_says_what_is_wrong():
    with pytest.raises(ValueError, match="must have labels"):
        evaluate(network(), torch.zeros(4, 1, 6, 6))
    with pytest.raises(ValueError, match="labels must be below 3, the logits of the network, got 5"):
        evaluate(network(), (torch.zeros(4, 1, 6, 6), torch.tensor([0, 1, 5, 2])))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"indices": [0, 70]}, ValueError, "indices must be between 0 and 69, got 70"),
        ({"indices": [-1, 3]}, ValueError, "indices must be between 0 and 69, got -1"),
        ({"indices": []}, ValueError, r"indices must have shape \(rows,\)"),
        ({"indices": [0.5]}, TypeError, "indices must be integers, got torch.float64"),
        ({"indices": ["a"]}, TypeError, "indices must be an array of numbers"),
        ({"weights": [1.0]}, ValueError, r"weights must have shape \(70,\)"),
        (
            {"indices": [1, 2], "weights": [1, -1]},
            ValueError,
            "weights must be finite and not negative, got -1",
        ),
        ({"indices": [1, 2], "weights": [1, np.inf]}, ValueError, "not negative, got inf"),
        ({"indices": [1, 2], "weights": [0, 0]}, ValueError, "must not all be 0"),
        ({"indices": [1, 2, 1]}, ValueError, "row 1 is in indices more than once"),
        ({"indices": [1], "subset": Chooser()}, ValueError, "subset chooses rows"),
        ({"seed": -1}, ValueError, "seed must be an integer of at least 0"),
        ({"device": "tpu"}, ValueError, "device must"),
        ({"checkpoint_seconds": -1}, ValueError, "checkpoint_seconds must be in"),
        ({"checkpoint": "/nowhere/at/all.pt"}, OSError, "cannot write /nowhere/at/all.pt"),
    ],
    ids=str,
)
def test_errors_name_the_argument(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        train(network(), **arguments)
    assert "\n" not in str(caught.value)


def test_errors_of_what_is_trained():
    with pytest.raises(TypeError, match="config must be a TrainConfig, got dict"):
        fit(network(), images(), {})
    with pytest.raises(TypeError, match="dataset must be one of fastcore.train.datasets, got TensorDataset"):
        fit(network(), torch.utils.data.TensorDataset(torch.zeros(3)), config())
    with pytest.raises(TypeError, match="test must be one of fastcore.train.datasets, got list"):
        fit(network(), images(), config(), test=[])
    with pytest.raises(TypeError, match="choose of subset must return Rows or None, got list"):
        subset = Chooser()
        subset.choose = lambda epoch, model, recorder: [1, 2]
        fit(network(), images(), config(), subset=subset)
    with pytest.raises(ValueError, match="parameters that require gradients, Flatten has none"):
        fit(nn.Flatten(), images(), config())
    with pytest.raises(ValueError, match="float16.*needs a GPU"):
        fit(network(), images(), config(amp="float16"), device="cpu")


def test_a_kernel_without_deterministic_form_names_the_setting():
    class Forbidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain_network()

        def forward(self, x):
            torch.empty(3).put_(torch.tensor([0]), torch.ones(1), accumulate=False)
            return self.inner(x)

    with pytest.raises(ValueError, match="train.deterministic must be False here: put_"):
        fit(Forbidden(), images(), config())
    fit(Forbidden(), images(), config(deterministic=False))
