"""One of several processes that select together: python worker.py OUT CASE..., as torchrun would start it.

Makes these selections of cases.py and every mistake of mistakes.py with its own shard, and writes what came of it.
"""

from __future__ import annotations

import contextlib
import datetime
import pickle
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))

import cases
import mistakes

import fastcore
from fastcore import memory
from fastcore.distributed.shards import Shards

TOP = Shards.top
SMALL = 24_000
"""Bytes: facility location takes blocks of a few rows then."""


def small_top(shards: Shards, values: Any, block: int, floor: Any = 0.0) -> Any:
    return TOP(shards, values, max(1, block // 64), floor)


def main(out: Path, names: list[str]) -> None:
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=20))
    rank, size = dist.get_rank(), dist.get_world_size()
    group, found = dist.group.WORLD, dict[str, Any]()
    for name in names:
        case = cases.CASES[name]
        data, settings = case.share(rank, size)
        Shards.top = small_top if case.small_blocks else TOP
        room = case.memory or (SMALL if case.small_blocks else 0)
        with memory.sizes(block=room) if room else contextlib.nullcontext():
            found[name] = attempt(case.method, data, case.k, group=group, **settings)
    Shards.top = TOP
    for name, mistake in mistakes.MISTAKES.items():
        found[name] = attempt(group=group, **mistake(rank, size))
    (out / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    dist.destroy_process_group()


def attempt(*args: Any, **settings: Any) -> Any:
    try:
        return fastcore.select(*args, **settings)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
