"""One of several processes that select on cards that are none, over a group that takes nothing but their tensors.

python card_worker.py OUT CASE..., as torchrun would start it: writes selections, and which collectives there were.
"""

from __future__ import annotations

import datetime
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))

import cases

import fastcore
from fastcore.distributed.communication import Ranks
from tests.card import card, is_there

NCCL = (torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32, torch.float64)
"""Types that NCCL moves, of those that rows, numbers of rows, gains and letters have."""

made = list[str]()
CALL = Ranks._call


def as_nccl_does(ranks: Ranks, collective: Any, *args: Any, **settings: Any) -> None:
    """A collective whose tensors are on the card, contiguous, and of a type that NCCL takes."""
    for value in args:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, torch.Tensor):
                fine = is_there(each) and each.dtype in NCCL and each.is_contiguous()
                assert fine, f"{collective.__name__} of {each.dtype} on {each.device}"
    made.append(f"{collective.__name__} of {args[-1].dtype if collective is dist.all_gather else ''}")
    CALL(ranks, collective, *args, **settings)


def main(out: Path, names: list[str]) -> None:
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=20))
    dist.get_backend_config = lambda group: "cuda:nccl"
    Ranks._call = as_nccl_does  # type: ignore[method-assign]
    rank, size = dist.get_rank(), dist.get_world_size()
    found = dict[str, Any]()
    for name in names:
        case = cases.CASES[name]
        data, settings = case.share(rank, size)
        with card(kernels="cpu"):
            try:
                settings |= {"group": dist.group.WORLD, "device": "cuda"}
                found[name] = fastcore.select(case.method, data, case.k, **settings)
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    (out / f"{rank}.pickle").write_bytes(pickle.dumps((found, made)))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
