"""Tiles of any size give the same picks, and memory that runs out costs time, not picks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import fastcore
from fastcore import memory, similarity
from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import batches, graph_cut
from tests.greedy.shortage import Shortage
from tests.greedy.support import ENGINES, PAIRS, view_of
from tests.greedy.test_backends import blobs, tied

N, K = 60, 12
CPU = torch.device("cpu")


class Counted:
    picks = 0

    def update(self, picks: int) -> None:
        assert picks > 0
        self.picks += picks


def task(method: str, metric: str, balanced: bool, data: Any = blobs) -> Any:
    """A run of an engine, with blocks so small that there are several passes."""
    view = view_of(data(3, N, 8), metric)
    partition = Partition.by_label(torch.arange(N) % 3, K) if balanced else Partition.whole(N, K)
    options: dict[str, Any] = {} if method == "herding" else {"block": 6}
    if method == "k_center":
        options["start"] = "mean"
    return lambda progress=None: ENGINES[method](view, partition, progress=progress, **options)


@pytest.mark.parametrize("data", [blobs, tied])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_pieces_of_any_size(method: str, metric: str, balanced: bool, data: Any) -> None:
    run = task(method, metric, balanced, data)
    expected = run()
    for tile, batch in ((1, 1), (700, 1 << 30), (1 << 30, 20 * 8 * 4 * 2)):
        with memory.sizes(tile=tile, batch=batch):
            got = run()
        assert torch.equal(got.rows, expected.rows), f"tile={tile} batch={batch}"
        torch.testing.assert_close(got.gains, expected.gains, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("block", [1, 5 * 4 * N, 1 << 30])
def test_blocks_of_any_size(block: int) -> None:
    run = task("facility_location", "cosine", False)
    expected = run()
    with memory.sizes(block=block):  # also decides whether the matrix is kept
        assert torch.equal(run().rows, expected.rows)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_running_out_once(method: str, metric: str, balanced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it happens: the same picks and gains, each counted once, and the retry is on record."""
    monkeypatch.setattr(memory, "SMALLEST", 0)
    run = task(method, metric, balanced)
    with memory.sizes(batch=2 * N * 8 * 4), Shortage() as clean:  # more than one batch
        expected = run()
    first = 1 if method == "log_det" else 0  # the ridge, before anything is repeated
    for failing in range(first, clean.count, max(1, clean.count // 16)):
        counted = Counted()
        with memory.sizes(batch=2 * N * 8 * 4), memory.plan() as plan, Shortage(failing) as shortage:
            # Operations before the first batch belong to what the caller repeats.
            got = memory.retried(lambda counted=counted: run(counted))
        assert shortage.raised == plan.retries == 1
        assert torch.equal(got.rows, expected.rows), f"operation {failing}"
        torch.testing.assert_close(got.gains, expected.gains, rtol=1e-9, atol=1e-9)
        assert counted.picks == K, f"operation {failing}"


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_picks_that_were_made_are_not_made_again(method: str, metric: str) -> None:
    """One set, memory that runs out late: the engine goes on, it does not start again."""
    run = task(method, metric, False)
    with Shortage() as clean:
        run()
    if method == "herding":
        pytest.skip("all picks are made in one call")
    with Shortage(clean.count * 3 // 4) as shortage:
        run()
    assert shortage.count < clean.count * 3 // 2


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("k_center", {}),
        ("facility_location", {"memory": 1}),
        ("graph_cut", {"metric": "rbf"}),
        ("log_det", {}),
        ("cal", {}),
        ("gradmatch", {}),
        ("uniform", {"weights": "cluster"}),
        ("facility_location", {"optimizer": "stochastic"}),
    ],
)
def test_select_where_memory_runs_out(method: str, options: dict[str, Any]) -> None:
    """Also where an engine cannot repeat a part: then all of it is, from the same seed."""
    features, labels = blobs(5, 80, 6), np.arange(80) % 2
    data: Any = features
    if method == "cal":
        logits = blobs(6, 80, 3)
        data = fastcore.Signals(embeddings=features, logits=logits)
    if method == "gradmatch":
        data = LastLayerGradients(features, blobs(6, 80, 3))
    run = lambda: fastcore.select(method, data, 10, labels=labels, progress=False, **options)  # noqa: E731
    with Shortage() as clean:
        expected = run()
    assert expected.info["memory"]["retries"] == 0
    # The checks of the data come first, and for uniform the choice, which takes next to nothing.
    start = clean.count * 3 // 4 if method == "uniform" else 60
    for failing in range(start, clean.count - 20, max(1, clean.count // 12)):
        with Shortage(failing) as shortage:
            got = run()
        assert shortage.raised == 1
        assert got.indices.tolist() == expected.indices.tolist(), f"operation {failing}"
        if expected.weights is not None:
            assert got.weights.tolist() == expected.weights.tolist()


@pytest.mark.parametrize("method", ["k_center", "facility_location", "log_det"])
def test_a_small_card(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of more than so many bytes: tiles and batches shrink until everything fits."""
    monkeypatch.setattr(memory, "SMALLEST", 0)
    features, labels = blobs(7, 600, 16), np.arange(600) % 10
    run = lambda: fastcore.select(method, features, 24, labels=labels, progress=False)  # noqa: E731
    expected = run()
    with Shortage(largest=600 * 16 * 8) as shortage:  # all features in float64 fit
        got = run()
    assert shortage.raised > 0 and got.info["memory"]["retries"] > 0
    assert got.info["memory"]["batch"] < expected.info["memory"]["batch"]
    assert got.indices.tolist() == expected.indices.tolist()


def test_too_small_a_card() -> None:
    features = blobs(7, 600, 16)
    with (
        Shortage(largest=2000),
        pytest.raises(
            MemoryError, match=r"Tried to allocate \d+ bytes.*smaller pieces did not help.*fewer rows"
        ),
    ):
        fastcore.select("k_center", features, 24, progress=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fastcore::linear_cut: CUDA error 2: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", True),
        ("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnDsyevd(...)`", True),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes", True),
        ("fastcore::linear_cut: CUDA error 700: an illegal memory access was encountered", False),
    ],
)
def test_which_errors_are_repeated(text: str, expected: bool) -> None:
    calls = []

    def work() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError(text)
        return len(calls)

    if expected:
        assert memory.retried(work) == 2
    else:
        with pytest.raises(RuntimeError, match="700"):
            memory.retried(work)


def test_the_limit_of_the_user() -> None:
    features = blobs(5, 400, 6)
    free = fastcore.select("facility_location", features, 10, progress=False)
    tight = fastcore.select("facility_location", features, 10, memory=50_000_000, progress=False)
    least = fastcore.select("facility_location", features, 10, memory=1, progress=False)
    assert tight.indices.tolist() == free.indices.tolist() == least.indices.tolist()
    assert free.info["memory"]["limit"] is None and free.info["memory"]["free"] > 0
    assert free.info["memory"]["tile"] == memory.TILE_BYTES
    assert tight.info["memory"]["limit"] == 50_000_000
    assert tight.info["memory"]["tile"] == memory.TILE_BYTES and tight.info["memory"]["batch"] == 25_000_000
    # A few tiles are needed whatever is allowed: smaller ones would take minutes.
    assert least.info["memory"]["tile"] == memory.TILE_BYTES
    assert least.info["memory"]["batch"] == 2 * memory.TILE_BYTES


def test_a_thread_has_a_plan_of_its_own() -> None:
    import threading

    seen = []
    with memory.plan(1 << 20) as plan:
        thread = threading.Thread(target=lambda: seen.append(memory.current().limit))
        thread.start()
        thread.join()
        assert memory.current() is plan
    assert seen == [None]


def test_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free memory counts what torch keeps without use; tiles are far larger than those of a CPU."""
    card, gib = torch.device("cuda", 0), 1 << 30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30 * gib, 80 * gib))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 20 * gib)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * gib)
    assert memory.free_bytes(card) == 48 * gib
    shares = memory.Plan().of(card)
    assert (shares.tile, shares.batch, shares.resident) == (gib, 6 * gib, 96 * gib // 5)
    with memory.plan():
        assert memory.tile_rows(card, 4 * 1_280_000) == gib // (4 * 1_280_000)
        classes = Partition.by_label(torch.arange(1_000).repeat(1_281), 10_000)
        assert memory.current().count("batch", card, 1_281 * 512 * 4, 64 << 20) >= 1_000 == classes.sets


@pytest.mark.parametrize("kind", ["cosine", "rbf", "precomputed", "gradients"])
def test_graph_cut_takes_picks_into_account_once(kind: str) -> None:
    """Many picks, in several parts: when memory runs out between two of them, none counts twice."""
    features = blobs(9, 120, 6)
    view: Any = view_of(np.abs(blobs(9, 120, 120)), "precomputed")
    if kind == "gradients":
        view = similarity.view(LastLayerGradients(features, blobs(10, 120, 4)), "cosine")
    elif kind != "precomputed":
        view = view_of(features, kind)
    partition = Partition.whole(120, 100)
    batch = next(batches.batches(partition, CPU, 1))
    picks = torch.arange(100)[None]

    def cut() -> Any:
        return graph_cut._cut(view, batch, 1.0)

    def state(made: Any) -> torch.Tensor:
        return made.direction if kind == "cosine" else made.gains

    expected = cut()
    with Shortage() as clean:
        expected.add(picks)
    for failing in range(clean.count):
        made = cut()
        with Shortage(failing) as shortage:
            memory.retried(lambda made=made: made.add(picks))
        assert shortage.raised == 1
        torch.testing.assert_close(state(made), state(expected), rtol=1e-12, atol=1e-9)
