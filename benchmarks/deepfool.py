"""DeepFool of a batch beside a loop over images, on the small ResNet-18 of `benchmarks/networks.py`.

python -m benchmarks.deepfool                # measures and prints; writes no record
"""

from __future__ import annotations

import argparse
import functools
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import harness, networks
from benchmarks.features import MissingError
from benchmarks.harness import Row

CASE = "deepfool"
ROWS, WIDE_ROWS, WIDE = 64, 16, 100
OVERSHOOT, STEPS, LEAST = 0.02, 50, 1e-4
FASTER, NORMS = 1.5, 0.01
OURS, LOOP, PUBLISHED = (
    "fastcore",
    "per-image loop, input gradients only",
    "per-image loop, backward() per class",
)


def one_image(model: nn.Module, image: Tensor, candidates: int, published: bool = False) -> float:
    """||r|| of one image, as the paper writes it down: a forward pass a step, and a gradient for every class.

    Published loops call `backward()`, which computes the gradients of the weights as well and throws them away.
    """
    total = torch.zeros_like(image[None])
    with torch.no_grad():
        order = model(image[None])[0].argsort(descending=True)[:candidates].tolist()
    for _ in range(STEPS):
        x = (image[None] + (1 + OVERSHOOT) * total).requires_grad_()
        logits = model(x)[0]
        if int(logits.argmax()) != order[0]:
            break
        gradients = []
        for k in order:
            if published:
                model.zero_grad()
                x.grad = None
                logits[k].backward(retain_graph=True)
                gradients.append(x.grad.clone())
            else:
                gradients.append(torch.autograd.grad(logits[k], x, retain_graph=True)[0])
        values = (logits[order[1:]] - logits[order[0]]).detach().abs()
        normals = torch.cat(gradients[1:]) - gradients[0]
        norms = normals.flatten(1).norm(dim=1)
        nearest = int((values / norms).argmin())
        total = total + values[nearest].clamp(min=LEAST) / norms[nearest] ** 2 * normals[nearest]
    return float(total.norm())


def loop(model: nn.Module, images: Tensor, candidates: int, published: bool = False) -> np.ndarray:
    """The same for every image in turn; the weights have no gradient afterwards."""
    found = np.array([one_image(model, image, candidates, published) for image in images])
    model.zero_grad()
    return found


def ours(model: nn.Module, images: Tensor, candidates: int | None) -> np.ndarray:
    """The library under test."""
    from fastcore.signals.deepfool import boundary_distances

    options: dict[str, Any] = {"overshoot": OVERSHOOT, "iterations": STEPS, "progress": False}
    return boundary_distances(model, images, candidates=candidates, **options).numpy()


class Shrunk(nn.Module):
    """The network for inputs of a hundredth of their size around 0.5: torchattacks keeps them in [0, 1]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x - 0.5) * 100)


def torchattacks(model: nn.Module, images: Tensor) -> np.ndarray:
    """The peer, which looks at all classes; its norms in our units."""
    from torchattacks import DeepFool

    small = 0.5 + images / 100
    moved = DeepFool(Shrunk(model), steps=STEPS, overshoot=OVERSHOOT)(small, model(images).argmax(1))
    return ((moved - small).flatten(1).norm(dim=1) * 100 / (1 + OVERSHOOT)).numpy()


def time_row(
    method: str, timing: harness.Timing, base: float, rows: int, case: str = CASE, package: str = ""
) -> Row:
    """Seconds for `rows` images."""
    low, middle, high = timing.quartiles()
    size = {"rows": rows, "width": 28 * 28, "version": package and harness.version_of(package)}
    return Row(case, method, "time", "s", middle, low, high, len(timing.seconds), middle / base, **size)


def tick(name: str, seconds: float) -> None:
    """One line on a terminal: some runs take minutes."""
    if harness.console.is_terminal:
        harness.console.print(f"  {name}: {harness.duration(seconds)}", style="dim")


def target(text: str, unit: str, value: float, met: bool) -> Row:
    return Row(CASE, OURS, "target", unit, value, target=text, met="met" if met else "not met")


def measure(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Rows of the record: against the loops at equal candidates, and 10 candidates against all of 100 classes."""
    rows = 4 if quick else ROWS
    images, _ = networks.pictures(train=True, rows=rows)
    model = networks.load_network()
    runs = {
        OURS: functools.partial(ours, model, images, 10),
        LOOP: functools.partial(loop, model, images, 10),
        PUBLISHED: functools.partial(loop, model, images, 10, published=True),
    }
    try:
        import torchattacks as _  # noqa: F401

        runs["torchattacks"] = functools.partial(torchattacks, model, images)
    except ImportError:
        pass
    ours(model, images[:2], 10)  # builds and loads
    timings = harness.interleaved(runs, repeats, tick)
    base = timings[OURS].median
    packages = {OURS: "fastcore-coreset", "torchattacks": "torchattacks"}
    record = [
        time_row(name, timing, base, rows, package=packages.get(name, "")) for name, timing in timings.items()
    ]
    record += [
        Row(CASE, name, "images/s", "", rows / timing.median, rows=rows) for name, timing in timings.items()
    ]
    errors = {name: np.abs(timing.result / timings[OURS].result - 1) for name, timing in timings.items()}
    error = float(errors[LOOP].max())
    record += [
        Row(CASE, name, "norms off by at most", "", float(e.max()), rows=rows) for name, e in errors.items()
    ]

    # With 10 classes 10 candidates are all of them: a fresh head of 100 classes on the same embeddings.
    few = min(rows, WIDE_ROWS)
    wide = networks.load_network(classes=WIDE)
    wide_runs = {
        "fastcore, 10 of 100 classes": functools.partial(ours, wide, images[:few], 10),
        "fastcore, all of 100 classes": functools.partial(ours, wide, images[:few], None),
    }
    wide_timings = harness.interleaved(wide_runs, 1, tick)
    ten, every = wide_timings.values()
    record += [
        time_row(name, timing, ten.median, few, "deepfool_wide") for name, timing in wide_timings.items()
    ]
    excess = float(np.median(ten.result / every.result))
    record.append(
        Row("deepfool_wide", "fastcore, 10 of 100 classes", "median norm, all = 1", "", excess, rows=few)
    )
    if not quick:
        faster = timings[LOOP].median / base
        record += [
            target(
                f"at least {FASTER:g}x the images a second of the per-image loop",
                "x",
                faster,
                faster >= FASTER,
            ),
            target(f"perturbation norms within {NORMS:.0%} of the plain ones", "", error, error <= NORMS),
        ]
    return record


def main() -> int:
    """Command line; exit code 2 with one line when something is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="4 images: does it work?")
    options = parser.parse_args()
    try:
        record = measure(options.repeats, options.quick)
    except MissingError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    harness.print_rows("deepfool: ResNet-18, 28 x 28, 10 candidates", record)
    harness.print_targets(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
