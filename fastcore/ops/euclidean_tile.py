"""Euclidean similarities of factored rows from float32 products, and in double where those cannot tell."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.numerics import UNIT
from fastcore.ops import implementation
from fastcore.ops.facility_location_block import EUCLIDEAN, inner_products, similarity_of_products


def euclidean_tile(
    products: Tensor,
    factors: Tensor,
    features: Tensor,
    second: Tensor,
    norms: Tensor,
    positions: Tensor,
    out: Tensor,
    first: int,
    mirror: bool,
    relative: float,
    absolute: float,
    error: float,
    parameter: float,
) -> Tensor:
    """Write parameter - distance of the rows at positions (sets, block) and those from `first` on into `out`.

    products and factors (sets, block, columns) float32 are inner products of features x and of second y (sets,
    rows, width) float32; norms (sets, rows) float64 are squared norms. products (1 + factors) is within
    relative / 2 * |g||g'| + absolute / 2 of the truth, and distances within `error`: nearer pairs are computed in
    double. out is (sets, block, rows) float32; with mirror it is (sets, rows, rows), positions are
    consecutive, and only pairs with i <= j are written, to both of their places. Returns (1,) 0, or, where the
    near pairs are more than a sixteenth and one for each row, how many: then the tile is not to be used. Cost:
    one read of the products, one write, width multiplications a near pair. The native op is for the CPU.
    """
    call = implementation("euclidean_tile", euclidean_tile_reference, products)
    pairs = products, factors, features, second, norms, positions, out
    return call(*pairs, first, mirror, relative, absolute, error, parameter)


def euclidean_tile_reference(
    products: Tensor,
    factors: Tensor,
    features: Tensor,
    second: Tensor,
    norms: Tensor,
    positions: Tensor,
    out: Tensor,
    first: int,
    mirror: bool,
    relative: float,
    absolute: float,
    error: float,
    parameter: float,
) -> Tensor:
    part = slice(first, first + products.shape[2])
    a, b = norms.gather(1, positions).unsqueeze(2), norms[:, part].unsqueeze(1)
    squared = ((a + b).float() - 2 * products * (1 + factors)).double()
    off = relative * a.sqrt() * b.sqrt() + absolute + 5 * UNIT * (a + b)
    near = (off > error**2) & ~(squared > ((off / error + error) / 2).square()) | ~squared.isfinite()
    columns = torch.arange(part.start, part.stop, device=out.device)
    wanted = columns >= positions.unsqueeze(2) if mirror else torch.ones_like(near)
    near &= wanted
    if int(near.sum()) > near.numel() // 16 + norms.shape[1]:
        return near.sum().view(1)
    for g, at in enumerate(positions):
        rows, others = ([x[g, some].double() for x in (features, second)] for some in (at, part))
        sides = (a[g, :, 0], a[g, :, 0]), (b[g, 0], b[g, 0])
        exact = similarity_of_products(inner_products(rows, others), *sides, EUCLIDEAN, parameter)
        values = torch.where(near[g], exact, parameter - squared[g].clamp(min=0).sqrt()).float()
        here, there = wanted[g].nonzero().T
        to = at[here] if mirror else here
        out[g, to, there + first] = values[here, there]
        if mirror:
            out[g, there + first, to] = values[here, there]
    return near.new_zeros(1, dtype=torch.int64)
