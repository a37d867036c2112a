"""Signals of a network: what they are, that nothing depends on the batch, and that the model is left alone."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from fastcore import select
from fastcore.signals import compute
from tests.signals.networks import CLASSES, Items, Tokens, Wrap, data, small

ALL = ("embeddings", "logits", "labels", "losses")
X, Y = data()
N = len(X)


def expected():
    """Embeddings, logits and losses by the definition, all rows at once in float64."""
    model = small().eval().double()
    with torch.no_grad():
        h = model.embed(X.double())
        z = model.fc(h)
    return h, z, functional.cross_entropy(z, Y, reduction="none")


def test_signals_are_what_the_network_says():
    signals = compute(small(), (X, Y), ALL)
    h, z, losses = expected()
    assert [getattr(signals, name).dtype for name in ALL] == [
        torch.float32,
        torch.float32,
        torch.int64,
        torch.float32,
    ]
    torch.testing.assert_close(signals.embeddings.double(), h, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(signals.logits.double(), z, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(signals.losses.double(), losses, rtol=1e-5, atol=1e-6)
    assert torch.equal(signals.labels, Y)
    assert not any(getattr(signals, name).requires_grad for name in ALL)


def test_signals_of_some_rows():
    signals = compute(small(), (X, Y), ("embeddings", "labels"))
    some = signals[[3, 0]]
    assert torch.equal(some.embeddings, signals.embeddings[[3, 0]]) and torch.equal(some.labels, Y[[3, 0]])
    assert some.logits is None and len(signals[Y == 0]) == int((Y == 0).sum())
    for none in (signals[:0], compute(small(), (X, Y)).gradients[:0]):
        with pytest.raises(ValueError, match=r"data must not be empty, got \w+ of 0 rows"):
            select("k_center", none, 1)


@pytest.mark.parametrize("batch_size", [1, 2, 8, 36, 37, 1000])
def test_the_batch_size_changes_nothing(batch_size):
    whole, parts = compute(small(), (X, Y), ALL), compute(small(), (X, Y), ALL, batch_size=batch_size)
    for name in ALL:
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-6, atol=1e-6)
    # A loss that is a mean over the batch would scale all of these by 1 / B.
    norms = [each.gradients.squared_norms().sqrt() for each in (whole, parts)]
    torch.testing.assert_close(norms[1], norms[0], rtol=1e-5, atol=1e-7)


def test_gradients_are_those_of_single_rows():
    gradients = compute(small(), (X, Y), batch_size=8).gradients.materialise()
    model = small().eval()
    for row in range(N):
        model.zero_grad()
        functional.cross_entropy(model(X[row : row + 1]), Y[row : row + 1]).backward()
        expected = torch.cat([model.fc.bias.grad[:, None], model.fc.weight.grad], 1).flatten()
        torch.testing.assert_close(gradients[row], expected, rtol=1e-4, atol=1e-6)


def test_only_what_is_asked_for():
    assert compute(small(), (X, Y), ("logits",)).embeddings is None
    assert compute(small(), X, ("embeddings",)).logits is None
    held = compute(small(), (X, Y), ("losses",))
    assert held.logits is None and held.labels is None and len(held.losses) == N
    held = compute(small(), (X, Y), ("probabilities",))
    assert held.has("logits") and not held.has("labels") and not held.has("embeddings")
    held = compute(small(), (X, Y), ["gradients"])
    assert held.has("embeddings", "logits", "labels") and not held.has("losses")
    assert torch.equal(compute(nn.Identity(), (X, Y), ("labels",)).labels, Y)


Output = namedtuple("Output", ["first", "features"])


@pytest.mark.parametrize(
    "change",
    [
        lambda z: (z, z + 1),
        lambda z: [z],
        lambda z: {"logits": z, "loss": None},
        lambda z: SimpleNamespace(logits=z),
        lambda z: Output(z, 0),
    ],
)
def test_outputs_of_every_shape(change):
    plain, wrapped = compute(small(), (X, Y), ALL), compute(Wrap(change), (X, Y), ALL)
    assert all(torch.equal(getattr(plain, name), getattr(wrapped, name)) for name in ALL)


def test_inputs_by_keyword_and_by_position():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small()

        def forward(self, a, b):
            return self.inner(a - b)

    plain = compute(small(), (X, Y))
    for make in (lambda x, y, row: ({"b": x, "a": 2 * x}, y), lambda x, y, row: ((2 * x, x), y)):
        assert torch.equal(compute(Two(), Items(make)).logits, plain.logits)


def test_float64_inputs_are_taken_in_the_precision_of_the_model():
    signals = compute(small(), (X.double().numpy(), Y.numpy()))
    assert torch.equal(signals.logits, compute(small(), (X, Y)).logits)
    signals = compute(small().double(), (X.double().numpy(), Y.numpy()))
    torch.testing.assert_close(signals.logits, expected()[1].float(), rtol=1e-7, atol=1e-7)


def test_mixed_precision_is_an_option_and_a_surrounding_autocast_is_none():
    plain = compute(small(), (X, Y))
    half = compute(small(), (X, Y), amp=torch.bfloat16)
    error = (half.logits - plain.logits).abs().max()
    assert 1e-4 < error < 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compute(small(), (X, Y)).logits, plain.logits)
    for wrong in ("bfloat16", True, torch.float64):  # of a dtype that it has not, autocast turns itself off
        with pytest.raises(ValueError, match=f"amp must be one of None, .*bfloat16, got {wrong!r}"):
            compute(small(), (X, Y), amp=wrong)


class Faulty(nn.Module):
    """The small network, which fails at its third batch."""

    def __init__(self, error):
        super().__init__()
        self.inner, self.error, self.calls = small(), error, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 4:  # the first batch runs twice
            raise self.error
        return self.inner(x)


def partly(model):
    """Training, with the BatchNorm frozen in eval mode and a mixed module below."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


@pytest.mark.parametrize("mode", [lambda m: m.train(), lambda m: m.eval(), partly])
@pytest.mark.parametrize("error", [None, RuntimeError("broken"), KeyboardInterrupt()])
def test_the_model_is_left_as_it_was(mode, error):
    model = mode(small() if error is None else Faulty(error))
    first = next(model.parameters())
    first.requires_grad_(False)
    last = list(model.parameters())[-1]
    last.grad = torch.ones_like(last)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    seed = torch.get_rng_state()
    if error is None:
        compute(model, (X, Y), ALL, batch_size=5)
    else:
        with pytest.raises(type(error)):
            compute(model, (X, Y), ALL, batch_size=5)
    assert [module.training for module in model.modules()] == modes
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [p is not first for p in model.parameters()]
    assert [p.grad is None for p in model.parameters()] == [p is not last for p in model.parameters()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(seed, torch.get_rng_state()) and torch.is_grad_enabled()


def test_a_model_that_does_more_than_set_flags_changes_its_mode_twice():
    class Switching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.switched = small(), []

        def train(self, mode=True):
            self.switched.append(mode)
            return super().train(mode)

        def forward(self, x):
            assert self.switched[-1] is False
            return self.inner(x)

    model = Switching().train()
    model.switched.clear()
    compute(model, (X, Y))
    assert model.switched == [False, True]


def test_bad_rows_are_named():
    x, y = X.clone(), Y.clone()
    y[11] = CLASSES
    with pytest.raises(ValueError, match="labels must be between 0 and 4, .* got 5 at row 11"):
        compute(small(), (x, y), batch_size=4)
    y[11] = -1
    for quantities in (("losses",), ("embeddings", "labels")):
        with pytest.raises(ValueError, match="got -1 at row 11"):
            compute(small(), (x, y), quantities, batch_size=4)
    x[9] = torch.nan
    with pytest.raises(ValueError, match="logits must be finite, got nan at row 9, column 0"):
        compute(small(), (x, Y), ("logits",), batch_size=4)
    with pytest.raises(ValueError, match="embeddings must be finite, got nan at row 9"):
        compute(small(), (x, Y), batch_size=4)
    x[9], x[2] = 0, torch.nan  # in the first batch, in which the layer is looked for
    with pytest.raises(ValueError, match="got nan at row 2"):
        compute(small(), (x, Y), batch_size=4)


@pytest.mark.parametrize(
    ("model", "dataset", "options", "error", "message"),
    [
        (small(), X, {}, ValueError, "dataset has no labels"),
        (small(), X, {"quantities": ("losses",)}, ValueError, "dataset has no labels"),
        (small(), (X, Y), {"quantities": ("logit",)}, ValueError, "quantities must be one of .* got 'logit'"),
        (small(), (X, Y), {"quantities": "logits"}, TypeError, "quantities must be a tuple"),
        (small(), (X, Y), {"quantities": ()}, TypeError, "quantities must be a tuple"),
        (small(), (X, Y), {"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1"),
        (small(), (X, Y), {"workers": -1}, ValueError, "workers must be"),
        (small(), (X, Y), {"device": "cuda:77"}, ValueError, "device 'cuda:77' is not there"),
        (
            small(),
            DataLoader(TensorDataset(X, Y), shuffle=True),
            {},
            ValueError,
            "shuffles \\(RandomSampler\\)",
        ),
        ("net", (X, Y), {}, TypeError, "model must be a torch.nn.Module, got str"),
        (Wrap(lambda z: None), (X, Y), {}, TypeError, "model must return logits.*Wrap returned NoneType"),
        (
            Wrap(lambda z: z[:, :1]),
            (X, Y),
            {"quantities": ("logits",)},
            ValueError,
            "two classes or more.*\\(37, 1\\)",
        ),
        (
            Wrap(lambda z: z[:3]),
            (X, Y),
            {"quantities": ("logits",)},
            ValueError,
            "\\(37, classes\\).*\\(3, 5\\)",
        ),
        (
            Tokens(False),
            (X, Y),
            {"quantities": ("logits",)},
            ValueError,
            "Tokens returned shape \\(37, 6, 4\\)",
        ),
    ],
)
def test_what_is_wrong_is_named(model, dataset, options, error, message):
    with pytest.raises(error, match=message):
        compute(model, dataset, **options)


@pytest.mark.gpu
def test_a_copy_runs_on_another_device():
    model = small()
    plain = compute(model, (X, Y))
    there = compute(model, (X, Y), device="cuda")
    assert next(model.parameters()).device.type == "cpu" and there.logits.device.type == "cpu"
    torch.testing.assert_close(there.logits, plain.logits, rtol=1e-2, atol=1e-2)
