"""glister against a last layer that really moves, differentiated by autograd in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import batches, couplings
from fastcore.greedy.couplings import Couplings
from fastcore.greedy.gradient_ascent import gradient_ascent, held_out
from fastcore.greedy.picks import Picks
from fastcore.methods.glister import glister
from fastcore.ops import use_backend
from fastcore.registry import Context, Validation
from tests.greedy.support import Watch, gains_of, rows_of
from tests.ops.backends import CUDA, require

CLASSES, WIDTH = 4, 6


class World:
    """A last layer, and embeddings with labels for it."""

    def __init__(self, seed: int, n: int, m: int, width: int = WIDTH) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.theta = 0.4 * torch.randn(CLASSES, width + 1, generator=rng, dtype=torch.float64)
        rows = torch.randn(n + m, width, generator=rng).double()  # exact in float32
        self.h, self.val_h = rows[:n], rows[n:]
        y = torch.randint(0, CLASSES, (n + m,), generator=rng)
        self.y, self.val_y = y[:n], y[n:]
        self.gradients = self._gradients(self.h, self.y)
        self.validation = self._gradients(self.val_h, self.val_y)

    def _gradients(self, h: Tensor, y: Tensor) -> LastLayerGradients:
        return LastLayerGradients.from_logits(with_one(h) @ self.theta.T, y, h)

    def moved(
        self,
        k: int,
        eta: float = 0.1,
        refresh: int = 1,
        rows: Tensor | None = None,
        val: Tensor | None = None,
        preselected: tuple[int, ...] = (),
    ) -> tuple[list[int], list[float]]:
        """Picks among `rows` by the loss on the validation rows `val`, moving the layer by autograd."""
        rows = torch.arange(len(self.h)) if rows is None else rows
        val = torch.arange(len(self.val_h)) if val is None else val
        start = self.theta.clone().requires_grad_()
        each = [self._gradient(start, self.h[i : i + 1], self.y[i : i + 1]) for i in rows]
        place = {int(row): i for i, row in enumerate(rows)}
        theta = self.theta - eta * sum((each[place[p]] for p in preselected if p in place), torch.zeros(()))
        picks: list[int] = []
        gains: list[float] = []
        while len(picks) < k:
            v = self._gradient(theta.detach().requires_grad_(), self.val_h[val], self.val_y[val])
            value = torch.stack([(g * v).sum() for g in each])
            for row in (*preselected, *picks):
                if row in place:
                    value[place[row]] = -torch.inf
            for best in value.argsort(descending=True)[: min(refresh, k - len(picks))].tolist():
                picks.append(int(rows[best]))
                gains.append(float(value[best]))
                theta = theta - eta * each[best]
        return picks, gains

    @staticmethod
    def _gradient(theta: Tensor, h: Tensor, y: Tensor) -> Tensor:
        return torch.autograd.grad(cross_entropy(with_one(h) @ theta.T, y), theta)[0]


def with_one(h: Tensor) -> Tensor:
    return torch.cat([torch.ones(len(h), 1, dtype=h.dtype), h], 1)


def run(world: World, k: int, **options: Any) -> Picks:
    groups = options.pop("groups", torch.zeros(world.validation.n, dtype=torch.int64))
    partition = options.pop("partition", Partition.whole(world.gradients.n, k))
    return gradient_ascent(world.gradients, partition, (world.validation, groups), **options)


def assert_same(picks: Picks, expected: tuple[list[int], list[float]], ground_set: int = 0) -> None:
    assert rows_of(picks, ground_set) == expected[0]
    np.testing.assert_allclose(gains_of(picks, ground_set), expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("eta", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("refresh", [1, 3, 100])
def test_against_a_layer_that_moves(eta: float, refresh: int) -> None:
    world = World(1, 60, 25)
    picks = run(world, 20, eta=eta, refresh=refresh)
    assert_same(picks, world.moved(20, eta, refresh))
    assert picks.info["refreshes"] == -(-20 // refresh)


@pytest.mark.parametrize(
    ("n", "m", "k", "width"), [(1, 1, 1, 3), (9, 1, 9, 3), (30, 80, 30, 2), (20, 5, 7, 200)]
)
def test_shapes(n: int, m: int, k: int, width: int) -> None:
    world = World(n + m, n, m, width)
    assert_same(run(world, k, eta=0.02), world.moved(k, 0.02))


def test_the_loss_is_taken_again() -> None:
    """A v that never changes picks the first k by the first gains."""
    world = World(2, 80, 30)
    moving, still = run(world, 20, eta=0.3), run(world, 20, eta=0.3, refresh=20)
    assert rows_of(moving) != rows_of(still)
    first = world.gradients.project(world.validation.weighted_sum(torch.full((30,), 1 / 30)))
    assert rows_of(still) == first.argsort(descending=True)[:20].tolist()
    assert rows_of(moving)[0] == rows_of(still)[0]


def test_the_validation_rows_decide() -> None:
    """Other validation rows, other picks: the data itself is not used in their place."""
    world, other = World(3, 80, 30), World(3, 80, 30)
    own = gradient_ascent(world.gradients, Partition.whole(80, 20), (world.gradients, torch.zeros(80).long()))
    other.validation = other._gradients(other.val_h, (other.val_y + 1) % CLASSES)
    assert len({tuple(rows_of(p)) for p in (own, run(world, 20), run(other, 20))}) == 3


@pytest.mark.parametrize("backend", ["reference", "cpu", "simt-forward", CUDA])
def test_every_backend_picks_alike(backend: str) -> None:
    world, name = World(4, 60, 20), require(backend)
    world_gradients = world.gradients
    world.gradients = world_gradients.to("cuda" if name == "cuda" else "cpu")
    with use_backend(name):
        assert_same(run(world, 15), world.moved(15))


def test_preselected_rows_have_moved_the_layer() -> None:
    world, first = World(5, 60, 20), (3, 41, 8)
    picks = run(world, 15, preselected=torch.tensor(first), eta=0.3)
    assert_same(picks, world.moved(15, 0.3, preselected=first))
    assert rows_of(picks) != rows_of(run(world, 15, eta=0.3))


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_scales(scale: float) -> None:
    """Large embeddings make the loss saturate after a step; nothing overflows, and no row is picked twice."""
    world = World(6, 40, 15)
    world.gradients.h.mul_(scale)
    world.validation.h.mul_(scale)
    picks = run(world, 40)
    assert sorted(rows_of(picks)) == list(range(40))
    assert torch.isfinite(picks.gains).all()


def test_ties_go_to_the_lowest_row() -> None:
    world = World(7, 30, 10)
    double = torch.arange(30).repeat(3)
    world.gradients, world.h, world.y = world.gradients[double], world.h[double], world.y[double]
    assert all(
        row < 30 or row - 30 in rows_of(run(world, 25))[:at] for at, row in enumerate(rows_of(run(world, 25)))
    )


def test_rows_the_network_is_sure_of() -> None:
    """Zero gradients, of data and of validation rows, are no trouble."""
    world = World(8, 20, 10)
    world.gradients.delta[:10] = 0
    world.validation.delta[:5] = 0
    world.validation.delta[5] = torch.tensor([1.0, -1.0, 0.0, 0.0])  # and of its mistake
    picks = run(world, 20)
    assert sorted(rows_of(picks)) == list(range(20)) and torch.isfinite(picks.gains).all()


# ---- classes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refresh", [1, 4])
@pytest.mark.parametrize("small_tiles", [False, True])
def test_balanced_is_one_run_a_class(
    refresh: int, small_tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small_tiles:
        monkeypatch.setattr(couplings, "TILE_BYTES", 500)
    world = World(9, 120, 45)
    partition = Partition.by_label(world.y, 30)
    picks = run(
        world, 30, partition=partition, groups=world.val_y, refresh=refresh, preselected=torch.tensor([5])
    )
    for c in range(CLASSES):
        rows, val = (torch.nonzero(y == c)[:, 0] for y in (world.y, world.val_y))
        expected = world.moved(int(partition.budgets[c]), 0.1, refresh, rows, val, preselected=(5,))
        assert_same(picks, expected, c)


def test_a_class_without_validation_rows() -> None:
    world = World(10, 60, 20)
    partition = Partition.by_label(world.y, 12)
    with pytest.raises(ValueError, match=r"validation must have rows of every class .* none of class 2"):
        run(world, 12, partition=partition, groups=world.val_y.masked_fill(world.val_y == 2, 0))


# ---- what it costs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("small_tiles", [False, True])
@pytest.mark.parametrize(
    ("form", "n", "m", "classes"), [("table", 9, 4, 3), ("parts", 6, 5, 40), ("totals", 60, 50, 3)]
)
def test_couplings(form: str, n: int, m: int, classes: int, small_tiles: bool, monkeypatch: Any) -> None:
    """Each of the ways to multiply, in float64: the table, its rows made on the way, and the sums over y."""
    if small_tiles:
        monkeypatch.setattr(couplings, "TILE_BYTES", 500)
    rng = torch.Generator().manual_seed(n)
    width = 20 if form == "table" else 8
    h, y = (torch.randn(3, rows, width, generator=rng) for rows in (n, m))
    delta, e = (torch.randn(3, rows, classes, generator=rng) for rows in (n, m))
    operator = Couplings(h, y).keep() if form == "table" else Couplings(h, y)
    assert (operator._table is not None) == (form == "table")
    assert operator._in_parts(classes) == (form != "totals")
    expected = (1 + h.double() @ y.double().mT) @ e.double()
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(operator.apply(e), expected, **close)
    torch.testing.assert_close(operator.apply(e.double()), expected, **close)
    torch.testing.assert_close(operator.against(e, delta), (expected * delta).sum(2), **close)


@pytest.mark.parametrize("refresh", [1, 5])
def test_nothing_waits_for_a_device_between_the_picks(refresh: int) -> None:
    world, waits = World(14, 120, 30), []
    for k in (5, 60):
        partition = Partition.by_label(world.y, k)
        with use_backend("reference"), Watch() as watch:
            run(world, k, partition=partition, groups=world.val_y, refresh=refresh)
        waits.append(watch.waits)
    assert waits[0] == waits[1] > 0


def test_validation_rows_are_sorted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches.batches, "__defaults__", (1,))  # one class a batch
    world = World(15, 60, 37)
    with use_backend("reference"), Watch() as watch:
        run(world, 12, partition=Partition.by_label(world.y, 12), groups=world.val_y)
    assert watch.sorts.count((37,)) == 1


@pytest.mark.parametrize("m", [4, 20, 4000])
def test_no_float64_numbers_of_all_rows_and_classes(m: int) -> None:
    n, classes = 8000, 300
    rng = torch.Generator().manual_seed(1)
    logits, h = torch.randn(n + m, classes, generator=rng), torch.randn(n + m, 6, generator=rng)
    rows = LastLayerGradients.from_logits(logits, torch.arange(n + m) % classes, h)
    with use_backend(require("cpu")), Watch() as watch:
        validation = rows[n:], torch.zeros(m, dtype=torch.int64)
        gradient_ascent(rows[:n], Partition.whole(n, 2), validation, refresh=2)
    assert watch.largest < 11 << 20 < 8 * n * classes


# ---- the method -------------------------------------------------------------------------------------------


def context(
    seed: int = 0, validation: Validation | None = None, preselected: Tensor | None = None
) -> Context:
    return Context(torch.Generator().manual_seed(seed), seed, preselected, None, None, validation)


def test_a_split_is_held_out_of_every_class_and_never_picked() -> None:
    world = World(11, 100, 1)
    partition, taken = Partition.by_label(world.y, 40), torch.tensor([0, 1, 2])
    picks = glister(world.gradients, partition, split=0.3, context=context(3, preselected=taken))
    rows, groups = held_out(partition, 0.3, taken, torch.Generator().manual_seed(3))
    assert torch.equal(torch.bincount(groups), (partition.sizes * 0.3 + 0.5).long())
    assert torch.equal(world.y[rows], groups)
    assert not set(rows.tolist()) & {0, 1, 2}
    made = [rows_of(picks, c) for c in range(CLASSES)]
    assert [len(each) for each in made] == partition.budgets.tolist()
    assert not set(sum(made, [])) & {*rows.tolist(), 0, 1, 2}
    mask = torch.zeros(100, dtype=torch.bool).index_fill(0, rows, True)
    again = gradient_ascent(
        world.gradients, partition, (world.gradients[rows], groups), closed=mask, preselected=taken
    )
    assert torch.equal(picks.rows, again.rows)
    other = glister(world.gradients, partition, split=0.3, context=context(4, preselected=taken))
    assert not torch.equal(picks.rows, other.rows)


def test_a_split_that_leaves_too_few_rows() -> None:
    world = World(12, 20, 1)
    with pytest.raises(ValueError, match=r"split=0\.5 holds out 10 of 20 rows, too many for 11 picks"):
        glister(world.gradients, Partition.whole(20, 11), split=0.5, context=context())
    with pytest.raises(ValueError, match=r"rows of class 0 \(counted from 0"):
        glister(world.gradients, Partition.by_label(world.y, 19), split=0.5, context=context())


def test_bad_options() -> None:
    world = World(13, 20, 5)
    given = Validation(world.validation, torch.zeros(5, dtype=torch.int64))
    partition = Partition.whole(20, 5)
    with pytest.raises(ValueError, match=r"exactly one of validation= and split=, got neither"):
        glister(world.gradients, partition, context=context())
    with pytest.raises(ValueError, match=r"exactly one of validation= and split=, got both"):
        glister(world.gradients, partition, split=0.2, context=context(validation=given))
    for options, message in (({"eta": 0}, "eta"), ({"refresh": 0}, "refresh"), ({"eta": -1.0}, "eta")):
        with pytest.raises(ValueError, match=message):
            glister(world.gradients, partition, context=context(validation=given), **options)
    with pytest.raises(ValueError, match="split"):
        glister(world.gradients, partition, split=1.0, context=context())


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda delta: 2 * delta, "which sums to"),  # weighted
        (lambda delta: -delta, "in row 0"),
        (lambda delta: delta + 0.1, "which sums to 0.4"),
        (lambda delta: delta * torch.tensor([1.0, 0, 1, 1]), "validation must have rows delta"),
    ],
)
def test_validation_rows_of_another_loss_are_an_error(make, shown):
    """The loss is known from delta = softmax - onehot alone."""
    world = World(0, 30, 12)
    other = LastLayerGradients(make(world.validation.delta), world.validation.h)
    with pytest.raises(ValueError, match=shown) as found:
        glister_of(world, other)
    assert "\n" not in str(found.value)
    glister_of(
        world, LastLayerGradients(world.validation.delta.bfloat16(), world.validation.h)
    )  # half precision


def glister_of(world: World, validation: LastLayerGradients) -> Picks:
    groups = torch.zeros(validation.n, dtype=torch.int64)
    return gradient_ascent(world.gradients, Partition.whole(world.gradients.n, 3), (validation, groups))
