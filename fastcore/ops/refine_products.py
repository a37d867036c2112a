"""Inner products in float32 where upper bounds on them say that they may matter."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation


def refine_products(products: Tensor, features: Tensor, positions: Tensor, least: Tensor) -> Tensor:
    """Replace bounds (sets, block, rows) float32 by inner products where they exceed `least`, by -inf elsewhere.

    products[g, j, i] is a bound on what row i and row positions[g, j] of features (sets, rows, width) float32
    have; it is changed in place, where it is larger than least (sets, rows) float32 or NaN. Returns how many
    pairs of each candidate that were, (sets, block) int64. Inner products are summed in float32. Cost: one read
    and write of the bounds, and two rows of the features for each of these pairs, most of them from a cache.
    """
    return implementation("refine_products", refine_products_reference, products)(
        products, features, positions, least
    )


def refine_products_reference(products: Tensor, features: Tensor, positions: Tensor, least: Tensor) -> Tensor:
    active = ~(products <= least.unsqueeze(1))
    for g, at in enumerate(positions):
        found = features[g, at] @ features[g].mT
        products[g] = torch.where(active[g], found, -torch.inf)
    return active.sum(2)
