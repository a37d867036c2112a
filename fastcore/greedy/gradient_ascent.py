"""Picks whose gradients lower a validation loss most, the last layer moving with the picks."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore import checks
from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.batches import Batch, batches, mark, pick, row_mask
from fastcore.greedy.couplings import Couplings, ValidationRows, taken_rows
from fastcore.greedy.picks import Collector, Counter, PickList, Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.memory import tiles
from fastcore.numerics import UNIT, full_precision
from fastcore.ops.choice import TIE
from fastcore.ops.squared_norms import squared_norms

SLACK = 2.0**-6  # delta in half precision may be off by
ROUNDING = 1e-13  # of a gain, as a share of max |g| and the mean length of a validation gradient


@full_precision()
def gradient_ascent(
    gradients: LastLayerGradients | ShardedView,
    partition: Partition,
    validation: tuple[LastLayerGradients, Tensor],
    *,
    eta: float = 0.1,
    refresh: int = 1,
    closed: Tensor | None = None,
    preselected: Tensor | None = None,
    progress: Counter | None = None,
) -> Picks:
    """Picks the row whose gradient has the largest product with that of the mean validation loss, repeatedly.

    The gain of a row is <g, v>: how fast a step along -g lowers the mean loss of the validation rows of its ground
    set, v being the gradient of that mean. After every `refresh` picks the last layer moves by -eta times the sum
    of their gradients, which shifts the logits of a validation row by -eta delta_p (1 + <h_p, h>), and v is taken
    again. Preselected rows have moved it before the first pick. `validation` are gradients and the ground set (m,)
    of each; float32 holds the probability of a label to 6e-8. Rows where `closed` (n,) is true are not picked.

    Cost of a refresh with m validation rows, in multiplications: n m C for small ground sets, through a table of
    n m float64 numbers, or (n + m) C D; memory: the table, and tiles of some MB. Nothing waits for a GPU between
    the picks of a batch.
    """
    if isinstance(gradients, ShardedView):
        rest = {"closed": closed, "preselected": preselected, "progress": progress}
        return gradients.gradient_ascent(partition, validation, eta=eta, refresh=refresh, **rest)
    out, device = Collector(partition), gradients.device
    source, held = checked(validation, partition.sets, device)
    numbers = gradients.classes + gradients.width + 2 * min(int(held.counts.max()), gradients.width)
    for batch in batches(partition, device, 4 * numbers):
        loss = ValidationLoss(source, held.of(batch.sets))
        rows = OpenRows(gradients, batch, loss.h)
        if closed is not None:
            rows.close(batch.take(closed.to(device)))
        if preselected is not None:
            chosen = batch.take(row_mask(preselected, gradients.n, device))
            loss.move(loss.shift(*rows.close(chosen)), eta)
        budgets = partition.budgets[batch.sets]  # what a device would have to be asked for
        out.add(batch, climb(rows, loss, batch, budgets, eta, refresh, out, progress))
    return out.picks()


def climb(
    rows: OpenRows,
    loss: ValidationLoss,
    batch: Batch,
    budgets: Tensor,
    eta: float,
    refresh: int,
    out: Collector,
    progress: Counter | None,
) -> PickList:
    """The picks of the sets of a batch, `budgets` (G,) of them, on the CPU; counts refreshes in `out`."""
    made, rounds = PickList(batch), []
    longest = int(budgets.max())
    for start in range(0, longest, refresh):
        most = min(refresh, longest - start)
        slope = loss.slope()
        new, gains = rows.best(slope, loss.length(slope), batch.budgets - start, most)
        rounds.append((new, gains))
        if start + most < longest:
            loss.move(loss.shift(*rows.factors(new)), eta)
        out.count(refreshes=1)
        if progress is not None:
            progress.update(int((budgets - start).clamp(0, most).sum()))
    made.append(*(torch.cat(parts, 1) for parts in zip(*rounds, strict=True)))
    return made


def checked(
    validation: tuple[LastLayerGradients, Tensor], sets: int, device: torch.device
) -> tuple[LastLayerGradients, ValidationRows]:
    """Validation gradients on a device, and which of them speak for each of so many ground sets."""
    source = validation[0].to(device)
    _check(source)
    return source, ValidationRows(validation[1], sets)


class OpenRows:
    """The rows of the ground sets of one batch: what each would gain, and which may still be picked.

    Attributes:
        largest: (G,) length of the longest gradient.
        taken: (G, n) true for rows that may not be picked, and for padding.
    """

    def __init__(self, gradients: LastLayerGradients, batch: Batch, y: Tensor) -> None:
        self.delta, self.h = batch.take(gradients.delta), batch.take(gradients.h)
        self._couplings = Couplings(self.h, y).keep()
        self.largest = (squared_norms(self.delta) * (1 + squared_norms(self.h))).amax(1).sqrt()
        self.taken = batch.rows < 0

    def close(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Takes rows (G, n) out of the choice. Returns factors h and delta that are 0 for all others."""
        self.taken |= rows
        return self.h, self.delta * rows.unsqueeze(2)

    def gains(self, slope: Tensor) -> Tensor:
        """(G, n) products of the gradients with that of the loss, of slope (G, m, C); -inf for taken rows."""
        return self._couplings.against(slope, self.delta).masked_fill_(self.taken, -torch.inf)

    def best(self, slope: Tensor, length: Tensor, left: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The rows with the largest gains, positions (G, most), -1 after the last, and their gains; takes them.

        Each set takes as many as it has `left` (G,). Ties go to the lowest row; `length` (G,) is that of the
        terms of the gradient, for what gains are off by.
        """
        gains = self.gains(slope)
        new = largest(gains, left, most, ROUNDING * self.largest * length)
        mark(self.taken, new)
        return new, pick(gains, new)

    def factors(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Factors h (G, P, D) and delta (G, P, C) of the rows at positions (G, P); delta is 0 for -1."""
        return pick(self.h, positions), pick(self.delta, positions) * (positions >= 0).unsqueeze(2)


def _check(validation: LastLayerGradients) -> None:
    """Raises ValueError unless delta is softmax - onehot: the loss is taken from it."""
    delta, n = validation.delta, validation.n
    for part in tiles(n, 8 * validation.classes, device=delta.device):
        some = delta[part]
        wrong = some.sum(1).abs() > SLACK
        wrong |= (some < -SLACK).sum(1) > 1  # of the own class alone
        wrong |= some.amin(1) < -1 - SLACK
        if bool(wrong.any()):
            row = part.start + int(wrong.byte().argmax())
            shown = ", ".join(f"{value:.3g}" for value in delta[row, :4].tolist())
            more = ", ..." if validation.classes > 4 else ""
            raise ValueError(
                f"validation must have rows delta = softmax - onehot for glister, got [{shown}{more}] in "
                f"row {row}, which sums to {float(delta[row].sum()):.3g}"
            )


def largest(gains: Tensor, budgets: Tensor, most: int, floor: Tensor) -> Tensor:
    """Positions (G, most) of the largest gains (G, n), as many as the budgets (G,) say, then -1.

    One after the other; ties, of all that is within TIE or a floor (G,) of the best, go to the lowest row. Rows of
    -inf are left out.
    """
    gains, picks = gains.clone(), []
    for t in range(most):
        best = gains.amax(1, keepdim=True)
        tied = gains >= best - (TIE * best.abs() + floor.unsqueeze(1)).nan_to_num(posinf=0)
        position = tied.byte().argmax(1, keepdim=True)
        gains.scatter_(1, position, -torch.inf)
        open_yet = (t < budgets.unsqueeze(1)) & (best > -torch.inf)
        picks.append(torch.where(open_yet, position, -1))
    return torch.cat(picks, 1)


def held_out(
    partition: Partition, split: float, preselected: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows (m,) to validate on, drawn from every ground set with a budget, and their ground sets (m,).

    A share of `split` of the rows of the set, rounded, at least 1, and none that is preselected. Raises ValueError
    for a share outside (0, 1), and where fewer rows than the budget are left to pick.
    """
    checks.number("split", split, "(0, 1)")
    rows, group = partition.rows, partition.membership
    if preselected is not None:
        free = ~torch.isin(rows, preselected.cpu())
        rows, group = rows[free], group[free]
    order = torch.randperm(len(rows), generator=generator, device="cpu")
    order = order[group[order].argsort(stable=True)]
    rows, group = rows[order], group[order]
    sizes = torch.bincount(group, minlength=partition.sets)
    held = (partition.sizes.double() * split + 0.5).long().clamp(min=1) * (partition.budgets > 0)
    short = (sizes - held < partition.budgets).nonzero()
    if len(short):
        c = int(short[0])
        which = f" of class {c} (counted from 0 in the order of the labels)" if partition.sets > 1 else ""
        raise ValueError(
            f"split={split!r} holds out {int(held[c])} of {int(sizes[c])} rows{which}, too many for "
            f"{int(partition.budgets[c])} picks: lower split or k"
        )
    place = torch.arange(len(rows), device="cpu") - (sizes.cumsum(0) - sizes)[group]
    kept = place < held[group]
    return rows[kept], group[kept]


class ValidationLoss:
    """The mean loss of the validation rows of some ground sets, as the last layer moves.

    Attributes:
        h: (G, m, D) float32, zeros for padding.
    """

    def __init__(self, gradients: LastLayerGradients, rows: Tensor) -> None:
        self.h, delta = taken_rows(gradients.h, rows), taken_rows(gradients.delta, rows).double()
        self._lengths = (1 + squared_norms(self.h)).sqrt()
        inside = (rows >= 0).to(delta.device)
        self._label = delta.argmin(2, keepdim=True)
        self._share = (inside / inside.sum(1, keepdim=True)).unsqueeze(2)
        # Logits but for a constant: the logs of the probabilities, delta + onehot.
        own = (delta.gather(2, self._label) + 1).clamp_(min=UNIT / 4)
        self._logits = delta.clamp_(min=0).scatter_(2, self._label, own).log_()

    def shift(self, h: Tensor, delta: Tensor) -> Tensor:
        """(G, m, C) what the sum of gradients with factors h (G, p, D) and delta (G, p, C) gives the logits."""
        return Couplings(self.h, h).apply(delta)

    def move(self, shift: Tensor, eta: float) -> None:
        """Moves the last layer by -eta times the gradients of a shift."""
        self._logits -= eta * shift

    def slope(self) -> Tensor:
        """(G, m, C) derivative of the mean loss by the logits."""
        p = self._logits.softmax(2).scatter(2, self._label, 0.0)
        # 1 - p of the own class is the sum of the others, without cancellation.
        return p.scatter(2, self._label, -p.sum(2, keepdim=True)) * self._share

    def length(self, slope: Tensor) -> Tensor:
        """(G,) sum of the lengths of the terms of the gradient."""
        lengths: Tensor = slope.norm(dim=2) * self._lengths
        return lengths.sum(1)
