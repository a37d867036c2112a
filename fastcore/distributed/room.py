"""Memory of a machine that several ranks share."""

from __future__ import annotations

import socket

import torch

from fastcore.distributed.communication import Ranks
from fastcore.memory import spare_bytes


def spare_bytes_of(ranks: Ranks, device: torch.device) -> int:
    """Bytes of a third of what is free that are for this rank: others may be on the same device."""
    cuda = device.type == "cuda"
    place = f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid if cuda else device.type}"
    every = ranks.exchange([place, spare_bytes(device)])
    beside = [spare for other, spare in every if other == place]
    return int(min(beside)) // len(beside)
