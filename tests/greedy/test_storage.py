"""Features that stay in 16 or 8 bits: the picks of their float32 copy, which is never made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastcore
from fastcore import inputs, memory
from fastcore.budget import Partition
from fastcore.greedy.batches import batches
from fastcore.greedy.facility_location import facility_location
from fastcore.greedy.stored import StoredCoverage
from fastcore.rows import StoredRows, Streamed, each_tile
from fastcore.similarity import FeatureSimilarity
from tests.greedy.shortage import Shortage
from tests.greedy.test_backends import blobs, tied
from tests.greedy.test_streamed import PAIRS, around

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SLOWER = [("graph_cut", "rbf"), ("graph_cut", "euclidean"), ("log_det", "rbf"), ("log_det", "cosine")]
NARROW = [torch.float16, torch.bfloat16, torch.uint8, torch.int8]


def narrow(
    dtype: torch.dtype, seed: int, n: int, d: int, data: Callable[..., np.ndarray] = blobs
) -> torch.Tensor:
    values = torch.from_numpy(data(seed, n, d))
    if dtype.is_floating_point:
        return values.to(dtype)
    return (
        (values * 8 + (100 if dtype == torch.uint8 else 0))
        .round()
        .clamp(0 if dtype == torch.uint8 else -120, 250)
        .to(dtype)
    )


def same(
    method: str, table: torch.Tensor, k: int, storage: str = "given", **options: Any
) -> fastcore.Selection:
    expected = fastcore.select(method, table.float(), k, progress=False, **options)
    assert expected.info["memory"]["storage"] == "float32"
    got = fastcore.select(method, table, k, storage=storage, progress=False, **options)
    label = f"{method} {table.dtype} {options}"
    assert got.info["memory"]["storage"] == str(table.dtype).removeprefix("torch."), label
    assert got.indices.tolist() == expected.indices.tolist(), label
    np.testing.assert_allclose(got.gains, expected.gains, rtol=1e-9, atol=1e-9, err_msg=label)
    return got


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("method", "metric"), [*PAIRS, *SLOWER])
def test_the_same_picks(method: str, metric: str, dtype: torch.dtype) -> None:
    sizes = {"tile": 4000, "block": 9000, "batch": 1} if dtype in (torch.bfloat16, torch.int8) else {}
    with memory.sizes(**sizes):
        for data in (blobs, tied, around):
            table = narrow(dtype, 3, 120, 8, data)
            k = 20 if method == "log_det" else 40
            same(method, table, k, metric=metric)
            same(method, table, 20, metric=metric, labels=np.arange(120) % 7 // 3)
            same(method, table, 10, metric=metric, preselected=[3, 77, 110])
        same(method, narrow(dtype, 3, 120, 8), 10, metric=metric, preselected=around(4, 5, 8))
        same(method, narrow(dtype, 6, 1, 4), 1, metric=metric)


@pytest.mark.parametrize("limit", [1, 1 << 40])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "rbf"])
def test_facility_location_with_and_without_a_table(metric: str, limit: int) -> None:
    """Of all similarities, or of lists and blocks."""
    for data in (blobs, tied, around):
        table = narrow(torch.float16, 3, 700, 12, data)
        expected = facility_location(FeatureSimilarity(table.float(), metric), Partition.whole(700, 50))
        with memory.sizes(block=limit, tile=400_000):  # several strips of the table
            view = FeatureSimilarity(StoredRows(table, CPU, asked=True), metric)
            got = facility_location(view, Partition.whole(700, 50), memory=40 << 20, block=64)
        assert got.rows.tolist() == expected.rows.tolist()
        torch.testing.assert_close(got.gains, expected.gains, rtol=1e-9, atol=1e-9)
        assert ("columns" in got.info and got.info["columns"] > 0) == (
            limit == 1 or metric in ("euclidean", "rbf")
        )


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_the_table_holds_all_similarities(metric: str) -> None:
    """Also those that are mirrored, where several strips are made."""
    table = narrow(torch.float16, 3, 100, 6, around)
    view = FeatureSimilarity(StoredRows(table, CPU, asked=True), metric)
    batch = next(batches(Partition.whole(100, 10), CPU, 1))
    with memory.sizes(tile=4 * 106 * 30):
        torch.use_deterministic_algorithms(True)  # what is not written is nan
        try:
            rows = StoredCoverage(view, batch, 1 << 40)
        finally:
            torch.use_deterministic_algorithms(False)
        assert rows.step() == 30 and rows.matrix is not None
    exact = rows.columns(torch.arange(100)[None]).mT
    assert bool(((rows.matrix.double() - exact).abs() <= rows.error).all())


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("limit", [1, 1 << 40])
def test_a_pick_is_not_made_again_where_nothing_is_to_gain(metric: str, limit: int) -> None:
    """Behind one copy of every row all others are worth 0, as is a pick."""
    distinct = torch.tensor([[3, 0], [0, 2], [1, 1], [2, 1]])
    table = distinct[torch.tensor([0, 1, 2, 0, 1, 3, 3, 2, 1, 0, 2, 3])].half()
    with memory.sizes(block=limit):
        view = FeatureSimilarity(StoredRows(table, CPU, asked=True), metric)
        got = facility_location(view, Partition.whole(12, 12), memory=40 << 20, block=5)
    assert sorted(got.rows[0].tolist()) == list(range(12))
    expected = facility_location(FeatureSimilarity(table.float(), metric), Partition.whole(12, 12))
    assert got.rows.tolist() == expected.rows.tolist()


@pytest.mark.parametrize("limit", [1, 1 << 40])
def test_equal_but_for_rounding(limit: int) -> None:
    """Groups of rows that have nothing in common with each other, and are alike but for the order of their rows.

    Gains of two groups are added up in another order: their float64 sums differ in the last digits, and the lowest
    row comes first all the same.
    """
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pattern = rng.integers(1, 9, (7, 3))
        table = np.zeros((8, 7, 8, 3), np.float16)
        for group in range(8):
            table[group, :, group] = pattern[rng.permutation(7)]
        rows = torch.from_numpy(table.reshape(56, 24))
        with memory.sizes(block=limit):
            view = FeatureSimilarity(StoredRows(rows, CPU, asked=True), "cosine")
            got = facility_location(view, Partition.whole(56, 30), memory=40 << 20)
        expected = facility_location(FeatureSimilarity(rows.float(), "cosine"), Partition.whole(56, 30))
        assert got.rows.tolist() == expected.rows.tolist(), f"seed {seed}"


def test_more_options() -> None:
    table = narrow(torch.float16, 4, 200, 8)
    same("k_center", table + 500, 50, start="mean", stop_at=1.0)
    same("k_center", table, 12, weights="cluster")
    same("facility_location", table, 60, stop_at=0.8)
    same("facility_location", table, 20, metric="dot", stop_at=0.8)
    same("facility_location", table, 8, optimizer="naive")
    same("facility_location", table, 8, optimizer="stochastic", labels=np.arange(200) % 3)
    same("craig", table, 20)
    for lam in (0.0, 0.3, 5.0):
        same("graph_cut", narrow(torch.bfloat16, 4, 300, 6, around), 120, metric="dot", lam=lam)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.int64, torch.bool])
def test_wide_types_are_not_copied_either(dtype: torch.dtype) -> None:
    table = (3 * torch.from_numpy(blobs(8, 90, 6))).round().to(dtype)
    for method in ("k_center", "facility_location", "graph_cut", "herding"):
        same(method, table, 20)
        same(method, table[::2, 1:], 20, labels=np.arange(45) % 2)


def test_strided_and_mapped(tmp_path: Any) -> None:
    values = blobs(8, 90, 6).astype(np.float16)
    np.save(tmp_path / "x.npy", values)
    expected = fastcore.select("k_center", values, 20)
    for table in (np.load(tmp_path / "x.npy", mmap_mode="r"), np.asfortranarray(values)):
        got = fastcore.select("k_center", table, 20, storage="given")
        assert got.indices.tolist() == expected.indices.tolist()
        assert got.info["memory"]["storage"] == "float16" and got.info["memory"]["streamed"]
    contiguous = fastcore.select("k_center", values.astype(np.float32), 20, storage="given")
    assert not contiguous.info["memory"]["streamed"], "there is no copy to avoid"


def test_by_default_it_is_a_matter_of_room() -> None:
    table = narrow(torch.float16, 3, 120, 8)
    roomy = fastcore.select("herding", table, 20)
    with memory.sizes(copy=4 * table.numel() - 1):
        tight = fastcore.select("herding", table, 20)
        asked = fastcore.select("herding", table, 20, storage="float32")
        nothing = fastcore.select("herding", table.float(), 20)
    stored = [sel.info["memory"]["storage"] for sel in (roomy, tight, asked, nothing)]
    assert stored == ["float32", "float16", "float32", "float32"]
    assert roomy.indices.tolist() == tight.indices.tolist()
    assert fastcore.select("entropy", torch.full((4, 2), 0.5), 2).info["memory"]["storage"] is None
    big = torch.zeros(3000, 2000, dtype=torch.float16)
    big[:, 0] = torch.arange(3000)
    limited = fastcore.select("k_center", big, 3, memory=20 << 20)
    assert limited.info["memory"]["storage"] == "float16", "its copy is more than the memory that is allowed"


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_rounding_must_be_asked_for(storage: str) -> None:
    table = torch.from_numpy(blobs(5, 300, 6) + np.float32(60))
    rounded = table.to(getattr(torch, storage))
    expected = fastcore.select("k_center", rounded, 60)
    got = fastcore.select("k_center", table, 60, storage=storage)
    assert got.indices.tolist() == expected.indices.tolist()
    assert got.info["memory"]["storage"] == storage
    assert fastcore.select("k_center", table, 60, storage="given").indices.tolist() != got.indices.tolist()
    signals = fastcore.Signals(embeddings=table)
    assert (
        fastcore.select("k_center", signals, 60, storage=storage).indices.tolist()
        == expected.indices.tolist()
    )


@pytest.mark.parametrize(
    ("method", "data", "options", "words"),
    [
        (
            "k_center",
            torch.tensor([[1.0], [70000.0]]),
            {"storage": "float16"},
            "up to 65504, got 70000 at row 1, col",
        ),
        ("k_center", torch.ones(4, 2), {"storage": "int8"}, "storage must be .*, got 'int8'"),
        ("entropy", torch.full((4, 2), 0.5), {"storage": "given"}, "entropy from Tensor has none"),
        (
            "k_center",
            torch.ones(4, 4),
            {"storage": "given", "metric": "precomputed"},
            "k_center from a matrix has",
        ),
        (
            "craig",
            fastcore.LastLayerGradients(torch.ones(4, 2), torch.ones(4, 2)),
            {"storage": "float16"},
            "storage='float16' says .* craig from LastLayerGradients has none",
        ),
        (
            "k_center",
            torch.tensor([[1.0], [torch.nan]]).half(),
            {"storage": "given"},
            "nan at row 1, column 0",
        ),
    ],
)
def test_errors(method: str, data: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        fastcore.select(method, data, 1, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("numbers", [None, torch.arange(99, 0, -2)])
def test_tiles_are_converted_in_one_place(
    numbers: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is done to a tile does not reach the rows: also where they need no conversion but for strides."""
    made, empty = [], torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **kind: made.append(size) or empty(*size, **kind))
    for table in (narrow(torch.float16, 3, 100, 8), torch.from_numpy(blobs(3, 100, 16))[:, ::2]):
        rows = Streamed(StoredRows(table, CPU, asked=True), numbers)
        expected = table.float() if numbers is None else table[numbers].float()
        seen: list[torch.Tensor] = []

        def work(_: slice, tile: torch.Tensor, seen: list[torch.Tensor] = seen) -> None:
            seen.append(tile[0].clone())
            tile.zero_()

        for each in (lambda x: [work(*tile) for tile in x.tiles(0)], lambda x: each_tile(work, x, 0)):
            seen.clear(), made.clear()
            with memory.sizes(tile=640):
                each(rows)
            assert torch.equal(torch.cat(seen), expected)
            assert len(seen) > 2 and len(made) <= 2, "the last tile is a smaller one"


@pytest.mark.parametrize(("method", "metric"), PAIRS)
def test_no_copy_of_all_rows(method: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No operation makes a float32 tensor of even two fifths of the rows; nor with two large classes."""
    monkeypatch.setattr(inputs, "_TILE", 1 << 16)
    table = narrow(torch.float16, 3, 3000 if method == "k_center" else 200, 1024)
    limit = 4 * table.numel() * 2 // 5
    for labels in (None, np.arange(len(table)) % 2):
        sizes = {"tile": limit // 8, "batch": 1, "block": limit // 2}
        with memory.sizes(**sizes), Shortage(largest=limit) as shortage:
            fastcore.select(method, table, 10, metric=metric, storage="given", labels=labels, progress=False)
        assert shortage.raised == 0


@pytest.mark.parametrize("method", ["k_center", "graph_cut", "facility_location", "herding", "log_det"])
def test_running_out_in_the_middle(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALLEST", 0)
    table = narrow(torch.float16, 3, 60, 8)
    run = lambda: fastcore.select(method, table, 12, storage="given", progress=False)  # noqa: E731
    expected = run()
    with memory.sizes(tile=2000, block=8000):
        with Shortage() as clean:
            run()
        for failing in range(60, clean.count - 20, max(1, clean.count // 12)):
            with Shortage(failing) as shortage:
                got = run()
            assert shortage.raised == 1
            assert got.indices.tolist() == expected.indices.tolist(), f"operation {failing}"


PROGRAM = """
import sys, torch, fastcore
from benchmarks.memory import watch
method, n, d = sys.argv[1], *map(int, sys.argv[2:])
table = torch.empty(n, d, dtype=torch.float16)
for start in range(0, n, 256):
    seeded = torch.Generator().manual_seed(start)
    table[start : start + 256] = torch.randn(min(256, n - start), d, generator=seeded) + 1
fastcore.select(method, table[:64], 3, storage="given")
print(watch(lambda: fastcore.select(method, table, 6, storage="given", memory=16 << 20)).added)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("method", "n", "d"),
    [
        ("k_center", 25600, 2048),
        ("graph_cut", 12800, 4096),
        ("herding", 12800, 4096),
        ("facility_location", 3200, 16384),
    ],
)
def test_the_kernel_sees_no_copy(method: str, n: int, d: int) -> None:
    """What a process takes beside features of 100 MB is well below their float32 copy alone.

    Buffers of work are 50 MB of it, and as much again where the allocator keeps freed ones (seen: 50 to 122).
    """
    command = [sys.executable, "-c", PROGRAM, method, str(n), str(d)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    copy = 4 * n * d
    assert int(done.stdout) < copy * 3 // 4, f"{int(done.stdout) >> 20} MB beside a copy of {copy >> 20} MB"
