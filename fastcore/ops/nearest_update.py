"""The fold of new picks into every row's nearest distance."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation


def nearest_update(
    products: Tensor,
    row_norms: Tensor,
    pick_norms: Tensor,
    nearest: Tensor,
    owner: Tensor,
    second: Tensor,
    offset: int,
) -> None:
    """Fold new picks into the nearest and second nearest squared distance of every row, in place.

    products (sets, rows, picks) float32 are inner products of rows and picks, row_norms (sets, rows) and
    pick_norms (sets, picks) squared norms (+inf marks padding). nearest, second (sets, rows) float32 and
    owner (sets, rows) int64 are changed: pick p is owner `offset + p`, equal distances stay with the earlier
    pick. One pass over `products`.
    """
    implementation("nearest_update", nearest_update_reference, products)(
        products, row_norms, pick_norms, nearest, owner, second, offset
    )


def nearest_update_reference(
    products: Tensor,
    row_norms: Tensor,
    pick_norms: Tensor,
    nearest: Tensor,
    owner: Tensor,
    second: Tensor,
    offset: int,
) -> None:
    near, least, pick = nearest.clone(), second.clone(), owner.clone()
    for p in range(products.shape[2]):
        distance = (row_norms + pick_norms[:, p, None] - 2 * products[:, :, p]).clamp_(min=0)
        closer = distance < near
        least = torch.where(closer, near, torch.minimum(least, distance))
        near = torch.where(closer, distance, near)
        pick.masked_fill_(closer, offset + p)
    # Only now: where memory runs out above, nothing has changed.
    nearest.copy_(near), second.copy_(least), owner.copy_(pick)
