"""Gradient norms by all parameters, against autograd row by row."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from fastcore.gradients import LastLayerGradients
from fastcore.signals.all_layers import _Measure, gradient_norms
from tests.signals.networks import CLASSES, Items, data, small


def plainly(model, x, y):
    """(n,) float64 norms by one backward pass a row, in float64, with the model in eval mode."""
    model = model.eval().double()
    norms = []
    for row in range(len(x)):
        model.zero_grad()
        nn.functional.cross_entropy(model(x[row : row + 1].double()), y[row : row + 1]).backward()
        squares = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
        norms.append(torch.stack(squares).sum().sqrt())
    return torch.stack(norms)


@pytest.mark.parametrize("batch_size", [1, 5, 37, 256])
def test_norms_are_those_of_single_rows(batch_size):
    x, y = data()
    found = gradient_norms(small(), (x, y), batch_size=batch_size)
    assert found.dtype == torch.float64
    # A mean over a batch of 5 would be 5 times smaller, and that over the last 2 rows 2 times.
    torch.testing.assert_close(found, plainly(small(), x, y), rtol=2e-6, atol=0)


def test_a_linear_model_has_the_norms_of_its_last_layer():
    x = torch.randn(20, 7)
    y = torch.arange(20) % 4
    model = nn.Linear(7, 4)
    factored = LastLayerGradients.from_logits(model(x).detach(), y, x).squared_norms().sqrt()
    torch.testing.assert_close(gradient_norms(model, (x, y)), factored, rtol=1e-6, atol=0)


def test_a_row_that_the_model_is_sure_of_keeps_its_digits():
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[15.0, 0.0], [0.0, 0.0]])
    found = gradient_norms(model, (torch.tensor([[1.0, 0.0]]), [0]))
    expected = 2**0.5 * torch.sigmoid(torch.tensor(-15.0, dtype=torch.float64))
    torch.testing.assert_close(
        found[0], expected, rtol=1e-6, atol=0
    )  # float32 says 3.06e-07 or 0, not 4.33e-07


def test_small_chunks_give_the_same(monkeypatch):
    x, y = data()
    whole = gradient_norms(small(), (x, y))
    monkeypatch.setattr("fastcore.signals.all_layers._MOST_BYTES", 1)
    torch.testing.assert_close(gradient_norms(small(), (x, y)), whole, rtol=2e-6, atol=0)


def test_frozen_parameters_do_not_count():
    x, y = data()
    model = small()
    model.conv.requires_grad_(False)
    reference = small()
    reference.conv.requires_grad_(False)
    torch.testing.assert_close(gradient_norms(model, (x, y)), plainly(reference, x, y), rtol=2e-6, atol=0)
    with pytest.raises(ValueError, match="Small has no parameters that require gradients"):
        gradient_norms(model.requires_grad_(False), (x, y))


class Branching(nn.Module):
    """What vmap cannot take: the way through depends on the data."""

    def __init__(self):
        super().__init__()
        self.inner = small()

    def forward(self, x):
        return self.inner(x) if float(x.sum()) > 0 else self.inner(2 * x)


def test_a_model_that_vmap_refuses_runs_row_by_row_with_one_warning():
    x, y = data()
    with pytest.warns(RuntimeWarning, match="Branching does not run under torch.func.vmap") as caught:
        found = gradient_norms(Branching(), (x, y), batch_size=10)
    assert len(caught) == 1
    torch.testing.assert_close(found, plainly(Branching(), x, y), rtol=2e-6, atol=0)


def test_what_runs_together_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient_norms(small(), data())


def test_out_of_memory_halves_the_chunk(monkeypatch):
    plain = _Measure._side_by_side
    chunks = []

    def short(self, inputs, labels):
        chunks.append(self._chunk)
        if self._chunk > 4:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, inputs, labels)

    x, y = data()
    whole = gradient_norms(small(), (x, y))
    monkeypatch.setattr(_Measure, "_side_by_side", short)
    torch.testing.assert_close(gradient_norms(small(), (x, y)), whole, rtol=2e-6, atol=0)
    assert chunks[-1] <= 4 < chunks[0]


@pytest.mark.parametrize("model", [small, Branching])
def test_the_model_is_left_as_it_was(model):
    net = model()
    (net.norm if hasattr(net, "norm") else net.inner.norm).eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    parameter = next(net.parameters())
    parameter.grad = torch.ones_like(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gradient_norms(net, data())
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert torch.equal(parameter.grad, torch.ones_like(parameter))
    assert [p.grad for p in net.parameters()][1:] == [None] * (len(list(net.parameters())) - 1)


def test_bad_rows_are_named():
    x, y = data()
    y[11] = CLASSES
    with pytest.raises(ValueError, match="between 0 and 4, the classes of the logits, got 5 at row 11"):
        gradient_norms(small(), (x, y), batch_size=4)
    y[11], x[9] = 0, torch.nan
    with pytest.raises(ValueError, match="gradient norms must be finite, got nan at row 9"):
        gradient_norms(small(), (x, y), batch_size=4)
    with pytest.raises(ValueError, match="no labels"):
        gradient_norms(small(), x)


@pytest.mark.parametrize("together", [True, False])
def test_logits_that_are_not_finite_are_named_though_their_gradient_is(together):
    class Masked(nn.Module):
        """A mask after the last layer: no gradient comes through where it puts NaN."""

        def __init__(self):
            super().__init__()
            self.inner = small()

        def forward(self, x):
            if not together:
                float(x.sum())  # vmap refuses this
            return torch.where(x[:, 0, :1, 0] > 10, torch.nan, self.inner(x))

    x, y = data()
    x[9, 0, 0, 0] = 11
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="gradient norms must be finite, got nan at row 9"):
            gradient_norms(Masked(), (x, y), batch_size=4)


def test_rows_may_be_loaded_by_workers():
    rows = Items(lambda x, y, row: (x, y))
    assert torch.equal(gradient_norms(small(), rows, workers=1), gradient_norms(small(), data()))


def test_inputs_that_are_dicts():
    class Keywords(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small()

        def forward(self, image, scale):
            return {"logits": self.inner(image * scale.view(-1, 1, 1, 1))}

    x, y = data()
    rows = Items(lambda x, y, row: ({"image": x, "scale": 1.0}, y))
    torch.testing.assert_close(
        gradient_norms(Keywords(), rows), gradient_norms(small(), (x, y)), rtol=2e-6, atol=0
    )
