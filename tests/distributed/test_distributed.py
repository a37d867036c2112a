"""Selection over two and three processes: the picks of one process, on every rank, and errors on every rank."""

from __future__ import annotations

import functools
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastcore
from tests.distributed import mistakes
from tests.distributed.cases import CASES, Case
from tests.distributed.data import data_of

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SECONDS = 1800  # a machine with other work may stop the processes for minutes

RUNS = [(2, name) for name in CASES] + [(3, name) for name in list(CASES)[::7]]
ERRORS = [(size, name) for size in (2, 3) for name in mistakes.MISTAKES]


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Callable[[int], list[dict[str, Any]]]:
    """What every rank of so many returned, by rank: one run serves all tests, also one that failed."""
    # A native build, where there is none yet, is not part of the time that the processes have.
    fastcore.select("k_center", torch.ones(2, 1), 1)

    @functools.cache
    def run(size: int) -> list[dict[str, Any]] | Exception:
        out = tmp_path_factory.mktemp("ranks")
        try:
            start(size, [str(HERE / "worker.py"), str(out), *(name for ranks, name in RUNS if ranks == size)])
        except (AssertionError, subprocess.TimeoutExpired) as error:
            return error
        return [pickle.loads((out / f"{rank}.pickle").read_bytes()) for rank in range(size)]

    def found(size: int) -> list[dict[str, Any]]:
        returned = run(size)
        if isinstance(returned, Exception):
            raise AssertionError(f"the run of {size} processes failed: {returned}")
        return returned

    return found


def start(size: int, command: list[str], fine: bool = True) -> list[str]:
    """Runs a program in `size` processes, and returns what they printed. None is left running."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size)}
    known |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=known | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        printed = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if fine:
        assert [process.returncode for process in processes] == [0] * size, "\n".join(printed)
    return printed


def alone(case: Case) -> fastcore.Selection:
    data, settings = case.arguments()
    return fastcore.select(case.method, data, case.k, **settings)


@pytest.mark.parametrize(("size", "name"), RUNS)
def test_picks_are_those_of_one_process(results, size, name):
    expected, given = alone(CASES[name]), results(size)[0][name]
    assert isinstance(given, fastcore.Selection), given
    assert given.indices.tolist() == expected.indices.tolist()
    assert given.indices.dtype == np.int64
    for field in ("gains", "weights", "scores"):
        ours, theirs = getattr(given, field), getattr(expected, field)
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=field)
    facts = "method options metric gamma signal n k budget balanced preselected seed stopped_early".split()
    assert {fact: given.info[fact] for fact in facts} == {fact: expected.info[fact] for fact in facts}
    for fact in ("scale", "residual", "preselected_weights", "active"):
        if fact in expected.info:
            np.testing.assert_allclose(given.info[fact], expected.info[fact], rtol=1e-6, atol=1e-9)
    if expected.weights is not None and CASES[name].settings.get("weights") == "cluster":
        assert given.assignments().tolist() == expected.assignments().tolist()


@pytest.mark.parametrize(("size", "name"), RUNS)
def test_every_rank_returns_the_same(results, size, name):
    first, *others = (rank[name] for rank in results(size))
    for other in others:
        for field in ("indices", "gains", "weights", "scores"):
            ours, theirs = getattr(first, field), getattr(other, field)
            assert (ours is None) == (theirs is None)
            assert ours is None or ours.tobytes() == theirs.tobytes(), field
        assert first.info == other.info
        assert first.info["ranks"] == size


SAYS = {
    "other method": (
        "ValueError",
        "method must be the same on all ranks, got k_center on rank 0 and herding on rank",
    ),
    "other k": ("ValueError", "k must be the same on all ranks, got 3 on rank 0 and 4 on rank"),
    "fraction": ("ValueError", "k must be the same on all ranks, got 3 on rank 0 and None on rank"),
    "other seed": ("ValueError", "seed must be the same on all ranks, got 0 on rank 0 and 1 on rank"),
    "other start": ("ValueError", "start must be the same on all ranks, got random on rank 0 and 3 on rank"),
    "other metric": (
        "ValueError",
        "metric must be the same on all ranks, got euclidean on rank 0 and cosine on",
    ),
    "other width": ("ValueError", "data must be the same on all ranks, got float32 of width 4 on rank 0 and"),
    "other dtype": ("ValueError", "got float32 of width 4 on rank 0 and float64 of width 4 on rank"),
    "other device": (
        "ValueError",
        "device must be the same on all ranks, got cpu on rank 0 and meta on rank",
    ),
    "labels on one": (
        "ValueError",
        "labels must be the same on all ranks, got none on rank 0 and given on rank",
    ),
    "kinds of labels": (
        "ValueError",
        "the kind of labels must be the same on all ranks, got str on rank 0 and int",
    ),
    "other preselected": (
        "ValueError",
        "preselected must be the same on all ranks, got None on rank 0 and an array",
    ),
    "other validation": (
        "ValueError",
        "validation must be the same on all ranks, got an array of shape (30, 4)",
    ),
    "narrow validation": (
        "ValueError",
        "validation gradients must be of 4 classes and width 4 like data, got 3 and 4",
    ),
    "narrow validation without labels": (
        "ValueError",
        "validation gradients must be of 4 classes and width 4 like data, got 3 and 4",
    ),
    "validation of no softmax": (
        "ValueError",
        "validation must have rows delta = softmax - onehot for glister",
    ),
    "large split": ("ValueError", "rows, too many for 3 picks: lower split or k"),
    "large split of a class": (
        "ValueError",
        "rows of class 0 (counted from 0 in the order of the labels), too many",
    ),
    "split and validation": ("ValueError", "glister needs exactly one of validation= and split=, got both"),
    "nan": ("ValueError", "data must be finite in float32, got nan at row 7, column 0"),
    "bad option": ("TypeError", "k_center does not take beta=0.5"),
    "short labels": ("ValueError", "labels must have shape (30,), one label a row, got (29,)"),
    "k too large": ("ValueError", "k must be between 1 and"),
    "no rows": ("ValueError", "data must not be empty, got no row on any rank"),
    "unknown method": ("ValueError", "unknown method 'kcenter': did you mean 'k_center'?"),
    "bad start": ("ValueError", "start must be a row below"),
    "no memory for gradmatch": (
        "MemoryError",
        "gradmatch keeps two tables of 3 x 3 float64 numbers, 144 bytes",
    ),
    "gradients for herding": (
        "TypeError",
        "herding follows the mean of features, got LastLayerGradients: pass embeddings",
    ),
    "method of one process": (
        "ValueError",
        "apart with metric='cosine' over one ground set cannot be spread over ranks: pass labels=",
    ),
    "sampled": (
        "ValueError",
        "optimizer='stochastic' draws rows class after class: over ranks it takes one ground set",
    ),
    "not all columns": (
        "ValueError",
        "metric='precomputed' needs rows of a square distance matrix on every rank, got",
    ),
    "not all columns of a sparse matrix": (
        "ValueError",
        "metric='precomputed' needs rows of a square similarity matrix on every rank, got",
    ),
    "sparse on one": ("ValueError", "on rank 0 and sparse float32 of width"),
    "sparse nan": ("ValueError", "data must be finite, got nan at row 0, column 0"),
    "sparse distances": ("TypeError", "k_center needs a dense matrix, got a sparse one"),
    "mean of a matrix": ("ValueError", "start='mean' needs features, got metric='precomputed'"),
    "negative distance": ("ValueError", "data must hold distances of at least 0, got -1.0"),
    "beside a matrix": (
        "ValueError",
        "preselected must be row numbers when metric='precomputed', got a 2-D array",
    ),
}


@pytest.mark.parametrize(("size", "name"), ERRORS)
def test_a_mistake_is_an_error_on_every_rank(results, size, name):
    kind, text = SAYS[name]
    alone = name in ("nan", "sparse nan", "bad option", "short labels", "negative distance")
    for rank, found in enumerate(results(size)):
        assert isinstance(found[name], str), f"rank {rank} made a selection"
        assert found[name].startswith(f"{kind}: ") and text in found[name], found[name]
        assert "\n" not in found[name]
        # Who did not make the mistake is told who did.
        told = alone and rank < size - 1
        assert found[name].startswith(f"{kind}: rank {size - 1}: ") == told


def test_every_mistake_has_its_message():
    assert list(SAYS) == list(mistakes.MISTAKES)


FAILS = """
import os, sys
sys.path.insert(0, sys.argv[4])
import fastcore
from fastcore.distributed.shards import Shards
from data import data_of

rank, how, method, kind = int(os.environ["RANK"]), *sys.argv[1:4]
calls = [0]

def failing(fetch):
    def fetches(*given):
        calls[0] += 1
        if rank == 1 and calls[0] == 2:
            if how == "dies":
                os._exit(3)
            raise MemoryError("no room for the block")
        return fetch(*given)
    return fetches

Shards.take, Shards.rows = failing(Shards.take), failing(Shards.rows)
for attempt in range(2):
    try:
        chosen = fastcore.select(method, data_of(kind)[:100], 190, group="world")
        print("chosen", chosen.indices[:3].tolist())
    except Exception as error:
        print(type(error).__name__, error)
    if how == "dies":
        break
"""


@pytest.mark.parametrize(
    ("method", "kind"),
    [("k_center", "random"), *((m, "gradients") for m in ("k_center", "graph_cut", "facility_location"))],
)
def test_an_error_inside_an_engine_ends_all_ranks_and_spares_the_group(tmp_path, method, kind):
    (tmp_path / "fails.py").write_text(FAILS)
    first, second = start(2, [str(tmp_path / "fails.py"), "raises", method, kind, str(HERE)])
    rows = data_of(kind)
    twice = rows[[*range(100), *range(100)]]
    expected = fastcore.select(method, twice, 190).indices[:3].tolist()
    assert first.splitlines() == ["MemoryError rank 1: no room for the block", f"chosen {expected}"]
    assert second.splitlines() == ["MemoryError no room for the block", f"chosen {expected}"]


def test_a_rank_that_dies_is_an_error_on_the_others(tmp_path):
    (tmp_path / "fails.py").write_text(FAILS)
    command = [str(tmp_path / "fails.py"), "dies", "k_center", "random", str(HERE)]
    first, second = start(2, command, fine=False)
    assert first.startswith("RuntimeError rank 0 of 2 lost the others in ")
    assert len(first.splitlines()) == 1 and second == ""


WORLD = """
import os
import numpy as np
import torch.distributed as dist
import fastcore

def say(*words):  # in one piece: the ranks share the pipe
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

rank = int(os.environ["RANK"])
rows = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
mine = rows[:30] if rank == 0 else rows[30:]
chosen = fastcore.select("k_center", mine, 10, group="world", fraction=None)
alone = fastcore.select("k_center", rows, 10)
say(chosen.indices.tolist() == alone.indices.tolist(), dist.get_backend(), chosen.info["ranks"])
half = dist.new_group([1])
if rank == 1:
    say(fastcore.select("k_center", rows, 10, group=half).indices.tolist() == alone.indices.tolist())
else:
    try:
        fastcore.select("k_center", rows, 10, group=half)
    except TypeError as error:
        say(error)
"""


def test_torchrun_needs_no_more_than_group_world(tmp_path):
    (tmp_path / "world.py").write_text(WORLD)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "world.py",
    ]
    known = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    no = "group must be None, 'world' or a torch.distributed process group, got a group that this rank is not in"
    assert sorted(done.stdout.splitlines()) == sorted(["True gloo 2"] * 2 + ["True", no])


def test_a_world_of_one_is_told_how_to_start(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="group='world' needs torch.distributed: start with torchrun"):
        fastcore.select("k_center", np.eye(3), 2, group="world")
    with pytest.raises(TypeError, match="group must be None, 'world' or .* got 'all'"):
        fastcore.select("k_center", np.eye(3), 2, group="all")


def test_command_line_under_torchrun_reads_shares_and_writes_once(tmp_path):
    rows = np.random.default_rng(0).standard_normal((31, 4)).astype(np.float32)
    codes = np.arange(31) % 3
    np.save(tmp_path / "x.npy", rows)
    np.save(tmp_path / "y.npy", codes)
    command = ["-m", "fastcore", "select", "k_center", str(tmp_path / "x.npy"), "-k", "7", "--group", "world"]
    command += ["--labels", str(tmp_path / "y.npy"), "--out", str(tmp_path / "chosen.npz")]
    first, second = start(2, command)
    assert first.startswith("7 of 31 rows") and second == ""
    chosen = fastcore.load(tmp_path / "chosen.npz")
    expected = fastcore.select("k_center", rows, 7, labels=codes)
    assert chosen.indices.tolist() == expected.indices.tolist()
    assert chosen.info["ranks"] == 2
