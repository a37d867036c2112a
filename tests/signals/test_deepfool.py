"""DeepFool of a whole batch, against one image and one class at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastcore.budget import Partition
from fastcore.methods.deepfool import deepfool as method
from fastcore.ops import use_backend
from fastcore.registry import Context, get_method
from fastcore.signals.deepfool import LEAST, Perturbations, boundary_distances, deepfool
from tests.ops.backends import require

OVERSHOOT = 0.02


class Net(nn.Module):
    """A small convolutional network with what must not change: batch norm, dropout."""

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(8 * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.nn.functional.gelu(self.norm(self.convolution(x)))
        return self.fc(self.dropout(inner.flatten(1)))


def network(classes: int = 7) -> Net:
    torch.manual_seed(1)
    net = Net(classes)
    with torch.no_grad():
        net.fc.weight.mul_(4)
    net(torch.randn(64, 1, 8, 8))  # statistics of the batch norm
    return net.eval()


def mlp() -> nn.Sequential:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 5)).eval()
    with torch.no_grad():
        model[1].weight.mul_(4)  # far from linear
    return model


def images(n: int = 40) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def plain(
    model: nn.Module, image: Tensor, candidates: int | None = None, iterations: int = 50
) -> tuple[Tensor, int, bool]:
    """The sum of the steps for one image, as the paper writes it down: a gradient for every class."""
    start = image[None]
    with torch.no_grad():
        order = model(start)[0].argsort(descending=True)[:candidates].tolist()
    total = torch.zeros_like(start)
    for steps in range(iterations + 1):
        x = (start + (1 + OVERSHOOT) * total).requires_grad_()
        logits = model(x)[0]
        if int(logits.argmax()) != order[0] or steps == iterations:
            return total[0], steps, int(logits.argmax()) != order[0]
        gradients = {k: torch.autograd.grad(logits[k], x, retain_graph=True)[0].double() for k in order}
        best: tuple[float, Any] = (float("inf"), None)
        for k in order[1:]:
            w = gradients[k] - gradients[order[0]]
            f = abs(float(logits[k].detach().double() - logits[order[0]].detach().double()))
            if f / float(w.norm()) < best[0]:
                best = f / float(w.norm()), max(f, LEAST) / float(w.norm()) ** 2 * w
        total = total + best[1].float()
    raise AssertionError


def assert_like_plain(model: nn.Module, x: Tensor, found: Perturbations, **options: Any) -> None:
    wanted = [plain(model, image, **options) for image in x]
    totals = torch.stack([total for total, _, _ in wanted])
    torch.testing.assert_close(found.distances, totals.double().flatten(1).norm(dim=1), rtol=1e-4, atol=0)
    torch.testing.assert_close(found.perturbations, (1 + OVERSHOOT) * totals, rtol=1e-3, atol=1e-5)
    assert found.steps.tolist() == [steps for _, steps, _ in wanted]
    assert found.crossed.tolist() == [crossed for _, _, crossed in wanted]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("make", [network, mlp])
def test_like_one_image_and_one_class_at_a_time(make: Callable[[], nn.Module], backend: str) -> None:
    model, x = make(), images()
    with use_backend(require(backend)):
        found = deepfool(model, x)
    assert_like_plain(model, x, found)
    # It took some rows more than one step, or this test would not see much.
    assert found.crossed.all() and found.steps.max() > found.steps.min() >= 1
    with torch.no_grad():
        assert torch.equal(model(x).argmax(1) != model(x + found.perturbations).argmax(1), found.crossed)


def test_few_candidates() -> None:
    model, x = network(), images()
    two, three = (deepfool(model, x, candidates=candidates) for candidates in (2, 3))
    assert_like_plain(model, x, two, candidates=2)
    assert_like_plain(model, x, three, candidates=3)
    assert (two.distances > three.distances * 1.01).any()


def test_all_candidates_is_none() -> None:
    model, x = network(), images()
    everything = deepfool(model, x, candidates=None).distances
    assert torch.equal(everything, deepfool(model, x, candidates=7).distances)
    assert torch.equal(everything, deepfool(model, x, candidates=99).distances)


def test_few_iterations() -> None:
    model, x = network(), images()
    found = deepfool(model, x, iterations=1)
    assert_like_plain(model, x, found, iterations=1)
    assert not found.crossed.all() and (found.steps == 1).all()


def linear(classes: int, width: int = 30) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(4)
    return nn.Linear(width, classes).double(), torch.randn(25, width, dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 6, 1000])
@pytest.mark.parametrize("candidates", [None, 10])
def test_a_linear_model_has_the_exact_distance(classes: int, candidates: int | None) -> None:
    model, x = linear(classes)
    found = deepfool(model, x, candidates=candidates)
    w, bias = model.weight.detach(), model.bias.detach()
    for i, row in enumerate(x):
        logits = w @ row + bias
        order = logits.argsort(descending=True)[:candidates]
        distance = (logits[order[0]] - logits[order[1:]]) / (w[order[0]] - w[order[1:]]).norm(dim=1)
        assert float(found.distances[i]) == pytest.approx(float(distance.min()), rel=1e-6)
    assert (found.steps == 1).all() and found.crossed.all()


def test_it_counts_from_the_predicted_class() -> None:
    """A row that is classified wrongly is at a distance like any other: labels play no part."""
    model, x = linear(6)
    labels = torch.zeros(25, dtype=torch.int64)
    distances = boundary_distances(model, (x, labels))
    assert (distances > 0).all() and (model(x).argmax(1) != labels).any()
    assert torch.equal(distances, boundary_distances(model, x))


@pytest.mark.parametrize("batch_size", [1, 3, 16, 40])
def test_any_batch_size_gives_the_same(batch_size: int) -> None:
    model, x = network(), images()
    with_all, with_few = deepfool(model, x), deepfool(model, x, batch_size=batch_size)
    torch.testing.assert_close(with_few.distances, with_all.distances, rtol=1e-5, atol=0)
    assert torch.equal(with_few.steps, with_all.steps)


class Counting(nn.Module):
    """Counts the rows of every forward pass, and the backward passes through the whole of a model."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.rows, self.backward = inner, [], 0  # type: ignore[var-annotated]

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        if x.requires_grad:
            x = x * 1
            x.register_hook(self._count)
        return self.inner(x)

    def _count(self, gradient: Tensor) -> None:
        self.backward += 1


def test_one_backward_pass_for_all_rows() -> None:
    """The trap: one for every class and every image."""
    model, x = Counting(network()), images(40)
    found = deepfool(model, x, candidates=5, batch_size=64)
    assert model.backward <= 4 * int(found.steps.max())
    assert model.backward < 4 * int(found.steps.sum()) / 5


class Powers(nn.Module):
    """Two logits, 1e8 x^p and 0, with p for each row: a step leaves 1 - 1/p of the way, so that it takes many."""

    def forward(self, x: Tensor) -> Tensor:
        powers = 1e8 * x[:, 0] ** x[:, 1].detach()
        return torch.stack([powers, torch.zeros_like(powers)], 1)


def test_rows_leave_and_others_take_their_place() -> None:
    model, x = Counting(Powers()), torch.ones(200, 2)
    x[::20, 1] = 9
    found = deepfool(model, x, batch_size=40)
    steps, most = found.steps, int(found.steps.max())
    assert found.crossed.all() and most > 20
    assert torch.equal(steps, torch.where(x[:, 1] == 9, most, 1))
    # Each row: once to begin, once more than steps, and as often again at most where a graph is made anew.
    assert sum(model.rows) <= int((2 * (steps + 1) + 1).sum())
    assert sum(model.rows) < 0.2 * len(x) * most
    # Where rows that left are not replaced, each of the five batches takes as many passes as its slowest row.
    assert max(model.rows) == 40 and model.backward < 2 * most


def test_the_model_is_left_as_it_was() -> None:
    model, x = network(), images()
    model.train()
    model.norm.eval()
    model.fc.bias.requires_grad_(False)
    model.fc.weight.grad = torch.full_like(model.fc.weight, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = x.clone()
    distances = deepfool(model, x).distances
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert [p.requires_grad for p in model.parameters()] == [True] * 5 + [False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.fc.weight.grad, torch.full_like(model.fc.weight, 3))
    assert all(p.grad is None for p in model.parameters() if p is not model.fc.weight)
    assert torch.equal(x, copy) and not x.requires_grad
    assert torch.equal(distances, deepfool(model.eval(), x).distances)


def test_modes_are_restored_after_an_error() -> None:
    model = network().train()
    with pytest.raises(ValueError, match="row 3"):
        deepfool(model, torch.where(torch.arange(40)[:, None, None, None] == 3, torch.nan, images()))
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off(context: Callable[[], Any]) -> None:
    model, x = mlp(), images()
    with context():
        distances = deepfool(model, x * 1).distances
        assert not torch.is_grad_enabled()
    assert torch.equal(distances, deepfool(model, x).distances)


class Constant(nn.Module):
    def __init__(self, trained: bool) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, 1.0, 2.0]), requires_grad=trained)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), 3)


@pytest.mark.parametrize("trained", [True, False])
def test_a_constant_model_has_no_boundary(trained: bool) -> None:
    found = deepfool(Constant(trained), images(5))
    assert (found.distances == torch.inf).all() and not found.crossed.any()
    assert (found.perturbations == 0).all()


def test_rows_without_a_gradient_are_alone_with_that() -> None:
    """Dead units for some of the rows; a boundary that is farther than floats reach is none."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1e-30]]))
        model[1].bias.copy_(torch.tensor([-1.0, 0.0]))
    x = torch.tensor([[3.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    assert boundary_distances(model, x).tolist() == [2.0, torch.inf, torch.inf]


def test_a_tie_at_the_start_still_crosses() -> None:
    model = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
    found = deepfool(model, torch.tensor([[1.0, 1.0, 0.0]]))
    assert found.crossed.all() and float(found.distances) == pytest.approx(LEAST / 2**0.5, rel=1e-3)
    # The lower class counts as predicted, so that the step leads to the other one.
    assert found.perturbations[0, 1] > 0 > found.perturbations[0, 0]


def test_equally_near_boundaries_go_to_the_candidate_that_comes_first() -> None:
    model = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3))
    found = deepfool(model, torch.tensor([[2.0, 1.0, 1.0]]))
    assert found.perturbations[0, 1] > 0 and found.perturbations[0, 2] == 0


def test_half_and_double_precision() -> None:
    model, x = mlp(), images()
    single = deepfool(model, x).distances
    double = deepfool(model.double(), x.double())
    torch.testing.assert_close(double.distances, single, rtol=1e-4, atol=0)
    assert double.perturbations.dtype == torch.float32
    half = deepfool(model.bfloat16(), x.bfloat16())
    assert half.distances.isfinite().all() and half.crossed.double().mean() > 0.8


def test_data_sets_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = network(), images(30)
    wanted = deepfool(model, x).distances
    rows = [{"picture": image, "kind": 1} for image in x]
    loader = torch.utils.data.DataLoader(x, batch_size=7)
    for dataset, keys in ((x, None), (x.double().numpy(), None), (loader, None), (rows, ("picture", "kind"))):
        got = boundary_distances(model, dataset, batch_size=8, keys=keys, progress=False)
        assert got.dtype == torch.float64 and got.device.type == "cpu"
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=0)
    assert capsys.readouterr().err == ""
    boundary_distances(model, x, progress=True)
    assert "30/30" in capsys.readouterr().err


# ---- the method -------------------------------------------------------------------------------------------


def test_method_keeps_the_rows_nearest_to_the_boundary() -> None:
    distances = torch.tensor([3.0, 0.5, torch.inf, 1.0, 2.0], dtype=torch.float64)
    partition = Partition.whole(5, 3)
    context = Context(torch.Generator().manual_seed(0), 0, None, None, None)
    picks = method(distances, partition, context=context)
    assert picks.rows.tolist() == [[1, 3, 4]] and picks.scores is not None
    assert torch.equal(picks.scores, distances)
    assert method(distances, partition, keep="easy", context=context).rows.tolist() == [[2, 0, 4]]
    signature = inspect.signature(boundary_distances).parameters
    known_options = get_method("deepfool").signal_options
    assert known_options == {name: signature[name].default for name in known_options}
