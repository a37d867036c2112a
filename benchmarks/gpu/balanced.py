"""Cases with labels: a class is a selection of its own, and the loops of users take one class after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import loops
from benchmarks.gpu.case import PLAIN, Case, Data, Size
from benchmarks.gpu.loops import Loop
from benchmarks.gpu.loops_by_class import Picker, by_class, one_class

FACTORED = "plain torch loop, factored"


@dataclass(frozen=True)
class Balanced(Case):
    """A peer does some of the classes, and its time is scaled to all. The last picker judges in float64."""

    pickers: dict[str, Picker] = field(default_factory=dict)

    unit = "classes"
    few = 1

    def contenders(self, quick: bool) -> list[str]:
        """The names of the loops."""
        return list(self.pickers)

    def units(self, size: Size) -> int:
        """Classes."""
        return size.classes

    def prepared(self, name: str, data: Data, size: Size) -> Loop:
        """A loop over classes."""
        return by_class(self.pickers[name], data, size)

    def agrees(self, data: Data, selection: Any, picks: list[int]) -> str:
        """Whether the picks of these classes are ours."""
        ours, theirs = _classes(data, selection.indices), _classes(data, np.array(picks))
        for c, rows in theirs.items():
            step = loops.first_difference(ours.get(c, []), rows)
            if step is not None:
                return f"parts from ours in class {c} at pick {step}"
        return f"picks of {len(theirs):,} classes are ours"

    def check(self, data: Data, size: Size, selection: Any) -> str:
        """The first and the last class against the reference, and one between against the loop in float64."""
        said = super().check(data, size, selection)
        if not self.pickers:
            return said
        c = size.classes // 2
        right = one_class(list(self.pickers.values())[-1], data, size, c, torch.float64)
        step = loops.first_difference(right, _classes(data, selection.indices).get(c, []))
        return f"{said}, class {c} {'as in float64' if step is None else f'differs from float64 at {step}'}"


def _classes(data: Data, rows: np.ndarray) -> dict[int, list[int]]:
    """The rows of each class, in their order."""
    assert data.labels is not None
    own = data.labels.cpu().numpy()[rows]
    return {int(c): rows[own == c].tolist() for c in np.unique(own)}


def loop_and_factored(loop: Picker, factored: Picker) -> dict[str, Picker]:
    """The loop that writes gradients out, and the faster one."""
    return {PLAIN: loop, FACTORED: factored}
