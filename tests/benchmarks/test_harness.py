"""Timing, memory, records and the adapters of the other libraries."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import features, harness, peers, plot
from benchmarks.cases import CASES
from benchmarks.compare import as_picks
from benchmarks.memory import status_bytes, watch
from benchmarks.peers import Data
from benchmarks.refcheck import check_list, judge

LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")


def test_runs_are_interleaved_and_the_last_result_is_kept() -> None:
    calls: list[str] = []

    def run(name: str) -> int:
        calls.append(name)
        return len(calls)

    timings = harness.interleaved({"a": lambda: run("a"), "b": lambda: run("b")}, repeats=3)
    assert calls == ["a", "b"] * 3
    assert timings["a"].result == 5 and timings["b"].result == 6
    assert len(timings["a"].seconds) == 3


def test_quartiles() -> None:
    timing = harness.Timing([4.0, 1.0, 3.0, 2.0, 5.0])
    assert timing.quartiles() == (2.0, 3.0, 4.0)


@LINUX
def test_the_peak_is_that_of_the_run_alone() -> None:
    size = 64 << 20
    np.ones(4 * size // 8)  # a higher peak before the run
    seen = watch(lambda: np.ones(size // 8))
    assert 0.9 * size < seen.added < 1.5 * size
    assert seen.peak == seen.before + seen.added
    assert seen.before <= status_bytes("VmHWM")


def test_a_record_is_written_whole(tmp_path: Path) -> None:
    rows = [
        harness.Row("case", "fastcore", "time", "s", 0.5, 0.4, 0.6, 3, 1.0, "right", "0.1.0", 10, 2, 3),
        harness.Row("case", "peer, lazy", "time", "s", 1.5, 1.4, 1.6, 3, 3.0, "tie at 2", "1.0", 10, 2, 3),
        harness.Row("case", "fastcore", "target", "x", 3.0, target="at least 2x", met="met"),
    ]
    harness.write_csv(tmp_path / "new" / "case.csv", rows, harness.machine())
    with open(tmp_path / "new" / "case.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["method"] for row in read] == ["fastcore", "peer, lazy", "fastcore"]
    assert float(read[1]["value"]) == 1.5 and read[1]["refcheck"] == "tie at 2"
    for name in ("cpu", "cores", "threads", "python", "torch", "numpy", "commit", "date"):
        assert all(row[name] for row in read)
    picture = plot.draw(tmp_path / "new")
    assert picture is not None and picture.stat().st_size > 1000
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["case.csv", "times.png"]


def test_missing_features_say_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCORE_DATA", str(tmp_path))
    with pytest.raises(features.MissingError, match=r"benchmarks/features\.py"):
        features.load(10)
    with pytest.raises(features.MissingError, match="dataset-fashion-mnist"):
        features.image_folder(str(tmp_path))


def test_features_are_made_in_chunks_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTCORE_DATA", str(tmp_path / "cache"))
    write_images(tmp_path, count=7)
    made: list[int] = []

    def embed(_: object, images: np.ndarray) -> np.ndarray:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(int(images[0, 0, 0]))
        return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    monkeypatch.setattr(features, "CHUNK", 3)
    monkeypatch.setattr(features, "load_network", lambda: None)
    monkeypatch.setattr(features, "embed", embed)
    with pytest.raises(KeyboardInterrupt):
        features.make(7, str(tmp_path))
    with pytest.raises(features.MissingError):
        features.load(7)
    made[:] = made[2:]
    features.make(7, str(tmp_path))
    assert made == [6]  # the first two chunks were kept
    table, labels = features.load(7)
    assert table.dtype == np.float32 and table[:, 0].tolist() == list(range(7))
    assert labels.tolist() == [i % 10 for i in range(7)]
    assert not list(tmp_path.rglob("*.part"))


def write_images(folder: Path, count: int) -> None:
    """Two idx files in the format of Fashion-MNIST; every pixel of image i is i."""
    import gzip

    images = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28)
    header = np.array([count, 28, 28], ">i4").tobytes()
    (folder / features.IMAGES).write_bytes(gzip.compress(b"\0\0\x08\x03" + header + images.tobytes()))
    labels = bytes(i % 10 for i in range(count))
    (folder / features.LABELS).write_bytes(gzip.compress(b"\0\0\x08\x01" + header[:4] + labels))


def adapters() -> list[tuple[str, str]]:
    return [
        (case.name, contender.name)
        for case in CASES.values()
        for contender in case.contenders
        if contender.name != "fastcore" and not contender.yardstick
    ]


@pytest.mark.parametrize(("case_name", "name"), adapters())
def test_every_peer_answers_the_question_of_its_case(case_name: str, name: str) -> None:
    case = CASES[case_name]
    contender = next(c for c in case.contenders if c.name == name)
    generator = torch.Generator().manual_seed(1)
    data = Data(torch.rand(120, 16, generator=generator), k=15)
    try:
        run = contender.prepare(data)
    except ImportError as error:
        pytest.skip(str(error))
    for _ in range(2):  # a second run must start from nothing
        picks = as_picks(run())
        check_list(picks, 120, 15)
        assert judge(case.objective(data), picks, steps=15).ours_short < 1e-5
    if case_name == "k_center":
        assert picks[0] == peers.START
