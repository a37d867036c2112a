"""Bounds by tensor cores: they hold, and facility location picks the same with them and without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcore import memory
from fastcore.budget import Partition
from fastcore.greedy import fastest, tensor_core_coverage
from fastcore.greedy.facility_location import facility_location
from fastcore.greedy.rounded_products import RoundedProducts
from fastcore.numerics import (
    LEAST,
    UNIT,
    assume_tensor_cores,
    full_precision,
    tensor_cores,
    tensor_cores_pay,
)
from fastcore.similarity import view
from tests.greedy.shortage import Shortage
from tests.greedy.support import random_rows

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
ROWS, PICKS, ROOM = 400, 40, 260_000  # bytes: for the copy and for lists, not for all similarities


def cut(sums: Tensor) -> Tensor:
    """float64 sums as an adder leaves them that cuts off two units in the last place, and loses one more."""
    unit = torch.exp2(torch.floor(torch.log2(sums.abs().clamp(min=1e-300))) - 22)
    return torch.where(sums == 0, 0.0, (sums / unit).floor().sub_(1).mul_(unit))


def poor_tensor_cores(candidates: Tensor, columns: Tensor) -> Tensor:
    """The product by an adder that takes one term after the other, errs downwards each time, and knows no
    subnormal numbers."""
    sums = torch.zeros(*candidates.shape[:2], columns.shape[2], dtype=torch.float64)
    for k in range(candidates.shape[2]):
        term = candidates[:, :, k, None].double() * columns[:, k].unsqueeze(1).double()
        sums = torch.where(term.abs() < LEAST, sums, cut(sums + term))
    return sums.masked_fill_(sums.abs() < LEAST, 0.0).float()


def hostile(kind: str, rng: np.random.Generator) -> Tensor:
    x = rng.standard_normal((60, 37)).astype(np.float32)
    if kind == "all rounded down":  # what is left out of every number has the same sign
        x = np.full_like(x, 1 + 2.0**-11 - 2.0**-22) * 2.0 ** rng.integers(-3, 4, (60, 1))
    if kind == "lengths":
        x *= 10.0 ** rng.integers(-12, 13, (60, 1))
    if kind == "numbers":
        x *= 10.0 ** rng.integers(-30, 8, x.shape)
    if kind == "tiny":
        x *= 1e-38
    if kind == "subnormal":
        x *= 1e-41
    if kind == "with zeros":
        x[::3] = 0
        x[:, ::2] = 0
    return torch.from_numpy(x.astype(np.float32))


KINDS = ["random", "all rounded down", "lengths", "numbers", "tiny", "subnormal", "with zeros"]


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold(kind: str, halves: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = hostile(kind, np.random.default_rng(0)).double()
    if halves:
        lengths = rows.norm(dim=1, keepdim=True)
        rows = torch.where(lengths > 0, rows / lengths * 0.5**0.5, 0.0)
    rows = rows.float()[None].to(device)
    if device == "cpu":
        monkeypatch.setattr(torch, "bmm", poor_tensor_cores)
    with full_precision():
        upper = RoundedProducts(rows, 37, halves)
        at = torch.arange(60, device=device)[None]
        bounds = upper.bounds(at).double() + upper.underflow
    exact = rows.double() @ rows.double().mT + 0.5 * halves
    assert bool((bounds >= exact).all())
    assert upper.columns == 60
    if kind == "random":  # and are near: twice 2^-11 of both lengths, and what is allowed for the sums
        lengths = rows.double().norm(dim=2)
        assert bool((bounds - exact <= 1.2e-3 * (lengths.unsqueeze(2) * lengths.unsqueeze(1) + halves)).all())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gains_hold(kind: str, halves: bool, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row: the others are covered, and a negative coverage makes the bound on the product the gain."""
    rows = hostile(kind, np.random.default_rng(0)).double()
    if halves:
        lengths = rows.norm(dim=1, keepdim=True)
        rows = torch.where(lengths > 0, rows / lengths * 0.5**0.5, 0.0)
    rows = rows.float()[None]
    longest = 1.0 if halves else float(rows.double().norm(dim=2).max())
    monkeypatch.setattr(torch, "bmm", poor_tensor_cores)
    products = RoundedProducts(rows, 37, halves, half, longest)
    exact = rows[0].double() @ rows[0].double().T + 0.5 * halves
    at, low = torch.arange(60)[None], 2 * float(exact.abs().max()) + products.underflow
    for i in range(0, 60, 7):
        coverage = torch.full((1, 60), torch.inf, dtype=torch.float64)
        coverage[0, i] = -low
        found = products.gains(at, coverage - products.underflow)[0] - low
        assert bool((found >= exact[i] - 1e-14 * low).all())
        if kind == "random":
            lengths = rows[0].double().norm(dim=1)
            assert bool((found - exact[i] <= 1.2e-3 * (lengths * lengths[i] + halves)).all())


def data_of(kind: str) -> Tensor:
    rng = np.random.default_rng(3)
    x = random_rows(kind, ROWS, rng)
    if kind == "near ties":  # apart by less than TF32 can tell
        x = x[rng.integers(0, ROWS // 4, ROWS)] * (1 + 1e-4 * rng.random((ROWS, 6))).astype(np.float32)
    if kind == "all rounded down":
        x = (1 + 2.0**-11 * rng.random((ROWS, 6))).astype(np.float32) * rng.integers(1, 3, (ROWS, 6))
    if kind == "zero rows":
        x[::3] = 0
    if kind == "lengths":
        x *= (10.0 ** rng.integers(-20, 4, (ROWS, 1))).astype(np.float32)
    if kind == "tiny":
        x *= 1e-18
    if kind == "least":  # products are hardly normal numbers
        x *= 1e-19
    return torch.from_numpy(x.astype(np.float32))


def run(data: Tensor, metric: str, there: bool, way: str = "written", **options):
    settings = {"memory": ROOM, "block": 16} | options
    partition = settings.pop("partition", Partition.whole(len(data), PICKS))
    with assume_tensor_cores(there), fastest.use_way(way):
        return facility_location(view(data, metric), partition, **settings)


SORTS = ["random", "integer", "duplicates", "near ties", "all rounded down", "zero rows", "lengths", "tiny"]
WAYS = tensor_core_coverage.WAYS
PRODUCTS = ["as it pays", "rounded", "refined", "in turns"]


@pytest.fixture(params=PRODUCTS)
def kind_of_products(request, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "rounded":  # in every pass
        monkeypatch.setattr(tensor_core_coverage, "WORTH_A_LIST", 0)
        monkeypatch.setattr(tensor_core_coverage, "MEASURED", 1e9)
    if request.param == "refined":
        monkeypatch.setattr(tensor_core_coverage, "WORTH_A_LIST", 1e9)
        monkeypatch.setattr(tensor_core_coverage, "REFINED", 1.0)
    if request.param == "in turns":
        monkeypatch.setattr(tensor_core_coverage, "MEASURED", 0)
        monkeypatch.setattr(tensor_core_coverage, "PAUSE", 3)
    return request.param


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("kind", SORTS)
def test_picks_are_the_same(kind: str, metric: str, kind_of_products: str) -> None:
    data = data_of(kind)
    way = WAYS[(SORTS.index(kind) + PRODUCTS.index(kind_of_products) + len(metric)) % 3]  # in turns
    without, through = run(data, metric, False), run(data, metric, True, way)
    assert (through.info["fused_columns"] >= ROWS) == (way != "written")
    assert torch.equal(through.rows, without.rows)
    assert torch.equal(through.gains, without.gains)
    assert "tensor_core_columns" not in without.info
    columns, made = through.info["columns"], through.info["tensor_core_columns"]
    assert ROWS <= made <= columns
    if kind_of_products == "rounded":
        assert made == columns and through.info["refined_pairs"] == 0
    if kind_of_products == "refined":
        assert made == columns and through.info["refined_pairs"] > columns
    if kind_of_products == "in turns":
        assert made < columns


@pytest.mark.parametrize("kind", ["all rounded down", "least"])
def test_picks_are_the_same_by_poor_tensor_cores(
    kind: str, kind_of_products: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, partition, bmm = data_of(kind), Partition.whole(ROWS, 12), torch.bmm
    without = run(data, "dot", False, partition=partition)
    allowed = torch.backends.cuda.matmul
    monkeypatch.setattr(torch, "bmm", lambda a, b: (poor_tensor_cores if allowed.allow_tf32 else bmm)(a, b))
    through = run(data, "dot", True, WAYS[PRODUCTS.index(kind_of_products) % 3], partition=partition)
    assert torch.equal(through.rows, without.rows)
    assert through.info["tensor_core_columns"] >= ROWS


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize(
    "more",
    [{"stop_at": 0.9}, {"preselected": torch.tensor([3, 77, 200])}, {"preselected": data_of("integer")[:5]}],
)
def test_with_other_options(more, metric: str) -> None:
    data = data_of("random")
    assert torch.equal(run(data, metric, True, **more).rows, run(data, metric, False, **more).rows)


def test_sets_side_by_side() -> None:
    data = torch.cat([data_of("random"), data_of("near ties")[:333]])
    labels = torch.arange(len(data)) % 7 % 3
    partition = Partition.by_label(labels, 60)
    options = {"partition": partition, "memory": 10**5 * 4}
    without, through = run(data, "cosine", False, **options), run(data, "cosine", True, **options)
    assert through.info["tensor_core_columns"] > 0
    assert torch.equal(through.rows, without.rows)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_few_pairs_are_refined(device: str) -> None:
    rng = np.random.default_rng(5)
    centers = rng.standard_normal((40, 16))
    x = centers[rng.integers(0, 40, 2000)] + 0.05 * rng.standard_normal((2000, 16))
    data = torch.from_numpy(x.astype(np.float32))
    without = run(data, "cosine", False, memory=2_000_000)
    through = run(data.to(device), "cosine", True, memory=2_000_000)
    columns = through.info["tensor_core_columns"]
    assert torch.equal(through.rows, without.rows)
    assert columns > 2000, "behind the sweep, too"
    assert 0 < through.info["refined_pairs"] < (columns - 2000) * 2000 / 20
    assert through.info["columns"] <= 1.1 * without.info["columns"]


def test_only_what_may_matter_is_kept() -> None:
    rows = hostile("random", np.random.default_rng(2))[None]
    upper = RoundedProducts(rows, 37, False)
    coverage = torch.linspace(-20, 20, 60, dtype=torch.float64)[None]
    coverage[0, 5] = torch.inf
    exact = rows.double() @ rows.double().mT
    at = torch.randperm(60, generator=torch.Generator().manual_seed(0))[None, :33]
    error = 1e-3
    found = upper.refined(at, rows, upper.least(coverage, error))
    kept = found > -torch.inf
    wanted = exact[:, at[0]]
    assert bool(kept[wanted > coverage.unsqueeze(1) - error].all())
    assert not bool(kept[:, :, 5].any())
    assert upper.pairs == int(kept.sum()) < 0.7 * kept.numel()
    assert float((found.double() - wanted)[kept].abs().max()) < 1e-4


@pytest.mark.parametrize("error", [0.0, 1e-12, 1e-6, 0.1])
def test_what_must_be_reached_is_below_the_coverage(error: float) -> None:
    rng = torch.Generator().manual_seed(0)
    coverage = torch.cat([torch.zeros(1), torch.rand(2000, generator=rng) - 0.5, torch.tensor([1e-30, 1e30])])
    coverage = (coverage.double() * (1 + 1e-9))[None]
    upper = RoundedProducts(torch.ones(1, 3, 5), 5, False)
    least = upper.least(coverage, error).double()
    assert bool((least + error <= coverage * (1 - 1e-15 * coverage.sign())).all())
    assert bool((least + error >= coverage - 2e-6 * (coverage.abs() + error) - 1e-30).all())


def test_precision_is_lowered_for_the_bounds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = torch.backends.cuda.matmul
    seen, bmm = [], torch.bmm

    def watched(a: Tensor, b: Tensor) -> Tensor:
        rounded = all(bool((x.contiguous().view(torch.int32) & 0x1FFF == 0).all()) for x in (a, b))
        seen.append((rounded, matmul.allow_tf32))
        return bmm(a, b)

    monkeypatch.setattr(torch, "bmm", watched)
    monkeypatch.setattr(tensor_core_coverage, "MEASURED", 0)  # so that float32 products are made, too
    run(data_of("random"), "cosine", True)
    assert set(seen) == {(True, True), (False, False)}


@pytest.mark.parametrize("precision", ["none", "ieee"])
def test_the_precision_is_put_back(precision: str) -> None:
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = False
    matmul.fp32_precision = precision
    with pytest.raises(ValueError, match="stop"), tensor_cores():
        assert matmul.allow_tf32
        raise ValueError("stop")
    assert (matmul.allow_tf32, matmul.fp32_precision) == (False, precision)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("measured", "way"), [(0, "half"), (1e9, "written")])
def test_memory_that_runs_out(measured: float, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALLEST", 0)
    monkeypatch.setattr(tensor_core_coverage, "MEASURED", measured)
    data, partition = data_of("random"), Partition.whole(ROWS, 5)
    with Shortage() as clean:
        expected = run(data, "cosine", True, way, partition=partition)
    for failing in range(10, clean.count, max(1, clean.count // 12)):
        with memory.plan() as plan, Shortage(failing) as shortage:
            got = memory.retried(lambda: run(data, "cosine", True, way, partition=partition))
        assert shortage.raised == plan.retries == 1
        assert torch.equal(got.rows, expected.rows), f"operation {failing}"
        assert torch.equal(got.gains, expected.gains), f"operation {failing}"


def test_where_they_are_used() -> None:
    assert not tensor_cores_pay(torch.device("cpu"))
    huge = data_of("random") * 1e19
    assert "tensor_core_columns" not in run(huge, "dot", True).info, "sums could overflow"
    assert "tensor_core_columns" not in run(data_of("random"), "cosine", True, memory=50_000).info, "no room"
    assert "tensor_core_columns" not in run(data_of("random"), "rbf", True).info
    assert UNIT == torch.finfo(torch.float32).eps / 2


def test_bounds_that_do_not_hold_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    bmm = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: bmm(a, b) * 0.99)
    assert "tensor_core_columns" not in run(data_of("random"), "cosine", True).info
