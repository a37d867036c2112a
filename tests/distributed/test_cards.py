"""Selection over two processes with a GPU each and a group of NCCL alone, as far as can be had without either."""

from __future__ import annotations

import pickle
from pathlib import Path

from tests.distributed.cases import CASES
from tests.distributed.test_distributed import alone, start

HERE = Path(__file__).parent


def test_all_that_is_sent_is_on_the_gpu_and_picks_are_those_of_one_process(tmp_path: Path) -> None:
    """A part of the cases. Every rank makes the same collectives in the same order."""
    names = list(CASES)[::17]
    assert {CASES[name].method for name in names} > {"k_center", "graph_cut", "facility_location", "log_det"}
    start(2, [str(HERE / "card_worker.py"), str(tmp_path), *names])
    (first, calls), (second, others) = (
        pickle.loads((tmp_path / f"{r}.pickle").read_bytes()) for r in range(2)
    )
    assert calls == others and len(calls) > 100
    for name in names:
        for found in (first[name], second[name]):
            assert not isinstance(found, str), f"{name}: {found}"
            assert found.indices.tolist() == alone(CASES[name]).indices.tolist(), name
            assert found.info["device"] == "cuda:0" and found.info["ranks"] == 2
