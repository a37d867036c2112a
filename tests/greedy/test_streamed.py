"""Rows that stay on the host: the same picks as with rows on the device, and the protocol of the copies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastcore
from fastcore import memory
from fastcore.budget import Partition
from fastcore.greedy.farthest_first import farthest_first
from fastcore.rows import StoredRows, Streamed, each_tile
from fastcore.similarity import FeatureSimilarity
from tests.greedy.shortage import Shortage
from tests.greedy.test_backends import blobs, tied

PAIRS = [
    ("k_center", "euclidean"),
    ("k_center", "cosine"),
    ("graph_cut", "cosine"),
    ("graph_cut", "dot"),
    ("facility_location", "cosine"),
    ("facility_location", "dot"),
    ("facility_location", "euclidean"),
    ("facility_location", "rbf"),
    ("herding", "euclidean"),
    ("herding", "cosine"),
]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are read as from another device."""
    monkeypatch.setattr(StoredRows, "local", False)


def around(seed: int, n: int, d: int) -> np.ndarray:
    """Rows on all sides of the origin, where gains of graph cut rise while picks are made."""
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def both(method: str, features: Any, k: int, sizes: dict[str, int], **options: Any) -> fastcore.Selection:
    expected = fastcore.select(method, features, k, progress=False, **options)
    assert not expected.info["memory"]["streamed"]
    with memory.sizes(resident=0, **sizes):
        got = fastcore.select(method, features, k, progress=False, **options)
    assert got.info["memory"]["streamed"]
    label = f"{method} {options} {sizes}"
    assert got.indices.tolist() == expected.indices.tolist(), label
    np.testing.assert_allclose(got.gains, expected.gains, rtol=1e-9, atol=1e-9, err_msg=label)
    return got


@pytest.mark.parametrize("sizes", [{}, {"tile": 900, "block": 3000, "batch": 1}])
@pytest.mark.parametrize("data", [blobs, tied, around])
@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_the_same_picks(
    method: str, metric: str, data: Callable[..., np.ndarray], sizes: dict[str, int]
) -> None:
    if method == "facility_location" and sizes:
        sizes = sizes | {"tile": 20_000}  # its rows are wide: 24 bytes a candidate
    features = data(3, 150, 8)
    both(method, features, 40, sizes, metric=metric)
    both(method, features, 30, sizes, metric=metric, labels=np.arange(150) % 7 // 3)
    both(method, features, 20, sizes, metric=metric, preselected=[3, 77, 140])
    both(method, features, 20, sizes, metric=metric, preselected=data(4, 5, 8))
    both(method, data(5, 40, 3), 40, sizes, metric=metric)
    both(method, data(6, 1, 4), 1, sizes, metric=metric)


def test_far_from_the_origin() -> None:
    """Centred tile by tile."""
    both("k_center", blobs(3, 200, 6) + np.float32(500), 50, {"tile": 700})
    both("k_center", blobs(3, 200, 6) + np.float32(500), 50, {}, start="mean", stop_at=2.0)


def test_stop_at_and_strong_penalties() -> None:
    for metric in ("cosine", "dot"):
        both("facility_location", blobs(4, 150, 8), 60, {"tile": 4000}, metric=metric, stop_at=0.8)
        for lam in (0.0, 0.3, 5.0):
            both("graph_cut", around(4, 300, 6), 120, {"block": 2000}, metric=metric, lam=lam)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_any_table(dtype: Any, tmp_path: Any) -> None:
    """Memory maps, other dtypes and strides: converted a tile at a time."""
    values = (3 * blobs(8, 90, 6)).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for method in ("k_center", "facility_location", "graph_cut", "herding"):
        both(method, mapped, 20, {"tile": 500})
        both(method, np.asfortranarray(values), 20, {})
        both(method, values[::2, 1:], 20, {}, labels=np.arange(45) % 2)


def test_values_are_checked() -> None:
    features = blobs(3, 50, 4)
    features[37, 2] = np.nan
    with memory.sizes(resident=0), pytest.raises(ValueError, match="nan at row 37, column 2"):
        fastcore.select("k_center", features, 5)
    features[37, 2] = 1e19
    with memory.sizes(resident=0), pytest.raises(ValueError, match="at row 37: scale"):
        fastcore.select("k_center", features, 5)


def test_weights_and_signals() -> None:
    features = blobs(3, 120, 5)
    expected = fastcore.select("k_center", features, 12, weights="cluster", progress=False)
    signals = fastcore.Signals(embeddings=torch.from_numpy(features))
    with memory.sizes(resident=0):
        got = fastcore.select("k_center", features, 12, weights="cluster", progress=False)
        held = fastcore.select("k_center", signals, 12, progress=False)
    assert got.weights is not None and expected.weights is not None
    assert got.weights.tolist() == expected.weights.tolist()
    assert held.info["memory"]["streamed"] and held.indices.tolist() == expected.indices.tolist()


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("graph_cut", {"metric": "rbf"}, "graph_cut with metric='rbf'"),
        ("log_det", {}, "log_det"),
        ("facility_location", {"optimizer": "naive"}, "optimizer='naive'"),
    ],
)
def test_what_cannot_be_streamed(method: str, options: dict[str, Any], words: str) -> None:
    with (
        memory.sizes(resident=0),
        pytest.raises(MemoryError, match=rf"{words} .* 8\.0 KB of them .*device='cpu'"),
    ):
        fastcore.select(method, np.ones((256, 8), np.float32), 5, **options)


def test_classes_that_fit_are_copied() -> None:
    """Only the rows of a batch are fetched, once, and then they are resident."""
    features = blobs(3, 300, 6)
    view = FeatureSimilarity(StoredRows(torch.from_numpy(features), CPU))
    partition = Partition.by_label(torch.arange(300) % 3, 30)
    seen = []
    original = Streamed.take
    with pytest.MonkeyPatch.context() as patch, memory.sizes(resident=100 * 6 * 4):
        patch.setattr(Streamed, "take", lambda self, at: seen.append(at) or original(self, at))
        farthest_first(view, partition)
    assert not seen


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_running_out_while_streaming(method: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALLEST", 0)
    features = blobs(3, 60, 8)
    run = lambda: fastcore.select(method, features, 12, metric=metric, progress=False)  # noqa: E731
    expected = run()
    tile = 40_000 if method == "facility_location" else 2000
    with memory.sizes(resident=0, tile=tile, block=8000):
        with Shortage() as clean:
            run()
        for failing in range(40, clean.count - 20, max(1, clean.count // 12)):
            with Shortage(failing) as shortage:
                got = run()
            assert shortage.raised == 1 and got.info["memory"]["retries"] == 1
            assert got.indices.tolist() == expected.indices.tolist(), f"operation {failing}"


def test_a_tile_that_was_done_is_not_done_again() -> None:
    """Memory that runs out in one tile: those before stand, and the rest comes in smaller ones."""
    x = Streamed(StoredRows(torch.arange(4000.0).view(1000, 4), CPU))
    done: list[slice] = []
    failed = []

    def work(part: slice, rows: torch.Tensor) -> None:
        if part.start >= 500 and not failed:
            failed.append(part)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        assert torch.equal(rows[0, :, 0], torch.arange(part.start, part.stop) * 4.0)
        done.append(part)

    with memory.sizes(tile=100 << 10):
        each_tile(work, x, 1000)
    assert [part.start for part in done] == [0, *(part.stop for part in done[:-1])] and done[-1].stop == 1000
    assert done[-1].start - done[-2].start < done[1].start


class Lazy(TorchDispatchMode):
    """Copies between two streams, each done as late as the events allow: the worst that a device may do."""

    def __init__(self) -> None:
        super().__init__()
        self.here = self.work = FakeStream(self)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.copy_.default and len(args) > 2 and args[2]:
            self.here.queue.append(lambda: args[0].copy_(args[1]))  # blocking this time
            return args[0]
        if func is torch.ops.aten._to_copy.default:  # the device converts what came
            out = torch.empty(args[0].shape)
            self.here.queue.append(lambda: out.copy_(args[0]))
            return out
        return func(*args, **(kwargs or {}))


class FakeStream:
    def __init__(self, lazy: Lazy) -> None:
        self.lazy, self.queue, self.done = lazy, [], 0

    def run(self, until: int) -> None:
        while self.done < until:
            self.done += 1
            self.queue[self.done - 1]()

    def wait_event(self, event: FakeEvent) -> None:
        if event.stream is not None:  # what it stands for now, not what is recorded later
            self.queue.append(partial(event.stream.run, event.count))

    def wait_stream(self, other: FakeStream) -> None:
        count = len(other.queue)
        self.queue.append(lambda: other.run(count))


class FakeEvent:
    def __init__(self) -> None:
        self.stream: FakeStream | None = None

    def record(self, stream: FakeStream) -> None:
        self.stream, self.count = stream, len(stream.queue)

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.run(self.count)


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("numbers", [None, torch.arange(0, 100, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.float64])
def test_the_protocol_of_the_copies(
    dtype: torch.dtype, numbers: torch.Tensor | None, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No buffer is written while it is read, on either side, however late the device does its work."""
    lazy = Lazy()
    copying = FakeStream(lazy)
    empty = torch.empty

    @contextlib.contextmanager
    def stream(chosen: FakeStream) -> Any:
        lazy.here = chosen
        yield
        lazy.here = lazy.work

    sent = []

    def made(*shape: Any, pin_memory: bool = False, device: Any = None, dtype: Any = None) -> torch.Tensor:
        sent.append(dtype)
        return empty(*shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", made)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: pinned)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: lazy.work)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: copying)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    table = torch.arange(300.0).view(100, 3).fmod(200).to(dtype)
    x = Streamed(StoredRows(table, CPU), numbers)
    n = x.shape[1]
    parts = [slice(first, min(first + 7, n)) for first in range(0, n, 7)]
    seen: dict[int, torch.Tensor] = {}
    with lazy:
        for part, rows in x._copies(parts, 7):
            lazy.work.queue.append(lambda part=part, rows=rows: seen.update({part.start: rows[0].clone()}))
        lazy.work.run(len(lazy.work.queue))
    expected = table.float() if numbers is None else table[numbers].float()
    assert torch.equal(torch.cat([seen[part.start] for part in parts]), expected)
    narrow = torch.float32 if dtype == torch.float64 else dtype
    assert {kind for kind in sent if kind is not None} == {narrow}, "the bus takes no wider type"


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_more_features_than_the_card_holds(method: str, metric: str) -> None:
    """No operation makes a tensor of even two fifths of the features, and none has to be repeated."""
    features = blobs(3, 3000 if method == "k_center" else 500, 1024)
    limit = features.nbytes * 2 // 5  # the 512 candidates of k_center take a third, in float64
    expected = fastcore.select(method, features, 20, metric=metric, progress=False)
    with memory.sizes(resident=limit, tile=limit // 4, block=limit // 2), Shortage(largest=limit) as shortage:
        got = fastcore.select(method, features, 20, metric=metric, progress=False)
    assert shortage.raised == 0
    assert got.indices.tolist() == expected.indices.tolist()
