"""DeepFool of a batch of images beside the per-image loop with the same candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.deepfool import OVERSHOOT, STEPS, loop
from benchmarks.gpu import data
from benchmarks.gpu.case import PLAIN, Case, Data, Size, Work
from benchmarks.gpu.loops import Loop
from fastcore.signals.deepfool import deepfool

CANDIDATES = 10
FORWARD = 3.6e9  # multiplications and additions of a ResNet-18 for one image of 224 x 224
CHECKED, APART = 4, 0.01
SCALE = 16  # of the small network of a quick run: channels divided by this


@dataclass
class Found:
    """What a run found, in the form of a selection: all rows, nearest to the boundary first."""

    indices: np.ndarray
    distances: np.ndarray
    info: dict[str, Any]


def _side(size: Size) -> int:
    return 224 if size.n >= 32 else 32


def _make(size: Size, device: torch.device) -> Data:
    small = _side(size) < 224
    model = data.resnet18(12 if small else 1000, device, scale=SCALE if small else 1)
    return Data(data.images(size.n, _side(size), device), more={"model": model})


def _work(size: Size, info: dict[str, Any]) -> Work:
    """A forward pass and 9 backward passes by the input, each as dear as a forward pass, a step and image."""
    passes = CANDIDATES * info.get("steps", size.n) + size.n
    pixels = 3 * _side(size) ** 2
    share = 1.0 if _side(size) == 224 else (_side(size) / 224) ** 2 / SCALE**2
    return Work(8.0 * pixels * CANDIDATES * info.get("steps", size.n), FORWARD * passes * share)


def _loop_work(size: Size, info: dict[str, Any]) -> Work:
    """The same steps, each a forward pass and a backward pass for every candidate."""
    work = _work(size, info)
    return Work(work.bytes, work.operations * (CANDIDATES + 1) / CANDIDATES)


class DeepFool(Case):
    """The rows are images; a peer is timed per image, and the target is how many times faster the batch is."""

    speed_up = 30.0
    unit = "images"

    def select(self, data: Data, size: Size, **options: Any) -> Found:
        """The perturbations of all images."""
        settings: dict[str, Any] = {"overshoot": OVERSHOOT, "iterations": STEPS, "batch_size": 256}
        found = deepfool(data.more["model"], data.rows, candidates=CANDIDATES, **settings)
        distances = found.distances.cpu().numpy()
        return Found(np.argsort(distances), distances, {"steps": int(found.steps.sum())})

    def check(self, data: Data, size: Size, selection: Found) -> str:
        """The norms of the first images against those of the plain loop."""
        few = min(CHECKED, size.n)
        theirs = loop(data.more["model"], data.rows[:few], CANDIDATES)
        apart = float(np.abs(selection.distances[:few] / theirs - 1).max())
        return f"norms of {few} within {apart:.1e} of the loop" + (": differs" if apart > APART else "")

    def reference(self, quick: bool, device: torch.device) -> str:
        """A few small images on the device and on the processor."""
        size = Size(8, 8)
        made = _make(size, device)
        model = data.resnet18(12, torch.device("cpu"), scale=SCALE)
        ours = self.select(made, size).distances
        theirs = self.select(Data(made.rows.cpu(), more={"model": model}), size).distances
        apart = float(np.abs(ours / theirs - 1).max())
        return f"norms within {apart:.1e} of the processor's" + (": differs" if apart > APART else "")

    def units(self, size: Size) -> int:
        """Images."""
        return size.n

    def prepared(self, name: str, data: Data, size: Size) -> Any:
        """The per-image loop: the norms of the first images."""
        return lambda count: loop(data.more["model"], data.rows[:count], CANDIDATES)

    def agrees(self, data: Data, selection: Found, picks: Any) -> str:
        """How far apart the norms of a peer are."""
        apart = float(np.abs(selection.distances[: len(picks)] / picks - 1).max())
        return f"norms of {len(picks)} within {apart:.1e} of ours"


def _no_loop(rows: Tensor) -> Loop:
    raise NotImplementedError


DEEPFOOL = DeepFool(
    "deepfool",
    "deepfool",
    (Size(64, 64), Size(256, 256), Size(1024, 1024)),
    (Size(6, 6),),
    _make,
    _work,
    classes=1000,
    width=3 * 224 * 224,
    loop=_no_loop,
    peer_work={PLAIN: _loop_work},
    seconds=30.0,
)
