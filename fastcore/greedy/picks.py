"""What every engine returns, and how it is collected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.memory import retried

if TYPE_CHECKING:
    from fastcore.greedy.batches import Batch


class Counter(Protocol):
    """Something that counts picks, such as a progress bar."""

    def update(self, picks: int) -> None:
        """Adds picks to the count."""


@dataclass
class Picks:
    """Picks of every ground set, in the order in which they were made.

    Attributes:
        rows: (sets, most) int64 row numbers on the CPU, -1 after the last pick of a set.
        gains: (sets, most) float64, what each pick was worth, 0 after the last.
        info: facts of the run, such as passes over the data and evaluations.
        weights: (sets, most) float64, how much each pick counts, where the method says so.
        scores: (n,) float64, the score of every row in the units of the method, where it scores rows.
    """

    rows: Tensor
    gains: Tensor
    info: dict[str, Any] = field(default_factory=dict)
    weights: Tensor | None = None
    scores: Tensor | None = None


class Tally:
    """Tells of picks at most once, also where a batch is repeated because memory ran out."""

    def __init__(self, progress: Counter | None) -> None:
        self._progress = progress
        self._settled = self._made = self._told = 0

    def update(self, picks: int) -> None:
        """Adds picks to the count."""
        self._made += picks
        if self._progress is not None and self._made > self._told:
            self._progress.update(self._made - self._told)
        self._told = max(self._told, self._made)

    def settle(self) -> None:
        """What was counted so far will not be repeated."""
        self._settled = self._made

    def rewind(self) -> None:
        """Goes back to what is settled."""
        self._made = self._settled


class PickList:
    """Picks of the sets of one batch, as they are made.

    Attributes:
        grew: the last `append` added a pick or ended a set.
    """

    grew = True

    def __init__(self, batch: Batch) -> None:
        sets, most = len(batch.budgets), int(batch.budgets.max())
        self.budgets = batch.budgets.clone()
        self.count = torch.zeros_like(batch.budgets)
        self.positions = batch.rows.new_full((sets, most), -1)
        self.gains = torch.zeros(sets, most, dtype=torch.float64, device=batch.rows.device)

    @property
    def left(self) -> Tensor:
        """(G,) picks that each set may still make."""
        return self.budgets - self.count

    def more(self) -> bool:
        """Whether a set may make another pick."""
        return retried(lambda: bool((self.left > 0).any()))

    def append(self, positions: Tensor, gains: Tensor, ends: Tensor | None = None) -> int:
        """Adds positions (G, P), -1 after the last of each set, with their gains. Returns how many.

        Sets where `ends` (G,) is true make no more. Safe to repeat where memory ran out in it.
        """
        valid = positions >= 0
        at = self.count.unsqueeze(1) + torch.arange(positions.shape[1], device=positions.device)
        sets = torch.arange(len(positions), device=positions.device).unsqueeze(1).expand_as(at)
        added = valid.sum(1)
        count, made = self.count + added, int(added.sum())
        budgets = self.budgets if ends is None else torch.where(ends, count, self.budgets)
        grew = made > 0 or ends is not None and bool(ends.any())
        self.positions[sets[valid], at[valid]] = positions[valid]
        self.gains[sets[valid], at[valid]] = gains[valid]
        self.count, self.budgets, self.grew = count, budgets, grew
        return made

    def stuck(self, engine: str, bounds: bool = True) -> RuntimeError:
        """The error to raise where a pass left all as it was, also its `bounds`: so would the next, for ever."""
        what = "made no pick and lowered no bound" if bounds else "made no pick"
        count = int(self.count.sum())
        return internal(engine, f"after {count} picks a pass {what}")

    def end(self, sets: Tensor) -> None:
        """Makes no more picks in the sets where `sets` (G,) is true."""
        self.budgets = torch.where(sets, self.count, self.budgets)


class Collector:
    """Gathers the picks of all batches under the row numbers of the data."""

    def __init__(self, partition: Partition) -> None:
        most = int(partition.budgets.max())
        self.rows = torch.full((partition.sets, most), -1, dtype=torch.int64, device="cpu")
        self.gains = torch.zeros(partition.sets, most, dtype=torch.float64, device="cpu")
        self.info: dict[str, Any] = {}

    def add(self, batch: Batch, made: PickList) -> None:
        """Takes over the picks of a batch."""
        most = made.positions.shape[1]
        self.rows[batch.sets, :most] = batch.numbers(made.positions).cpu()
        self.gains[batch.sets, :most] = made.gains.cpu()

    def count(self, **facts: int) -> None:
        """Adds to the counts of work that go into `info`; work that memory made an engine repeat counts again."""
        for name, value in facts.items():
            self.info[name] = self.info.get(name, 0) + value

    def picks(self) -> Picks:
        """All picks."""
        return Picks(self.rows, self.gains, self.info)


def internal(engine: str, what: str) -> RuntimeError:
    """The error to raise where an engine would go on for ever."""
    return RuntimeError(f"internal error in {engine}: {what}; please report it")
