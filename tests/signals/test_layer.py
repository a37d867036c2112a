"""The layer whose input is the embedding: found, named, and refused where it is not what it seems."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from fastcore.signals import compute
from tests.signals.networks import CLASSES, Tokens, Wrap, data, small

X, Y = data()
N = len(X)


def test_the_layer_may_be_named():
    plain = compute(small(), (X, Y))
    model = small()
    for layer in ("fc", model.fc):
        assert torch.equal(compute(model, (X, Y), layer=layer).embeddings, plain.embeddings)
    hidden = compute(model, (X, Y), ("embeddings", "logits"), layer="hidden").embeddings
    assert hidden.shape == (N, 64) and torch.equal(
        compute(model, X, ("embeddings",), layer="hidden").embeddings, hidden
    )
    with pytest.raises(ValueError, match="'hidden' does not make the logits of Small"):
        compute(model, (X, Y), ("gradients",), layer="hidden")
    with pytest.warns(UserWarning, match="'hidden' does not make the logits of Small"):
        compute(model, (X, Y), layer="hidden")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute(model, (X, Y), ("gradients",), layer="fc").has("embeddings")


def test_a_model_that_is_one_linear_layer():
    model = nn.Linear(7, 3)
    x = torch.randn(5, 7)
    assert torch.equal(compute(model, x, ("embeddings",)).embeddings, x)


class TwoHeads(nn.Module):
    """A second linear layer runs after the one that makes the logits."""

    def __init__(self):
        super().__init__()
        self.inner, self.aux = small(), nn.Linear(12, CLASSES)

    def forward(self, x):
        h = self.inner.embed(x)
        return self.inner.fc(h), self.aux(h + 1)


def test_the_layer_is_the_one_that_makes_the_logits_and_not_the_last_to_run():
    plain = compute(small(), (X, Y))
    assert torch.equal(compute(TwoHeads(), (X, Y)).embeddings, plain.embeddings)


class InPlace(nn.Module):
    """Changes the embedding after the last layer has read it."""

    def __init__(self):
        super().__init__()
        self.inner = small()

    def forward(self, x):
        h = self.inner.embed(x)
        z = self.inner.fc(h)
        h.zero_()
        return z


def test_an_embedding_that_is_overwritten_later_is_the_one_that_was_read():
    assert torch.equal(compute(InPlace(), (X, Y)).embeddings, compute(small(), (X, Y)).embeddings)


class Cosine(nn.Linear):
    """Is a linear layer by its class, and not by what it computes."""

    def forward(self, x):
        return super().forward(functional.normalize(x))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat, self.fc = nn.Flatten(), nn.Linear(36, 36)

    def forward(self, x):
        return self.fc(torch.relu(self.fc(self.flat(x))))


def with_head(layer):
    model = small()
    model.fc = layer
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Wrap(lambda z: z.softmax(1)),
            "Wrap has no linear layer whose output is the logits .*inner.fc.*layer=",
        ),
        (Wrap(lambda z: z / 2), "Wrap has no linear layer"),
        (Wrap(lambda z: z.add_(1)), "Wrap has no linear layer"),
        (
            nn.Sequential(nn.Conv2d(1, 5, 6), nn.Flatten()),
            "Sequential has no linear layer .*no linear layer at all",
        ),
        (with_head(Cosine(12, 5)), "layer 'fc' of Small is a Cosine that gives something else"),
        (Twice(), "layer 'fc' of Twice runs 2 times in one forward pass"),
        (Tokens(True), "Tokens has no linear layer"),
    ],
)
def test_a_wrong_guess_of_the_layer_is_caught(model, message):
    with pytest.raises(ValueError, match=message):
        compute(model, (X, Y))
    compute(model, (X, Y % 4), ("logits",))  # needs no layer


def test_a_layer_that_cannot_be_the_one():
    for model, layer, message in [
        (small(), "fcc", "layer must name a module of Small, got 'fcc': did you mean 'fc'"),
        (
            small(),
            "conv",
            "layer 'conv' of Small must take embeddings of shape \\(37, width\\).*shape \\(37, 1, 6, 6\\)",
        ),
        (Tokens(True), "fc", "layer 'fc' of Tokens must take .*takes shape \\(37, 6, 6\\)"),
        (Twice(), "fc", "layer 'fc' of Twice runs 2 times"),
        (small(), nn.Linear(1, 1), "layer must be a module of Small, got another Linear"),
    ]:
        with pytest.raises(ValueError, match=message):
            compute(model, (X, Y), layer=layer)
    unused = small()
    unused.other = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="layer 'other' of Small does not run in one forward pass"):
        compute(unused, (X, Y), layer="other")
    with pytest.raises(TypeError, match="layer must be a name or a module of the model, got int"):
        compute(small(), (X, Y), layer=3)


def test_wrappers_are_looked_through():
    plain = compute(small(), (X, Y))
    wrapped = compute(nn.DataParallel(small()), (X, Y))
    assert torch.equal(wrapped.embeddings, plain.embeddings)
    compiled = compute(torch.compile(small(), backend="eager"), (X, Y))
    assert torch.equal(compiled.embeddings, plain.embeddings)


def test_parametrised_layers_are_linear():
    model = small()
    nn.utils.parametrizations.spectral_norm(model.fc)
    assert compute(model, (X, Y)).embeddings.shape == (N, 12)
