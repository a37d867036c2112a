"""Distances of gradients from float32 products: as near to float64 as they say, whatever the rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import batches
from fastcore.greedy.facility_location import facility_location
from fastcore.greedy.gradients import GradientCoverage
from fastcore.greedy.reduced_coverage import ReducedCoverage
from fastcore.numerics import UNIT
from fastcore.ops.euclidean_tile import euclidean_tile
from fastcore.similarity import GradientSimilarity

KINDS = {  # are the rows far enough from each other for float32?
    "random": True, "tails": True, "trained": True, "zeros": True, "duplicates": True, "near": False,
    "same": False, "overflow": False, "no products of delta": False, "underflow": False, "tiny": False,
    "tiny and large": False, "apart": False,
}  # fmt: skip
N, CLASSES, WIDTH = 230, 4, 40


def make(kind: str) -> LastLayerGradients:
    rng = np.random.default_rng(list(KINDS).index(kind))
    delta, h = rng.standard_normal((N, CLASSES)), np.maximum(0, rng.standard_normal((N, WIDTH)) + 0.3)
    if kind == "tails":
        delta *= 10 ** rng.uniform(-12, 3, (N, 1))
    elif kind == "trained":  # nearly all rows are sure of the same
        delta *= np.where(rng.random((N, 1)) < 0.8, 1e-7, 1)
    elif kind == "zeros":
        delta[rng.random(N) < 0.3] = 0
        h[rng.random(N) < 0.3] = 0
    elif kind == "duplicates":
        source = np.where(rng.random(N) < 0.2, rng.integers(0, N, N), np.arange(N))
        delta, h = delta[source], h[source]
    elif kind in ("near", "same"):
        size = 10 ** rng.uniform(-7, -1, (N, 1)) if kind == "near" else 0
        delta = delta[:1] + size * delta
        h = h[:1] + size * h
    elif kind == "overflow":
        delta, h = delta * 1e12, h * 1e12
    elif kind == "no products of delta":
        delta, h = delta * rng.choice([0, 1e-30], (N, 1)), h * 1e16
    elif kind == "underflow":
        delta, h = delta * 1e-22, h * 1e17
    elif kind == "tiny":
        delta, h = delta * 1e-25, h * 1e-3
    elif kind == "tiny and large":
        delta, h = delta * rng.choice([1e-23, 1e-21], (N, 1)), h * rng.choice([1e12, 1e17], (N, 1))
    elif kind == "apart":  # distances are small beside the lengths
        delta, h = 1e3 + delta, 1e3 + h
    return LastLayerGradients(torch.from_numpy(delta).float(), torch.from_numpy(h).float())


def partition_of(balanced: bool, k: int) -> Partition:
    return Partition.by_label(torch.arange(N) % 7 % 5, k) if balanced else Partition.whole(N, k)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("limit", [1, 1 << 30])
def test_within_the_error_of_float64(kind: str, balanced: bool, limit: int) -> None:
    view = GradientSimilarity(make(kind), "euclidean")
    batch = next(batches.batches(partition_of(balanced, 10), view.device, 1))
    coverage = GradientCoverage(view, batch, limit)
    every = torch.arange(coverage.n).expand(len(batch.rows), -1)
    shown = coverage.matrix if coverage.matrix is not None else coverage.block(every)
    inside = (batch.rows >= 0).unsqueeze(1) & (batch.rows >= 0).unsqueeze(2)
    apart = torch.where(inside, shown.double() - coverage.columns(every).mT, 0.0).abs()
    assert torch.isfinite(shown).all()
    assert float(apart.max()) <= coverage.error
    assert coverage.error > (coverage.apart or 0.0)  # real products err less than they may
    if coverage.matrix is not None and coverage.apart is not None:
        assert torch.equal(shown, shown.mT)
    assert (coverage.apart is not None) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("memory", [None, 1])
def test_picks_of_float64_products(
    kind: str, balanced: bool, memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, partition = GradientSimilarity(make(kind), "euclidean"), partition_of(balanced, 60)
    mine = facility_location(view, partition, memory=memory, block=24)
    monkeypatch.setattr(ReducedCoverage, "serves", lambda _: False)
    without = facility_location(view, partition, memory=memory, block=24)
    monkeypatch.setattr(GradientCoverage, "_fill_apart", lambda *_: False)
    wanted = facility_location(view, partition, memory=memory, block=24)
    size = float(wanted.gains.abs().max())
    for found in (mine, without):
        assert torch.equal(found.rows, wanted.rows)
        torch.testing.assert_close(found.gains, wanted.gains, rtol=1e-9, atol=1e-12 * size)


@pytest.mark.parametrize("relative", [2.0**-12, 0.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_products_may_be_off_by_all_that_is_allowed(relative: float, sign: int) -> None:
    """Real products err far less than their bound: these err by the whole of it."""
    rng = np.random.default_rng(0)
    n = 300
    # Pairs at all distances, around rows of several lengths.
    delta = rng.standard_normal((9, CLASSES))[rng.integers(0, 9, n)]
    delta = delta * 2.0 ** -rng.integers(0, 8 if relative else 1, (n, 1)) + 10 ** rng.uniform(
        -6, 0, (n, 1)
    ) * rng.standard_normal((n, CLASSES))
    x, y = torch.from_numpy(delta).float(), torch.from_numpy(rng.random((n, 1))).float()
    norms = x.double().square().sum(1) * (1 + y.double().square().sum(1))
    lengths, longest = norms.sqrt(), float(norms.max().sqrt())
    absolute = 0.0 if relative else 2.0**-11.5 * longest**2
    products, factors = x.double() @ x.double().T, y.double() @ y.double().T
    exact = norms[:, None] + norms - 2 * products * (1 + factors)
    exact = 4 * longest - torch.where(exact < 1e-13 * (norms[:, None] + norms), 0.0, exact).sqrt()
    allowed = 0.5 * (relative * lengths[:, None] * lengths + absolute)
    wrong = products + sign * 0.99 * allowed / (1 + factors)
    error = (2.0**-8 if relative else 2.0**-6) * longest
    out = torch.empty(1, n, n)
    left = euclidean_tile(
        wrong.float()[None], factors.float()[None], x[None], y[None], norms[None], torch.arange(n)[None], out,
        0, False, relative, absolute, error, 4 * longest,
    )  # fmt: skip
    assert int(left) == 0
    apart = (out[0] - exact).abs()
    assert float(apart.max()) <= error + 20 * UNIT * longest
    assert float(apart.max()) > 0.3 * error  # there are pairs that come near the limit


def test_too_many_near_pairs_are_counted() -> None:
    x, y = torch.ones(1, 50, 2), torch.ones(1, 50, 3)
    norms = torch.full((1, 50), 8.0, dtype=torch.float64)
    out, at = torch.empty(1, 30, 50), torch.arange(30)[None]
    products, factors = torch.full((1, 30, 50), 2.0), torch.full((1, 30, 50), 3.0)
    bounds = 2.0**-20, 0.0, 1e-5, 9.0
    assert int(euclidean_tile(products, factors, x, y, norms, at, out, 0, False, *bounds)) == 1500
    # One for each row are always measured: a row is near itself.
    assert (
        int(
            euclidean_tile(
                products[:, :1], factors[:, :1], x, y, norms, at[:, :1], out[:, :1], 0, False, *bounds
            )
        )
        == 0
    )
    assert torch.all(out[:, :1] == 9)
