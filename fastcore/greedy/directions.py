"""Rows seen along a few directions: what bounds how their products with a sum of rows can change.

With B such that I - B'B is positive semidefinite, |<x, s> - <Bx, Bs>|^2 <= (|x|^2 - |Bx|^2) (|s|^2 - |Bs|^2). The
more of the rows lies along the directions, the tighter that is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.greedy.batches import pick
from fastcore.numerics import UNIT, product_error
from fastcore.ops.coordinates import coordinates
from fastcore.ops.factored_coordinates import factored_coordinates

DIRECTIONS = 8
SAMPLE = 256
"""Rows of a set that the directions are fitted to: all rows would say little more."""

PRODUCT_DIRECTIONS, FACTOR_DIRECTIONS, PRODUCT_SAMPLE = 24, 12, 384
"""The same of rows that are products of two factors, each of which has directions of its own."""

ROWS_A_DIRECTION = 32
ITERATIONS = 2
RIDGE = 1e-9  # of a Gram matrix of unit vectors
MARGIN = 1e-6  # more than RIDGE magnifies the rounding of that matrix to


def seen_along_principal(
    x: Tensor, scale: Tensor, squares: Tensor, total: Tensor, sizes: Tensor
) -> tuple[Tensor, float]:
    """Coordinates (G, r + 1, n) of the scaled rows along their principal directions, as `linear_cut` takes them.

    x (G, n, d) float32 rows; scale and squares (G, n), total (G, d) and sizes (G,) float64: the scale of every row
    and its squared length with it, the sum of the scaled rows and their number. The first direction is that of the
    sum. Returns also the error that `linear_cut` has to allow for. Cost: n d r multiplications in float32, and a
    few times as many for 256 rows.
    """
    n, width = x.shape[1:]
    count = min(DIRECTIONS, 1 + n // ROWS_A_DIRECTION, width)
    marks = evenly_spaced(min(n, SAMPLE), sizes)
    some = pick(x, marks) * pick(scale, marks).float().unsqueeze(2)
    directions = _principal(some, sizes, count, total, ITERATIONS)
    along = coordinates(x, directions.mT.contiguous()).double().mul_(scale.unsqueeze(1))
    # Every coordinate errs by its share of the length, and is rounded twice more.
    error = count**0.5 * (product_error(width) + 3 * UNIT)
    return with_rest(along, squares, error)


def seen_along_factors(x: Tensor, y: Tensor, lengths: Tensor, sizes: Tensor) -> tuple[Tensor, float]:
    """The same of rows that are products x (x) [1; y] of length 1, times lengths (G, n) float64.

    x (G, n, C) and y (G, n, D) float32. Each factor is seen along its own principal directions, and products of
    these along theirs: what the directions of rows of C (D + 1) numbers would be is never formed. Cost: n (12 D +
    24 * 12 C) multiplications in float32; 12 directions stand for more classes than that, at n 12 C more.
    """
    n, classes, width = *x.shape[1:], y.shape[2]
    unit = lengths.amax(1, keepdim=True).clamp(min=1e-300)  # float32 does not hold the square of every length
    own = lengths / unit
    marks = evenly_spaced(min(n, PRODUCT_SAMPLE), sizes)
    some, second = pick(x, marks), torch.nn.functional.pad(pick(y, marks), (1, 0), value=1.0)
    some = some * pick(own, marks).float().unsqueeze(2)
    inner, outer = None, _principal(second * _lengths(some), sizes, min(FACTOR_DIRECTIONS, 1 + width, n))
    if classes > FACTOR_DIRECTIONS:
        inner = _principal(some * _lengths(second), sizes, min(FACTOR_DIRECTIONS, n))
    first = some if inner is None else some @ inner
    seen = (first.unsqueeze(3) * (second @ outer).unsqueeze(2)).flatten(2)
    dimensions = seen.shape[2]
    count = min(PRODUCT_DIRECTIONS, dimensions, n)
    directions = _principal(seen, sizes, count, seen.sum(1).double()).mT
    narrow = x if inner is None else coordinates(x, inner.mT.contiguous()).mT.contiguous()
    along = factored_coordinates(narrow, y, outer.mT.contiguous(), directions.contiguous())
    along *= own.float().unsqueeze(1)
    # Of every factor, and of their products along the directions.
    e = outer.shape[2] ** 0.5 * (product_error(width) + 3 * UNIT)
    f = 0.0 if inner is None else inner.shape[2] ** 0.5 * product_error(classes)
    error = e + f + e * f + count**0.5 * (product_error(dimensions) + 3 * UNIT)
    out, allowed = with_rest(along, own.square(), error)
    out *= unit.float().unsqueeze(2)
    out[:, -1] += torch.finfo(torch.float32).tiny
    return out, allowed


def _lengths(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    return lengths


def _principal(
    some: Tensor, sizes: Tensor, count: int, first: Tensor | None = None, iterations: int = 1
) -> Tensor:
    """(G, d, count) float32 orthonormal directions along which rows (G, S, d) lie most, by subspace iteration.

    The first one is that of `first` (G, d) where it is given.
    """
    basis = pick(some, evenly_spaced(count, sizes.clamp(max=some.shape[1]))).mT.double()
    given = 0 if first is None else 1
    if first is not None:
        basis[:, :, 0] = first
    for _ in range(iterations if count > given else 0):
        basis = _orthonormal(basis)
        basis[:, :, given:] = some.mT @ (some @ basis[:, :, given:].float())
    return _orthonormal(basis).float()


def with_rest(along: Tensor, squares: Tensor, error: float) -> tuple[Tensor, float]:
    """Coordinates (G, r, n) and below them what is left of every row: (G, r + 1, n) float32.

    `error` is how far the coordinates of a row may be off, relative to its length. Squares are taken in the type
    of the coordinates. Returns also the error that `linear_cut` has to allow for.
    """
    roundings = (along.shape[1] + 8) * UNIT
    allowed = 5 * error + 2 * roundings
    out = torch.cat([along, squares.unsqueeze(1).to(along.dtype)], 1).float()
    taken = out[:, :-1].to(along.dtype).square().sum(1).double()
    rest = (squares - taken).clamp_(min=0) + (allowed + roundings) * squares
    out[:, -1] = rest.sqrt() * (1 + 8 * UNIT) + torch.finfo(torch.float32).tiny
    return out, allowed


def evenly_spaced(count: int, sizes: Tensor) -> Tensor:
    """(G, count) positions spread evenly over the rows of every set."""
    share = (torch.arange(count, device=sizes.device) + 0.5) / count
    return (share * sizes.unsqueeze(1)).long()


def _orthonormal(vectors: Tensor) -> Tensor:
    """(G, d, r) float64 vectors, each the next of the given ones less its part along those before it.

    With I - Q Q' positive semidefinite also where the given vectors depend on each other.
    """
    unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True).clamp(min=1e-300)
    gram = unit.mT @ unit
    gram.diagonal(dim1=1, dim2=2).add_(RIDGE * gram.shape[1])
    root = torch.linalg.cholesky(gram)
    basis: Tensor = torch.linalg.solve_triangular(root.mT, unit, upper=True, left=False)
    return basis * (1 - MARGIN)
