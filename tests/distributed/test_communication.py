"""What a group of GPUs is asked for, as far as that can be seen without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastcore.distributed import communication
from fastcore.distributed.communication import Ranks


def group_of(config: str, bound: Any, monkeypatch: pytest.MonkeyPatch) -> Ranks:
    """The ranks of a group with these backends, bound to a device or not; GPU 5 is the current one."""
    monkeypatch.setattr(communication.dist, "get_rank", lambda group: 0)
    monkeypatch.setattr(communication.dist, "get_world_size", lambda group: 1)
    monkeypatch.setattr(communication.dist, "get_backend_config", lambda group: config)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 5)
    return Ranks(SimpleNamespace(bound_device_id=bound))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "bound", "letters"),
    [
        ("cpu:gloo", None, "cpu"),
        ("cpu:gloo,cuda:nccl", torch.device("cuda", 2), "cpu"),
        ("cuda:nccl", torch.device("cuda", 2), "cuda:2"),
        ("cuda:nccl", None, "cuda:5"),
    ],
)
def test_letters_go_where_the_group_serves_them(
    config: str, bound: Any, letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(group_of(config, bound, monkeypatch)._letters) == letters


def test_nccl_alone_is_given_no_tensor_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and letters on the CPU go to the device of the group, and come back to the CPU."""
    ranks = group_of("cuda:nccl", None, monkeypatch)
    ranks._letters = torch.device("meta")  # as far as this machine has another device
    assert ranks._to_group(torch.ones(3)).device.type == "meta"
    monkeypatch.setattr(ranks, "_served", {"cpu"})
    assert ranks._to_group(torch.ones(2, 3).mT).is_contiguous()


@pytest.mark.parametrize(("local", "current"), [("0", 0), ("1", 1), ("3", 1)])
def test_a_world_of_gpus_takes_one_for_each_rank(
    local: str, current: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", done.append)
    monkeypatch.setattr(communication.dist, "init_process_group", done.append)
    monkeypatch.setattr(communication.atexit, "register", lambda stop: None)
    communication._start()
    assert done == [current, "cpu:gloo,cuda:nccl"]
