"""What a case is: an input at some sizes, a selection to time, its bytes and operations, its checks, its peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fastcore
from benchmarks import refcheck
from benchmarks.gpu import loops
from benchmarks.gpu.loops import Loop

PLAIN = "plain torch loop"
PREFIX = 24  # picks that a float64 loop judges, where a pick is cheap
SMALL = 60_000  # rows up to which picks are judged on the processor, at steps spread over all of them
REFERENCE = (1500, 150)  # rows and picks of the comparison with the reference backend
IMAGENET, PER_CLASS = 1_281_167, 1281


@dataclass(frozen=True)
class Size:
    """Rows and picks, the target in the unit of the case, and the seconds after which the step is killed."""

    n: int
    k: int
    target: float | None = None
    limit: float | None = None
    classes: int = 0  # present in the data, where the case is balanced


@dataclass
class Data:
    """Tensors on the device: what `select` takes, and the labels of balanced cases."""

    rows: Any
    labels: Tensor | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What a run must at least do: bytes moved, operations, and the ceiling of the operations."""

    bytes: float
    operations: float
    ceiling: str = "float32"


@dataclass(frozen=True)
class Case:
    """One method on one kind of input.

    `make(size, device)` gives the data, `work(size, info)` the counts (`info` is that of the selection), and
    `peer_work` those of a peer.
    """

    name: str
    method: str
    sizes: tuple[Size, ...]
    quick: tuple[Size, ...]
    make: Callable[[Size, torch.device], Data]
    work: Callable[[Size, dict[str, Any]], Work]
    options: dict[str, Any] = field(default_factory=dict)
    width: int = 512
    classes: int = 0
    loop: Callable[[Tensor], Loop] | None = None
    judge: Callable[[Tensor], Loop] | None = None  # in place of the loop where that takes too much memory
    prefix: Callable[[Size], int] = lambda size: PREFIX  # picks that it judges
    peers: dict[str, Callable[[Tensor], Loop]] = field(default_factory=dict)  # beside the loop
    peer_work: dict[str, Callable[[Size, dict[str, Any]], Work]] = field(default_factory=dict)
    objective: Callable[[Tensor], refcheck.Objective] | None = None
    judged_steps: int = 4
    remark: str = ""  # on the choice of the sizes, for the reader of the table
    grows: bool = False  # whether later picks of a peer take longer than the first
    seconds: float = 10.0  # for all that is done beside the times with a target

    speed_up = 5.0  # what is asked for beside every peer
    unit = "picks"  # what a peer's time is in proportion to
    few = 4  # of these, to warm up with

    def steps(self, quick: bool) -> list[tuple[Size | None, str]]:
        """What is done, in order: everything that is asked of the worker by name."""
        found: list[tuple[Size | None, str]] = [(None, "reference")]
        for size in self.quick if quick else self.sizes:
            found += [(size, "time"), (size, "check")]
            found += [(size, name) for name in self.contenders(quick)]
        return found

    def contenders(self, quick: bool) -> list[str]:
        """The names of the peers."""
        return [PLAIN] * (self.loop is not None) + ([] if quick else list(self.peers))

    @property
    def weight(self) -> float:
        """Seconds that a whole run of the case may take where its targets are met: its share of the time."""
        return self.seconds + sum(1.5 * size.target for size in self.sizes if size.target is not None)

    def select(self, data: Data, size: Size, **options: Any) -> Any:
        """The selection that is timed."""
        chosen = {"labels": data.labels, "progress": False, **self.options, **data.more, **options}
        if data.labels is None:
            del chosen["labels"]
        return fastcore.select(self.method, data.rows, size.k, **chosen)

    def units(self, size: Size) -> int:
        """How many `unit` there are: a peer may do some of them, and its time is scaled."""
        return size.k

    def prepared(self, name: str, data: Data, size: Size) -> Loop:
        """A peer, with what it does once behind it."""
        make = self.loop if name == PLAIN else self.peers[name]
        assert make is not None
        return make(data.rows)

    def agrees(self, data: Data, selection: Any, picks: list[int]) -> str:
        """Whether a peer has made our picks. In float32 it may part from them at two rows that are near a tie."""
        step = loops.first_difference(selection.indices, picks)
        count = min(len(picks), len(selection.indices))
        return f"first {count:,} picks are ours" if step is None else f"parts from ours at pick {step}"

    def check(self, data: Data, size: Size, selection: Any) -> str:
        """Whether the picks are right: a class at a time against the reference, or against float64 loops."""
        refcheck.check_list(selection.indices, size.n, size.k)
        if data.labels is not None:
            return self._check_classes(data, size, selection)
        said = []
        judge = self.judge or self.loop
        if judge is not None:
            few = min(self.prefix(size), size.k)
            step = loops.first_difference(selection.indices, judge(data.rows.double())(few))
            said.append(f"first {few} as in float64" if step is None else f"differs from float64 at {step}")
        if self.objective is not None and size.n <= SMALL:
            verdict = refcheck.judge(self.objective(data.rows.cpu()), selection.indices, self.judged_steps)
            short = "" if verdict.word == "right" else f" ({verdict.ours_short:.0e} short)"
            said.append(f"{verdict.word}{short} at {self.judged_steps} steps")
        return ", ".join(said)

    def _check_classes(self, data: Data, size: Size, selection: Any) -> str:
        """A class is a selection of its own: the first and the last, by the reference on the processor."""
        assert data.labels is not None
        labels = data.labels.cpu().numpy()
        checked = 0
        for c in sorted({0, size.classes - 1}):
            rows = np.flatnonzero(labels == c)
            mine = selection.indices[labels[selection.indices] == c]
            if not len(mine):
                continue
            alone = self.select(subset(data, rows, c), Size(len(rows), len(mine)), backend="reference")
            step = loops.first_difference(rows[alone.indices], mine)
            if step is not None:
                return f"class {c} differs from the reference at {step}"
            checked += 1
        return f"{checked} classes as by the reference"

    def reference(self, quick: bool, device: torch.device) -> str:
        """The picks of a small input against those of the reference backend on the processor."""
        sizes = self.quick if quick else self.sizes
        n, k = (120, 20) if quick else REFERENCE
        size = Size(n, k, classes=min(sizes[0].classes, 10))
        data = self.make(size, device)
        ours = self.select(data, size).indices
        refcheck.check_list(ours, n, k)
        theirs = self.select(moved(data, "cpu"), size, backend="reference").indices
        step = loops.first_difference(ours, theirs)
        return (
            f"as the reference, n = {n}, k = {k}" if step is None else f"differs from the reference at {step}"
        )


def moved(data: Data, device: str) -> Data:
    """The same data elsewhere."""
    labels = None if data.labels is None else data.labels.to(device)
    return Data(
        _to(data.rows, device), labels, {name: _to(value, device) for name, value in data.more.items()}
    )


def _to(value: Any, device: str) -> Any:
    if isinstance(value, tuple):
        return tuple(_to(each, device) for each in value)
    if isinstance(value, fastcore.Signals):
        return fastcore.Signals(
            embeddings=value.require("embeddings").to(device), logits=value.require("logits").to(device)
        )
    return value.to(device) if hasattr(value, "to") else value


def subset(data: Data, rows: np.ndarray, c: int) -> Data:
    """Some rows, on the processor; of validation rows those of class c."""
    more = dict(data.more)
    at: Any = torch.from_numpy(rows)
    if "validation" in more:
        gradients, own = more["validation"]
        more["validation"] = gradients[(own == c).to(gradients.device)]
    if isinstance(data.rows, fastcore.Signals):
        parts = {name: data.rows.require(name) for name in ("embeddings", "logits")}
        taken: Any = fastcore.Signals(**{name: part[at.to(part.device)] for name, part in parts.items()})
    else:
        taken = data.rows[at.to(data.rows.device)]
    return moved(Data(taken, None, more), "cpu")
