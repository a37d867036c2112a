"""The rows of a file that each of several processes reads."""

from __future__ import annotations

import os
from typing import Any

from fastcore import checks


def place_in(group: str | None) -> tuple[int, int]:
    """Rank of this process and number of processes, as torchrun tells them; (0, 1) without a group."""
    checks.choice("--group", group, (None, "world"))
    if group is None:
        return 0, 1
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def share_of(data: Any, rank: int, ranks: int) -> Any:
    """The rows of one rank, as many as the others have, or one more or less. Memory maps stay unread."""
    if ranks == 1:
        return data
    from fastcore.signals import Dynamics

    if isinstance(data, Dynamics):
        raise ValueError("--group world: a record of training has no shares, select in one process")
    return data[len(data) * rank // ranks : len(data) * (rank + 1) // ranks]
