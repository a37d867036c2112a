"""Last-layer gradients in few dimensions: what a few coordinates of h tell of a distance, and what not."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.gradients import LastLayerGradients
from fastcore.numerics import UNIT, product_error
from fastcore.ops.factored_columns import factored_columns
from fastcore.ops.squared_norms import squared_norms

DIMENSIONS = 32
SAMPLE = 128  # rows that show along which directions most of h lies
NEGLIGIBLE = 1e-10  # of the largest eigenvalue


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
    """(r, D) float32 orthonormal directions along which some rows of h (n, D) have most of their length."""
    if h.shape[1] <= DIMENSIONS:
        return torch.eye(h.shape[1], dtype=h.dtype)
    at = torch.linspace(0, len(h) - 1, min(SAMPLE, len(h))).long()
    some = h[at].double()
    values, vectors = torch.linalg.eigh(some @ some.T)
    kept = values > NEGLIGIBLE * values[-1]
    if not bool(kept.any()):
        return torch.eye(1, h.shape[1], dtype=h.dtype)  # all of them are zero
    values, vectors = values[kept].flip(0)[:DIMENSIONS], vectors[:, kept].flip(1)[:, :DIMENSIONS]
    directions: Tensor = (vectors / values.sqrt()).T @ some
    return directions.float().contiguous()
