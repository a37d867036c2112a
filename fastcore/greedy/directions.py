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


def seen_along_landmarks(columns: Tensor, marks: Tensor, squares: Tensor) -> tuple[Tensor, float]:
    """Coordinates (G, r + 1, n) of rows from their products (G, n, L) with the landmark rows at positions (G, L).

    For rows whose numbers are elsewhere; squares (G, n) are their squared lengths. With B = L^-1 (landmarks), L L'
    = their Gram matrix plus a little on its diagonal, I - B'B is positive semidefinite. The coordinates are
    turned so that the first is along the sum of all rows and the others are those along which rows differ most.
    Returns also the error that `linear_cut` has to allow for. Cost: n L^2 multiplications.
    """
    gram = pick(columns, marks)
    count = gram.shape[1]
    size = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-300)[:, None, None]
    eye = torch.eye(count, dtype=torch.float64, device=gram.device).expand_as(gram)
    root = torch.linalg.cholesky(0.5 * (gram + gram.mT) + 1e-6 * count * size * eye)
    inverse = torch.linalg.solve_triangular(root, eye, upper=False)
    # A reflection takes the sum to the first coordinate.
    total = inverse @ columns.sum(1).unsqueeze(2)
    turn = total - total.norm(dim=1, keepdim=True) * eye[:, :, :1]
    share = 2 / turn.square().sum(1, keepdim=True).clamp(min=1e-300)
    turned = inverse - turn * (share * (turn.mT @ inverse))
    most = min(LANDMARK_DIRECTIONS, count) - 1
    if most > 0:
        others = turned[:, 1:]
        spread = others @ (columns.mT @ columns) @ others.mT
        principal = torch.linalg.eigh(0.5 * (spread + spread.mT)).eigenvectors[:, :, -most:]
        turned = torch.cat([turned[:, :1], principal.mT @ others], 1)
    return with_rest(turned @ columns.mT, squares, 2 * UNIT)


def with_rest(along: Tensor, squares: Tensor, error: float) -> tuple[Tensor, float]:
    """Coordinates (G, r, n) float64 and below them what is left of every row: (G, r + 1, n) float32.

    `error` is how far the coordinates of a row may be off, relative to its length. Returns also the error that
    `linear_cut` has to allow for.
    """
    allowed = 5 * error + 2 * (along.shape[1] + 8) * UNIT
    out = torch.cat([along, squares.unsqueeze(1)], 1).float()
    rest = (squares - out[:, :-1].double().square().sum(1)).clamp_(min=0) + allowed * squares
    out[:, -1] = rest.sqrt() * (1 + 4 * UNIT) + torch.finfo(torch.float32).tiny
    return out, allowed


def evenly_spaced(count: int, sizes: Tensor) -> Tensor:
    """(G, count) positions spread evenly over the rows of every set."""
    share = (torch.arange(count, device=sizes.device) + 0.5) / count
    return (share * sizes.unsqueeze(1)).long()


def spanning(gram: Tensor, count: int) -> Tensor:
    """(G, count) of the rows with Gram matrix (G, S, S), chosen one by one so that their span takes in the most.

    Each next row is the one along whose rest, apart from those before it, the rests of all rows have the largest
    sum of squares. Changes `gram`. Cost: S^2 a row. Farahat, Ghodsi and Kamel, "A novel greedy algorithm for
    greedy Nystrom approximation", 2011.
    """
    own = gram.diagonal(dim1=1, dim2=2)  # which changes with it
    least, chosen = 1e-6 * own.amax(1, keepdim=True).clamp(min=1e-300), []
    for _ in range(count):
        # A row with next to no rest takes in less than it would.
        square = torch.maximum(own, least)
        row = torch.linalg.vector_norm(gram, dim=2).square_().div_(square).argmax(1, keepdim=True)
        chosen.append(row)
        column = gram.gather(1, row.unsqueeze(2).expand(-1, -1, gram.shape[2]))
        gram.baddbmm_(column.mT, column / square.gather(1, row).unsqueeze(2), alpha=-1)
    return torch.cat(chosen, 1)


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
