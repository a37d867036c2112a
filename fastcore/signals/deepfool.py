"""DeepFool: how far every row is from the decision boundary of a network, a batch of rows at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastcore import checks
from fastcore.numerics import full_precision
from fastcore.ops.deepfool_step import deepfool_step
from fastcore.progress import Progress
from fastcore.signals import items
from fastcore.signals.networks import evaluating, logits_of, placed

LEAST = 1e-4
"""A step is as long as if the logits were at least this far apart. The rounding of a float32 logit is smaller, so
that a row next to the boundary, where |f| is rounding, still moves; where |f| is larger it changes nothing."""

FAR = 1e18
"""A boundary farther than this is out of sight: the square of the distance is no float32."""


class Perturbations(NamedTuple):
    """What ``deepfool`` found for n inputs.

    Attributes:
        perturbations: (n, ...) float32, shaped like the inputs, overshoot included: what carries a row across.
        distances: (n,) float64, the estimated distance to the boundary: ||r|| without the overshoot.
        crossed: (n,) bool, whether the network then predicts another class.
        steps: (n,) int64, the number of steps.
    """

    perturbations: Tensor
    distances: Tensor
    crossed: Tensor
    steps: Tensor


def boundary_distances(
    model: nn.Module,
    dataset: Any,
    *,
    candidates: int | None = 10,
    overshoot: float = 0.02,
    iterations: int = 50,
    batch_size: int = 128,
    workers: int = 0,
    device: torch.device | str | None = None,
    keys: Sequence[Any] | None = None,
    progress: bool | None = None,
) -> Tensor:
    """Length of the smallest perturbation that changes the prediction of each row, as DeepFool estimates it.

    From the input x, steps onto the nearest of the linearised boundaries between the predicted class and the
    candidates, r_i = |f| / ||w||^2 * w with f the difference of two logits and w its gradient by the input, until
    the prediction at x + (1 + overshoot) * (r_1 + r_2 + ...) differs from that at x. The distance is the length
    of the sum of the steps, in the units of the inputs as the model gets them, without the overshoot, as in the
    paper. It counts from the class that the model *predicts*: labels play no part, and a row that is classified
    wrongly has a distance like any other. |f| counts as 1e-4 at least, more than the rounding of a float32 logit:
    a row on the boundary still moves.

    The model runs in eval mode and is left as it was: modes, parameters, their gradients, statistics. A row that
    crossed leaves the batch, and the next row of the data set takes its place. An iteration costs one forward
    pass and ``candidates`` - 1 backward passes by the input over the whole batch; memory beyond the network's own
    is a few times the batch of inputs, however many candidates there are.

    Args:
        model: gives logits (b, C).
        dataset: rows whose input is one floating-point tensor; see ``fastcore.signals.items``.
        candidates: how many of the highest logits at x are considered, the predicted class included, as
            ``num_classes`` of the authors' code: 10 means 9 boundaries. None for all C.
        overshoot: fraction by which the sum of the steps is lengthened so that it lands across the boundary.
        iterations: steps at most. A row that has not crossed by then gets the length so far.
        batch_size: rows in work at once.
        workers: processes that load items.
        device: where to run; None for where the model is. Elsewhere a copy of the model runs.
        keys: names of input and label in items that are dicts.
        progress: True, False, or None for a bar when it takes long.

    Returns:
        (n,) float64 on the CPU; inf where the gradients of all candidates vanish, as for a constant model.

    Raises:
        ValueError, TypeError: for outputs or gradients that are not finite (naming the row), outputs that are not
            (b, C) with two classes or more, and inputs that are not one floating-point tensor.

    Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep neural networks",
    2016; as a selection score: Ducoffe and Precioso, "Adversarial active learning for deep networks: a margin
    based approach", 2018.
    """
    model, where, dtype = placed(model, device)
    search = _Search(model, candidates, overshoot, iterations)
    batch_size = checks.whole("batch_size", batch_size, 1)
    distances = torch.empty(items.count(dataset), dtype=torch.float64, device="cpu")
    how: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "keys": keys}
    read = items.batches(dataset, **how, device=where, dtype=dtype)
    batches = ((batch.start, batch.inputs) for batch in read)
    with evaluating(model), Progress(len(distances), "deepfool", progress) as bar:
        for left in search.run(batches, batch_size):
            distances[left.row.cpu()] = left.distances().cpu()
            bar.update(len(left.row))
    return distances


def deepfool(
    model: nn.Module,
    inputs: Tensor,
    *,
    candidates: int | None = 10,
    overshoot: float = 0.02,
    iterations: int = 50,
    batch_size: int = 128,
) -> Perturbations:
    """Perturbations that change the prediction for each of the inputs, and how long they are.

    inputs (n, ...) floating point, on the device of the model. What it does, the options and the errors are those
    of ``boundary_distances``. Memory: that of n perturbations more.
    """
    search = _Search(model, candidates, overshoot, iterations)
    batch_size = checks.whole("batch_size", batch_size, 1)
    n, device = len(_checked_inputs(inputs, 0)), inputs.device
    found = Perturbations(
        torch.empty(inputs.shape, dtype=torch.float32, device=device),
        torch.empty(n, dtype=torch.float64, device=device),
        torch.empty(n, dtype=torch.bool, device=device),
        torch.empty(n, dtype=torch.int64, device=device),
    )
    with evaluating(model):
        for left in search.run([(0, inputs)], batch_size):
            found.perturbations[left.row] = ((1 + overshoot) * left.total).view(left.start.shape)
            found.distances[left.row] = left.distances()
            found.crossed[left.row] = left.crossed
            found.steps[left.row] = left.steps
    return found


@dataclass
class _Rows:
    """The rows in work; every field has one entry for each."""

    row: Tensor  # (b,) int64, number in the data set
    start: Tensor  # (b, ...), the input
    total: Tensor  # (b, pixels) float32, the sum of the steps
    classes: Tensor  # (b, candidates) int64, by falling logit at the start: the predicted class comes first
    steps: Tensor  # (b,) int64
    crossed: Tensor  # (b,) bool
    lost: Tensor  # (b,) bool: no boundary in sight

    def __getitem__(self, which: Tensor) -> _Rows:
        return _Rows(*(getattr(self, field.name)[which] for field in fields(self)))

    def joined(self, other: _Rows) -> _Rows:
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return _Rows(*(torch.cat(pair) for pair in pairs))

    def distances(self) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(self.total, dim=1, dtype=torch.float64)
        return torch.where(self.lost, torch.inf, lengths)


class _Search:
    """The loop over steps. No autograd setting is left on while the caller or the data set runs."""

    def __init__(self, model: nn.Module, candidates: int | None, overshoot: float, iterations: int) -> None:
        self.model = model
        self.candidates = None if candidates is None else checks.whole("candidates", candidates, 2)
        self.overshoot = checks.number("overshoot", overshoot, "[0, inf)")
        self.iterations = checks.whole("iterations", iterations, 1)

    def run(self, batches: Iterable[tuple[int, Any]], batch_size: int) -> Iterator[_Rows]:
        """The rows as they leave. Pieces of a quarter batch fill up the batch, so that it stays nearly full."""
        piece = max(1, batch_size // 4)
        waiting = (
            (first + at, part)
            for first, inputs in batches
            for at, part in zip(
                range(0, len(_checked_inputs(inputs, first)), piece), inputs.split(piece), strict=True
            )
        )
        rows: _Rows | None = None
        while True:
            while rows is None or len(rows.row) + piece <= batch_size:
                first, part = next(waiting, (0, None))
                if part is None:
                    break
                fresh = self.begin(first, part)
                rows = fresh if rows is None else rows.joined(fresh)
            if rows is None:
                return
            left, rows = self.advance(rows)
            yield left
            rows = rows if len(rows.row) else None

    def begin(self, first: int, inputs: Tensor) -> _Rows:
        """Rows before their first step: one forward pass says what is predicted, and what else is likely."""
        count, device = len(inputs), inputs.device
        row = torch.arange(first, first + count, device=device)
        with torch.inference_mode(False), full_precision():
            start = inputs.detach().clone()
            logits = self._logits(start, row)
            # Equal logits: the lower class first.
            classes = logits.sort(dim=1, descending=True, stable=True).indices[:, : self.candidates]
            total = torch.zeros(count, start[0].numel(), dtype=torch.float32, device=device)
            steps = torch.zeros(count, dtype=torch.int64, device=device)
            no = torch.zeros(count, dtype=torch.bool, device=device)
            return _Rows(row, start, total, classes.contiguous(), steps, no, no)

    def advance(self, rows: _Rows) -> tuple[_Rows, _Rows]:
        """Who has crossed or is out of steps leaves; the others make one step. Returns those and these."""
        with torch.inference_mode(False), full_precision(), torch.enable_grad():
            x, logits = self._at(rows)
            predicted = logits.detach().gather(1, rows.classes[:, :1])
            rows.crossed = (logits.detach() > predicted).any(1)
            leaving = rows.crossed | (rows.steps >= self.iterations)
            left = rows[leaving]
            staying = len(leaving) - len(left.row)
            # Rows that leave are in the graph: a forward pass without them, or all backward passes with them?
            if staying and len(left.row) * (rows.classes.shape[1] - 1) > staying:
                rows, leaving = rows[~leaving], leaving.new_zeros(staying)
                x, logits = self._at(rows)
            if staying:
                nearest, step = self._nearest(rows, x, logits)
                _check_finite(nearest.masked_fill(leaving, 0), rows.row, "the gradients of model")
                rows.lost = nearest >= FAR
                rows.total = rows.total + step
                rows.steps = rows.steps + 1
            rows = rows[~leaving]
            return left.joined(rows[rows.lost]), rows[~rows.lost]

    def _at(self, rows: _Rows) -> tuple[Tensor, Tensor]:
        moved = rows.start + (1 + self.overshoot) * rows.total.view(rows.start.shape)
        x = moved.to(rows.start.dtype).detach().requires_grad_()
        return x, self._logits(x, rows.row)

    def _nearest(self, rows: _Rows, x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """How far the nearest boundary of every row is, and the step there: a backward pass a candidate."""
        values = logits.detach().double().gather(1, rows.classes)
        values = (values[:, 1:] - values[:, :1]).T.contiguous()
        nearest = torch.full_like(values[0], FAR)
        step = torch.zeros_like(rows.total)
        hyperplanes = len(values) if logits.requires_grad else 0
        for k in range(hyperplanes):
            # The rows are independent, so that the gradient of a sum over rows holds the gradient of each.
            between = torch.zeros_like(logits).scatter_(1, rows.classes[:, k + 1 : k + 2], 1)
            between.scatter_(1, rows.classes[:, :1], -1)
            normals = torch.autograd.grad(
                logits,
                x,
                between,
                retain_graph=k + 1 < hyperplanes,
                allow_unused=True,
                materialize_grads=True,
            )[0]
            normals = normals.reshape(step.shape).float().contiguous()
            deepfool_step(normals, values[k], nearest, step, LEAST)
        return nearest, step

    def _logits(self, x: Tensor, row: Tensor) -> Tensor:
        logits = logits_of(self.model, x)
        if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
            raise ValueError(
                f"model must return logits (b, C) of at least two classes, got shape {tuple(logits.shape)} "
                f"for {len(x)} rows"
            )
        _check_finite(logits.detach(), row, "the outputs of model")
        return logits


def _check_finite(values: Tensor, row: Tensor, what: str) -> None:
    bad = ~values.isfinite()
    bad = bad.any(1) if bad.ndim > 1 else bad
    if bad.any():
        raise ValueError(f"{what} must be finite, got NaN or infinity at row {int(row[bad].min())}")


def _checked_inputs(inputs: Any, row: int) -> Tensor:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(
            f"inputs must be one floating-point tensor, which can be perturbed, got {kind} at row {row}"
        )
    return inputs
