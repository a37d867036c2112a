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

DIRECTIONS = 8
LANDMARK_DIRECTIONS = 24
SAMPLE = 256
"""Rows of a set that the directions are fitted to: all rows would say little more."""

ROWS_A_DIRECTION = 32
ITERATIONS = 2
LANDMARK_RIDGE = 1e-6
LEAST_SEEN = 1e-5  # of the squares of all rows, along a direction of landmarks of length 1
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
    basis = torch.cat(
        [total.unsqueeze(2), pick(some, evenly_spaced(count, sizes.clamp(max=SAMPLE)))[:, 1:].mT], 2
    )
    for _ in range(ITERATIONS if count > 1 else 0):
        basis = _orthonormal(basis)
        basis[:, :, 1:] = some.mT @ (some @ basis[:, :, 1:].float())
    directions = _orthonormal(basis).float()
    along = coordinates(x, directions.mT.contiguous()).double().mul_(scale.unsqueeze(1))
    # Every coordinate errs by its share of the length, and is rounded twice more.
    error = count**0.5 * (product_error(width) + 3 * UNIT)
    return with_rest(along, squares, error)


def seen_along_landmarks(
    cosines: Tensor, gram: Tensor, lengths: Tensor, error: float
) -> tuple[Tensor, float]:
    """Coordinates (G, r + 1, n) of rows from their cosines (G, L, n) float32 with L landmark rows.

    For rows whose numbers are elsewhere; gram (G, L, L) and lengths (G, n) float64 are the cosines of the
    landmarks with each other and the lengths of the rows, `error` is how far cosines may be off. With
    B = L^-1 (landmarks), L L' = their Gram matrix plus a little on its diagonal, I - B'B is positive semidefinite.
    The coordinates are turned so that the first is along the sum of all rows and the others are those along which
    rows differ most. Returns also the error that `linear_cut` has to allow for. Cost: n L^2 multiplications.
    """
    count = gram.shape[1]
    unit = lengths.amax(1, keepdim=True).clamp(min=1e-300)  # float32 holds neither every square nor every sum
    own = lengths / unit
    columns = cosines * own.float().unsqueeze(1)
    eye = torch.eye(count, dtype=torch.float64, device=gram.device).expand_as(gram)
    root = torch.linalg.cholesky(0.5 * (gram + gram.mT) + LANDMARK_RIDGE * count * eye)
    inverse = torch.linalg.solve_triangular(root, eye, upper=False)
    # A reflection takes the sum to the first coordinate.
    total = inverse @ columns.sum(2, keepdim=True).double()
    turn = total - total.norm(dim=1, keepdim=True) * eye[:, :, :1]
    share = 2 / turn.square().sum(1, keepdim=True).clamp(min=1e-300)
    turned = inverse - turn * (share * (turn.mT @ inverse))
    spread = turned @ (columns @ columns.mT).double() @ turned.mT
    most = min(LANDMARK_DIRECTIONS, count) - 1
    seen, others = torch.linalg.eigh(0.5 * (spread + spread.mT)[:, 1:, 1:])
    seen = torch.cat([spread[:, 0, :1], seen[:, count - 1 - most :]], 1)
    turned = torch.cat([turned[:, :1], others.mT[:, count - 1 - most :] @ turned[:, 1:]], 1)
    # A direction that little lies along magnifies rounding, its own most of all.
    least = LEAST_SEEN * turned.square().sum(2) * own.square().sum(1, keepdim=True)
    turned *= (seen > least).unsqueeze(2)
    # What errors of cosines, and of sums of them, come to; the landmarks have length 1.
    magnified = count**0.5 * float(torch.linalg.matrix_norm(turned, 2).max())
    error = (error + product_error(count) + 2 * UNIT) * magnified + 2 * UNIT
    coordinates, allowed = with_rest(turned.float() @ columns, own.square(), error)
    coordinates *= unit.float().unsqueeze(2)
    coordinates[:, -1] += torch.finfo(torch.float32).tiny
    return coordinates, allowed


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
