"""What the methods that rank rows by a score share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.greedy.picks import Picks
from fastcore.greedy.ranking import ranked
from fastcore.memory import tiles
from fastcore.registry import Context


def by_row(score: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """(n,) float64 scores of rows (n, C), from tiles of a few MB in float64."""
    parts = tiles(len(rows), 8 * rows.shape[1], device=rows.device)
    return torch.cat([score(rows[part].double()) for part in parts])


def doubt(p: Tensor) -> tuple[Tensor, Tensor]:
    """Of probabilities (n, C): 1 minus the largest, as the sum of the others, and the largest of those."""
    others = p.scatter(1, p.argmax(1, keepdim=True), 0.0)
    return others.sum(1), others.amax(1)


def hardest(
    scores: Tensor, partition: Partition, keep: str, ties: str, context: Context, hard: str = "high"
) -> Picks:
    """Picks by scores of which this end is the hard one."""
    return ranked(
        scores,
        partition,
        hard=hard,
        keep=keep,
        ties=ties,
        preselected=context.preselected,
        generator=context.generator,
    )
