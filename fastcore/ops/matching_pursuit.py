"""Orthogonal matching pursuit with non-negative weights, over gradients in factored form."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import choose

TINY = 2.0**-1022  # weight of a row about to enter: active weights are positive


def matching_pursuit(
    delta: Tensor,
    h: Tensor,
    target: Tensor,
    limits: Tensor,
    budgets: Tensor,
    taken: Tensor,
    correlations: Tensor,
    columns: Tensor,
    whitener: Tensor,
    picks: Tensor,
    gains: Tensor,
    weights: Tensor,
    steps: int,
) -> Tensor:
    """Pick the row that correlates most with the rest of a sum of rows, and weigh all picks anew, repeatedly.

    Rows are g_i = delta_i ⊗ [1; h_i], of delta (sets, rows, classes) and h (sets, rows, width) float32; target
    (sets, rows) is <g_i, b>. The weights w >= 0 of the picks minimise |b - sum w g|^2 + ridge |w|^2. A step takes
    the picked row of weight 0 with the largest <g, b - sum w g> above `least` back into the active set; else it
    picks the best row not taken, if that is above `threshold`, the budget is not spent and sum w (target + ridge
    w) = |b|^2 - |b - sum w g|^2 is below `enough`. limits (sets, 5): ridge > 0, threshold, least >= 0, floor,
    enough. Changed in place: taken (sets, rows) uint8; correlations (sets, rows); columns (sets, capacity, rows),
    products of all rows with each pick; whitener (sets, capacity, capacity), whose first rows W, one for each
    active row, have W'W = inverse of the active Gram matrix + ridge (not by the reference); picks, gains, weights
    (sets, capacity), -1, 0 and 0 after the last. Returns (sets,) steps made, of rows * (classes + width + k) each.
    """
    op = implementation("matching_pursuit", matching_pursuit_reference, delta)
    state = (taken, correlations, columns, whitener, picks, gains, weights)
    return op(delta, h, target, limits, budgets, *state, steps)


def matching_pursuit_reference(
    delta: Tensor,
    h: Tensor,
    target: Tensor,
    limits: Tensor,
    budgets: Tensor,
    taken: Tensor,
    correlations: Tensor,
    columns: Tensor,
    whitener: Tensor,
    picks: Tensor,
    gains: Tensor,
    weights: Tensor,
    steps: int,
) -> Tensor:
    made = torch.zeros_like(budgets)
    rows = torch.arange(delta.shape[1], device=delta.device)
    for g, c in enumerate(correlations):
        x, y, count = delta[g].double(), h[g].double(), int((picks[g] >= 0).sum())
        ridge, threshold, least, floor, enough = limits[g].tolist()
        for _ in range(steps):
            at, w = picks[g, :count], weights[g, :count]
            out = c[at].masked_fill((w > 0) | (c[at] <= least), -torch.inf)
            t = choose(out, at, floor) if count else None
            if t is None:
                done = count == budgets[g] or w @ (target[g, at] + ridge * w) >= enough
                values = c.masked_fill(taken[g].bool(), -torch.inf)
                p = None if done else choose(values, rows, floor)
                if p is None or values.max() <= threshold:
                    break
                t, count = count, count + 1
                picks[g, t], gains[g, t], taken[g, p] = p, c[p], 1
                columns[g, t] = (x @ x[p]) * (1 + y @ y[p])
            made[g] += 1
            if c[picks[g, t]] > least:
                at, w = picks[g, :count], weights[g, :count]
                w[t] = TINY
                gram = columns[g, :count, at] + ridge * torch.eye(count, device=delta.device)
                w[:] = _settled(gram, target[g, at], w)
                c[:] = target[g] - w @ columns[g, :count]
    return made


def _settled(gram: Tensor, target: Tensor, w: Tensor) -> Tensor:
    """The weights of the active rows, those with w > 0, that solve gram s = target; negative ones leave."""
    while True:
        active = (w > 0).nonzero()[:, 0]
        s = torch.zeros_like(w)
        s[active] = torch.linalg.solve(gram[active][:, active], target[active])
        ratio = torch.where((w > 0) & (s <= 0), w / (w - s), torch.inf)
        if not bool((ratio < torch.inf).any()):
            return s
        q = ratio.argmin()  # as far as the first weight that becomes 0
        w = torch.where(w > 0, (w + ratio[q] * (s - w)).clamp(min=TINY), 0.0)
        w[q] = 0
