"""Last-layer gradients in few dimensions: what a few coordinates of h tell of a distance, and what not."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.gradients import LastLayerGradients
from fastcore.numerics import UNIT, product_error
from fastcore.ops.factored_columns import factored_columns
from fastcore.ops.squared_norms import squared_norms

DIMENSIONS = 32
SAMPLE = 384  # rows that show along which directions most of h lies
ITERATIONS = 2


class ReducedGradients:
    """Coordinates of h along a few orthonormal directions, with bounds that hold for all pairs of rows.

    <h, h'> is within |rest| |rest'| of the inner product of the coordinates, rest being what the directions leave
    out. So is a squared distance of gradients within 2 |<delta, delta'>| |rest| |rest'|, and rounding.

    Attributes:
        coordinates: (n, r) float32, r <= DIMENSIONS; those that say most come first.
        left_out: (n,) float32, at least |rest|.
        relative, absolute: rounding of a squared distance from products in float32, beside `relative` times
            the two lengths.
    """

    def __init__(self, gradients: LastLayerGradients) -> None:
        h = gradients.h
        squares = squared_norms(h[None])[0]
        directions = _directions(h)
        # Directions are rounded to float32: by so much they differ from orthonormal ones.
        gram = directions.double() @ directions.double().T
        defect = float(torch.linalg.matrix_norm(gram - torch.eye(len(gram), dtype=gram.dtype)))
        none, nothing = (h.new_zeros(1, len(rows), 1) for rows in (h, directions))
        exact = factored_columns(h[None], none, directions[None], nothing)[0]
        self.coordinates = exact.float().contiguous()
        rest = squares - exact.square().sum(1) * (1 - 2 * defect) + 1e-13 * squares
        self.left_out = (rest.clamp(min=0).sqrt() * (1 + 8 * UNIT)).float()
        e, f = product_error(gradients.classes), product_error(len(gram)) + 2 * defect + 1e-13
        self.relative = 2 * (e + f + e * f) * (1 + 1e-6)
        # A product of delta that underflows is off by 2^-149 a term, and is multiplied by one of h.
        self.absolute = (gradients.classes + 2) * 2.0**-146 * (1 + float(squares.max()))


def _directions(h: Tensor) -> Tensor:
    """(r, D) float32 orthonormal directions along which some rows of h (n, D) have most of their length.

    By subspace iteration, which leaves them about in descending order of that length.
    """
    if h.shape[1] <= DIMENSIONS:
        return torch.eye(h.shape[1], dtype=h.dtype)
    some = h[_evenly_spaced(SAMPLE, len(h))]
    some = some / some.abs().max().clamp(min=torch.finfo(h.dtype).tiny)  # squares stay in range
    basis = some[_evenly_spaced(DIMENSIONS, len(some))].T
    for _ in range(ITERATIONS):
        basis = some.T @ (some @ torch.linalg.qr(basis).Q)
    directions: Tensor = torch.linalg.qr(basis.double()).Q.T
    return directions.float().contiguous()


def _evenly_spaced(count: int, rows: int) -> Tensor:
    return torch.linspace(0, rows - 1, min(count, rows)).long()
