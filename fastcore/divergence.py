"""Divergences of class probabilities, in float64, from terms that do not cancel."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.memory import TILE_BYTES, tiles

LEAST = 1e-12
"""A probability below this counts as this, so that log p exists: a one-hot row has no NaN and no infinity.

Large enough that a class which is ruled out adds at most 28 nats, and small enough that the probabilities
which a float32 softmax tells apart from 0 mostly count as they are.
"""

SAME_ROW = 1e-12
"""Two rows whose divergence is below this coincide: their divergence counts as 0."""

CANCELS = 2.0**-6
"""A difference below this share of the sum has lost six bits: it is taken from terms that do not cancel."""


class Divergence:
    """Symmetric divergence of rows of class probabilities: half of KL(p || q) + KL(q || p), in nats.

    Attributes:
        probabilities: (n, C) float32 or float64, rows that sum to 1.
    """

    metric = "divergence"

    def __init__(self, probabilities: Tensor) -> None:
        self.probabilities = probabilities

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.probabilities)

    @property
    def device(self) -> torch.device:
        """Where the probabilities are."""
        return self.probabilities.device


def with_logs(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities clamped to LEAST and their logarithms, both float64."""
    p = probabilities.double().clamp(min=LEAST)
    return p, p.log()


def symmetric_divergence(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    """Half of sum (p - q) (log p - log q) over the last dimension, of probabilities `with_logs`.

    No term is negative, so nothing cancels: the result is right to rounding however near p and q are, the
    same from p to q as from q to p, and 0 where they are equal or below SAME_ROW.
    """
    half = ((p[0] - q[0]) * (p[1] - q[1])).sum(-1) / 2
    return torch.where(half < SAME_ROW, 0.0, half)


def mean_divergence(probabilities: Tensor, neighbours: Tensor, others: Tensor | None = None) -> Tensor:
    """(n,) float64 mean of KL(p_j || p_i) over the neighbours j of every row i, in nats.

    neighbours (n, K) are row numbers, -1 for none, of the same probabilities (n, C), or of others (N, C); a row
    without neighbours has 0. n K C additions and n C logarithms, in tiles of a few MB. Where the mean is small
    beside the entropies, differences of logarithms are added up instead: n K C logarithms.
    """
    n, classes = probabilities.shape
    table = probabilities if others is None else others
    out = torch.zeros(n, dtype=torch.float64, device=neighbours.device)
    if neighbours.shape[1] == 0:
        return out
    entropy = out.new_empty(len(table))
    for part in tiles(len(table), 16 * classes, TILE_BYTES, out.device):
        p, logs = with_logs(table[part])
        entropy[part] = p.mul_(logs).sum(1).neg_()
    cancels = (neighbours < 0).any(1)
    for part in tiles(n, 16 * classes, TILE_BYTES, out.device):
        at = neighbours[part].clamp(min=0)
        total = torch.zeros(len(at), classes, dtype=torch.float64, device=out.device)
        for some in at.T:
            total += table[some].clamp_(min=LEAST)
        cross = total.mul_(with_logs(probabilities[part])[1]).sum(1).neg_() / at.shape[1]
        own = entropy[at].mean(1)
        out[part] = cross - own
        cancels[part] |= out[part] < CANCELS * (cross + own)
    rows = cancels.nonzero()[:, 0]
    for part in tiles(len(rows), 8 * neighbours.shape[1] * classes, TILE_BYTES, out.device):
        some = rows[part]
        logs, at = with_logs(probabilities[some])[1], neighbours[some]
        p, log_p = with_logs(table[at.clamp(min=0)])
        each = (p * (log_p - logs.unsqueeze(1))).sum(2).masked_fill(at < 0, 0)
        out[some] = each.sum(1) / (at >= 0).sum(1).clamp(min=1)
    return out
