"""Everything that runs on a GPU, on one that is none: what is where, the same picks, and when the host waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import fastcore
from fastcore import memory
from fastcore.ops import native
from fastcore.ops.native import selftest
from tests.api.material import COMPARING, METHODS, pairs, select, signals_of
from tests.card import OnCard, card

X = np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32)
Y = np.arange(60) % 3
SMALL = {"tile": 2000, "block": 3000, "batch": 1}


def check(run: Callable[..., fastcore.Selection], kernels: str = "reference", **sizes: int) -> None:
    """The picks of the CPU, on the card."""
    expected = run(device="cpu")
    with card(kernels=kernels), memory.sizes(**sizes):
        got = run(device="cuda")
        assert got.info["device"] == "cuda:0"
        assert got.info["backend"] == ("reference" if kernels == "reference" else "cuda")
        assert got.indices.tolist() == expected.indices.tolist()
        if expected.weights is not None:
            np.testing.assert_allclose(got.weights, expected.weights, rtol=1e-9, atol=1e-9)


def test_the_card_keeps_apart_what_is_where() -> None:
    with card() as seen:
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        index = torch.zeros(2, dtype=torch.int64, device="cuda")
        for mixed in (
            lambda: there + here,
            lambda: here.add_(there),
            lambda: torch.where(there > 0, there, here),
            lambda: torch.cat([there, here]),
            lambda: here[index],
            lambda: here.__setitem__(index.cpu(), there[:2]),
            lambda: there.index_select(0, index.cpu()),
            lambda: torch.mm(there[None], here[:, None]),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(TypeError, match="can't convert cuda"):
            np.asarray(there)
        made = there[None] * 2 + torch.tensor(1.0), there[index.cpu()], here.to("cuda"), there.new_zeros(2)
        assert all(isinstance(each, OnCard) and each.device.type == "cuda" for each in made)
        before = seen.waits
        assert there.cpu().device.type == "cpu" and bool((there.cpu() == here).all()) and float(there[0]) == 1
        assert seen.waits == before + 3
        there[:2].zero_()
        assert there.tolist() == [0, 0, 1]  # a view is one


@pytest.mark.parametrize("labels", [None, Y], ids=["whole", "classes"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, labels: Any) -> None:
    check(lambda **where: select(method, X, 9, labels=labels, **where))


@pytest.mark.parametrize(
    ("method", "metric"),
    [(name, metric) for name in COMPARING for metric in fastcore.get_method(name).metrics],
)
def test_every_metric(method: str, metric: str) -> None:
    options = {"metric": metric, "preselected": [3, 7], "weights": "cluster"}
    check(lambda **where: select(method, X, 9, **options, **where))
    check(lambda **where: select(method, X, 9, labels=Y, **options, **where), **SMALL)
    if "similarity" in fastcore.get_method(method).needs and metric != "precomputed":
        gradients = signals_of(X).gradients
        rows = gradients[:4] if method != "herding" else X[:4]
        data = gradients if method != "herding" else X
        check(lambda **where: fastcore.select(method, data, 9, metric=metric, preselected=rows, **where))


@pytest.mark.parametrize("method", ["k_center", "graph_cut", "facility_location", "herding"])
def test_rows_that_stay_where_or_as_they_are(method: str) -> None:
    narrow = X.astype(np.float16)
    with memory.sizes():
        check(lambda **where: fastcore.select(method, X, 9, **where), resident=0)
        check(lambda **where: fastcore.select(method, narrow, 9, storage="given", **where), resident=0)
        check(lambda **where: fastcore.select(method, narrow, 9, storage="given", labels=Y, **where))
        check(lambda **where: fastcore.select(method, X, 9, storage="bfloat16", **where))


@pytest.mark.parametrize("kernels", ["reference", "simt"])
@pytest.mark.parametrize("method", ["graph_cut", "facility_location"])
def test_sparse_matrices(method: str, kernels: str) -> None:
    matrix = torch.from_numpy(pairs(X, "similarity").astype(np.float32))
    matrix = torch.where(matrix > 0.5, matrix, 0.0).triu().to_sparse()
    for labels in (None, Y):
        given = {"metric": "precomputed", "labels": labels, "preselected": [3, 7]}
        check(lambda **where: fastcore.select(method, matrix, 9, **given, **where), kernels)  # noqa: B023


@pytest.mark.parametrize("method", ["graph_cut", "facility_location"])
def test_optimizers(method: str) -> None:
    for optimizer in ("naive", "stochastic", "approximate_lazy"):
        check(lambda **where: fastcore.select(method, X, 9, optimizer=optimizer, **where))  # noqa: B023


def test_arrays_of_the_card() -> None:
    """Also where the data is there already, and with a limit to reach."""
    for method, stop_at in (("k_center", 1.5), ("facility_location", 0.8)):
        expected = fastcore.select(method, X, 50, stop_at=stop_at).indices.tolist()
        with card():
            rows, labels = torch.from_numpy(X).to("cuda"), torch.from_numpy(Y).to("cuda")
            assert fastcore.select(method, rows, 50, stop_at=stop_at).indices.tolist() == expected
            balanced = fastcore.select(method, rows, 9, labels=labels)
            assert balanced.info["device"] == "cuda:0" and balanced.assignments(rows).shape == (60,)
        assert balanced.indices.tolist() == fastcore.select(method, X, 9, labels=Y).indices.tolist()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "forgetting"])
def test_a_network(method: str) -> None:
    """On the host, run on the card, and where it was afterwards."""
    torch.manual_seed(0)
    images, labels = torch.randn(30, 3, 6, 6), torch.arange(30) % 3
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    given: dict[str, Any] = {"model": nn.Sequential(*layers), "dataset": TensorDataset(images, labels)}
    if method == "glister":
        given["validation"] = given["dataset"]
    check(lambda **where: fastcore.select(method, k=6, **given, **where))
    assert not any(isinstance(each, OnCard) for each in given["model"].state_dict().values())


def test_the_self_test_of_the_ops() -> None:
    native.status()
    with card(kernels="cpu"):
        there = lambda op, device: native.has_kernel(op, device, "fastcore")  # noqa: E731
        assert selftest.failures("cuda", there) == {}


@pytest.mark.parametrize("rows", ["", "0"], ids=["blocks", "grid"])
@pytest.mark.parametrize(
    "method", ["k_center", "graph_cut", "facility_location", "herding", "log_det", "gradmatch", "craig"]
)
def test_with_the_cuda_kernels(method: str, rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's part on the card and the kernels on the stand-in, together."""
    if rows:
        monkeypatch.setenv("FASTCORE_GRID_ROWS", rows)
    check(lambda **where: select(method, X, 33, **where), "simt")


@pytest.mark.parametrize("labels", [None, np.arange(400) % 4], ids=["whole", "classes"])
@pytest.mark.parametrize(
    ("method", "options", "unit", "most"),
    [
        ("k_center", {}, "passes", 18),
        ("graph_cut", {}, "passes", 14),
        ("facility_location", {"memory": 1}, "passes", 16),
        ("facility_location", {}, "passes", 16),
        ("herding", {}, None, 16),  # 64 picks a call
        ("log_det", {}, "passes", 22),
        ("contextual_diversity", {}, "passes", 20),
        ("craig", {}, "passes", 16),
        ("gradmatch", {}, None, 6),
        ("glister", {}, None, 0),
        ("cal", {}, None, 0),
    ],
)
def test_the_host_waits_for_passes_and_not_for_picks(
    method: str, options: dict[str, Any], unit: str | None, most: int, labels: Any
) -> None:
    rows = np.random.default_rng(1).standard_normal((400, 8)).astype(np.float32)
    k = 120
    with card(kernels="cpu", free=1 << 34) as seen:
        chosen = select(method, rows, k, labels=labels, device="cuda", **options)
    passes = chosen.info[unit] if unit else -(-k // 64)
    assert seen.waits <= 30 + most * passes, f"{seen.waits} waits, {passes} passes"
    assert seen.calls > 0


@pytest.mark.parametrize(
    ("method", "n", "d", "memory_of", "streamed"),
    [
        ("k_center", 40_000, 256, 0.6, True),
        ("graph_cut", 40_000, 256, 0.6, True),
        ("herding", 40_000, 256, 0.6, True),
        ("facility_location", 1500, 512, 2.6, False),
    ],
)
def test_a_card_that_is_too_small(method: str, n: int, d: int, memory_of: float, streamed: bool) -> None:
    """Its memory is counted: more rows than it holds are read in tiles, and where it runs out work is repeated."""
    rng = np.random.default_rng(0)
    rows = (
        rng.standard_normal((n, d), np.float32)
        + 2 * rng.standard_normal((30, d), np.float32)[np.arange(n) % 30]
    )
    expected = fastcore.select(method, rows, 6)
    with card(kernels="cpu", free=int(memory_of * rows.nbytes)) as seen:
        got = fastcore.select(method, rows, 6, device="cuda")
    assert got.indices.tolist() == expected.indices.tolist()
    assert got.info["memory"]["streamed"] == streamed and 0 < got.info["memory"]["free"] <= seen.size
    assert 0 < seen.peak <= seen.size
    if not streamed:  # the rows twice, lists and a block are more than it has
        assert got.info["memory"]["retries"] > 0
