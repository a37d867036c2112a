"""Selection over two and three processes: the picks of one process, on every rank, and errors on every rank."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastcore
from tests.distributed import mistakes
from tests.distributed.cases import CASES, Case

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SECONDS = 240


@pytest.fixture(scope="session", params=[2, 3], ids=["2 ranks", "3 ranks"])
def ranks(request, tmp_path_factory) -> list[dict[str, Any]]:
    """What every rank returned, by rank: one run serves all tests."""
    # A native build, where there is none yet, is not part of the time that the processes have.
    fastcore.select("k_center", torch.ones(2, 1), 1)
    out = tmp_path_factory.mktemp("ranks")
    start(request.param, [str(HERE / "worker.py"), str(out)])
    return [pickle.loads((out / f"{rank}.pickle").read_bytes()) for rank in range(request.param)]


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


@pytest.mark.parametrize("name", CASES)
def test_picks_are_those_of_one_process(ranks, name):
    expected, given = alone(CASES[name]), ranks[0][name]
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


@pytest.mark.parametrize("name", CASES)
def test_every_rank_returns_the_same(ranks, name):
    first, *others = (rank[name] for rank in ranks)
    for other in others:
        for field in ("indices", "gains", "weights", "scores"):
            ours, theirs = getattr(first, field), getattr(other, field)
            assert (ours is None) == (theirs is None)
            assert ours is None or ours.tobytes() == theirs.tobytes(), field
        assert first.info == other.info
        assert first.info["ranks"] == len(ranks)
