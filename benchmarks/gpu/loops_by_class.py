"""The loops that users write for a balanced selection: one class after the other, each in plain torch.

A picker takes the tensors of one class by name and a number of picks; it returns positions in the class. Gradients
are `delta` (m, C) and `h` (m, D). As published code does, some pickers write them out as m rows of C (D + 1)
numbers; those called `..._factored` use that <g_i, g_j> = <delta_i, delta_j> (1 + <h_i, h_j>), and are faster. In
float64 they judge our picks. No code is shared with fastcore.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import fastcore
from benchmarks.gpu import loops
from benchmarks.gpu.case import Data, Size
from benchmarks.gpu.loops import LEAST, Loop

LAM, NEIGHBOURS = 1e-3, 10  # the defaults of the methods
NOTHING = 1e-9  # a slope, relative to the largest target
Rows = dict[str, Tensor]
Picker = Callable[[Rows, int], list[int]]


def by_class(picker: Picker, data: Data, size: Size, dtype: torch.dtype = torch.float32) -> Loop:
    """Picks of the first classes, one after the other: the function takes the number of classes."""

    def run(count: int) -> list[int]:
        return [row for c in range(count) for row in one_class(picker, data, size, c, dtype)]

    return run


def one_class(picker: Picker, data: Data, size: Size, c: int, dtype: torch.dtype) -> list[int]:
    """Rows of class c: its share of the picks, one more for the first classes where they do not divide."""
    assert data.labels is not None
    at = (data.labels == c).nonzero()[:, 0]
    budget = size.k // size.classes + (c < size.k % size.classes)
    picks = picker({name: part.to(dtype) for name, part in _rows(data, at, c).items()}, budget)
    found: list[int] = at[torch.tensor(picks, device=at.device)].tolist()
    return found


def _rows(data: Data, at: Tensor, c: int) -> Rows:
    if isinstance(data.rows, fastcore.Signals):
        return {"x": data.rows.require("embeddings")[at], "logits": data.rows.require("logits")[at]}
    if isinstance(data.rows, Tensor):
        return {"x": data.rows[at]}
    found = {"delta": data.rows.delta[at], "h": data.rows.h[at]}
    if "validation" in data.more:
        held, own = data.more["validation"]
        mine = own == c
        eta = torch.tensor(data.more["eta"], dtype=torch.float64, device=at.device)
        found |= {"held_delta": held.delta[mine], "held_h": held.h[mine], "eta": eta}
    return found


def written_out(rows: Rows) -> Tensor:
    """(m, C (D + 1)): the gradients by the bias and by the weights."""
    outer = rows["delta"].unsqueeze(2) * rows["h"].unsqueeze(1)
    return torch.cat([rows["delta"], outer.flatten(1)], 1)


def products(rows: Rows) -> Tensor:
    """(m, m) products of all pairs of gradients, without writing them out."""
    return (rows["delta"] @ rows["delta"].T) * (1 + rows["h"] @ rows["h"].T)


# ---- facility location, and craig -----------------------------------------------------------------------------


def facility_location(rows: Rows, count: int) -> list[int]:
    """A dense (1 + cos) / 2 of the class, every gain again for every pick."""
    return loops.facility_location(rows["x"])(count)


def craig(rows: Rows, count: int) -> list[int]:
    """Facility location on the largest distance minus the distances, of the gradients written out."""
    g = written_out(rows)
    distances = torch.cdist(g, g)
    return loops.facility_location_of(distances.max() - distances)(count)


def craig_factored(rows: Rows, count: int) -> list[int]:
    """The same from the factors."""
    gram = products(rows)
    lengths = gram.diagonal()
    distances = (lengths[:, None] + lengths - 2 * gram).clamp_(min=0).sqrt_().fill_diagonal_(0)
    return loops.facility_location_of(distances.max() - distances)(count)


# ---- gradmatch ------------------------------------------------------------------------------------------------


def non_negative(gram: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The w >= 0 that minimises w' gram w / 2 - w' target, after Lawson and Hanson, from earlier weights."""
    active = weights > 0
    for _ in range(10 * len(weights)):  # without end only by rounding
        slope = np.where(active, -np.inf, target - gram @ weights)
        if active.all() or slope.max() <= NOTHING * np.abs(target).max():
            return weights
        active[slope.argmax()] = True
        while True:
            solved = np.zeros_like(weights)
            solved[active] = np.linalg.solve(gram[np.ix_(active, active)], target[active])
            bad = active & (solved <= 0)
            if not bad.any():
                break
            step = (weights[bad] / (weights[bad] - solved[bad])).min()
            weights = np.where(active, weights + step * (solved - weights), 0.0)
            active &= weights > 1e-15 * weights.max(initial=0.0)
            weights[~active] = 0.0
        weights = solved
    return weights


def gradmatch(rows: Rows, count: int) -> list[int]:
    """Orthogonal matching pursuit of the mean gradient: a pass over the gradients, written out, for each pick."""
    g = written_out(rows)
    mean = g.mean(0)
    ridge = LAM * float(torch.linalg.vector_norm(g, dim=1).square().mean())
    gram, target, weights = np.zeros((count, count)), np.zeros(count), np.zeros(0)
    picks, rest, closed = list[int](), mean, torch.zeros_like(g[:, 0])
    while len(picks) < count:
        picks.append(loops.best(g @ rest - closed))
        closed[picks[-1]] = torch.inf
        t, chosen = len(picks), g[picks]
        gram[t - 1, :t] = gram[:t, t - 1] = (chosen @ chosen[-1]).double().cpu().numpy()
        gram[t - 1, t - 1] += ridge
        target[t - 1] = float(chosen[-1] @ mean)
        weights = non_negative(gram[:t, :t], target[:t], np.append(weights, 0.0))
        rest = mean - torch.from_numpy(weights).to(g) @ chosen
    return picks


def gradmatch_factored(rows: Rows, count: int) -> list[int]:
    """The same with the products of all pairs at hand, made once."""
    gram = products(rows)
    wanted = gram.mean(1)
    ridge = LAM * float(gram.diagonal().mean())
    picks, weights, closed = list[int](), np.zeros(0), torch.zeros_like(wanted)
    rest = wanted
    while len(picks) < count:
        picks.append(loops.best(rest - closed))
        closed[picks[-1]] = torch.inf
        inner = gram[picks][:, picks].double().cpu().numpy() + ridge * np.eye(len(picks))
        weights = non_negative(inner, wanted[picks].double().cpu().numpy(), np.append(weights, 0.0))
        rest = wanted - gram[:, picks] @ torch.from_numpy(weights).to(gram)
    return picks


# ---- glister, cal ---------------------------------------------------------------------------------------------


def glister(rows: Rows, count: int) -> list[int]:
    """The row with the largest product with the validation gradient, taken again after every pick."""
    g = written_out(rows)
    return _ascent(rows, count, lambda by_bias, by_weight: g @ torch.cat([by_bias, by_weight.flatten()]))


def glister_factored(rows: Rows, count: int) -> list[int]:
    """The same from the factors: a C x D product a pick."""
    delta, h = rows["delta"], rows["h"]
    return _ascent(rows, count, lambda by_bias, by_weight: delta @ by_bias + ((delta @ by_weight) * h).sum(1))


def _ascent(rows: Rows, count: int, gains: Callable[[Tensor, Tensor], Tensor]) -> list[int]:
    held, held_h = rows["held_delta"], rows["held_h"]
    own = torch.zeros_like(held).scatter_(1, held.argmin(1, keepdim=True), 1.0)
    logits = (held + own).clamp(min=LEAST**2).log()
    picks, closed = list[int](), torch.zeros_like(rows["h"][:, 0])
    while len(picks) < count:
        others = logits.softmax(1) * (1 - own)  # softmax - own would cancel once the loss is small
        slope = (others - own * others.sum(1, keepdim=True)) / len(held)
        picks.append(loops.best(gains(slope.sum(0), slope.T @ held_h) - closed))
        closed[picks[-1]] = torch.inf
        logits = logits - rows["eta"] * torch.outer(
            1 + held_h @ rows["h"][picks[-1]], rows["delta"][picks[-1]]
        )
    return picks


def cal(rows: Rows, count: int) -> list[int]:
    """Rows by the mean divergence of their nearest neighbours' predictions from their own."""
    x, p = rows["x"], rows["logits"].softmax(1).clamp(min=LEAST)
    distances = torch.cdist(x, x).fill_diagonal_(torch.inf)
    near = p[distances.topk(min(NEIGHBOURS, len(x) - 1), largest=False).indices]  # (m, neighbours, C)
    scores = (near * (near.log() - p.log().unsqueeze(1))).sum(2).mean(1)
    found: list[int] = scores.sort(descending=True, stable=True).indices[:count].tolist()
    return found
