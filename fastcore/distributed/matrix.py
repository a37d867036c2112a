"""A given matrix of similarities or distances of which every rank has some rows."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.distributed.shards import Shards
from fastcore.similarity import DenseSimilarity


class MatrixRows(DenseSimilarity):
    """The rows of this rank of an n x n matrix: entry [i, j] says how well row j represents the i-th of them.

    Attributes:
        matrix: (m, n) float32; one row of zeros on a rank without rows.
        own: (m,) the columns of the rows of this rank.
    """

    def __init__(self, shards: Shards, matrix: Tensor) -> None:
        super().__init__(matrix)
        self.count = shards.count
        self.own = torch.arange(shards.start, shards.start + self.n, device=self.device).clamp_(
            max=shards.n - 1
        )

    @property
    def width(self) -> int:
        """Numbers that a row is made of."""
        return self.matrix.shape[1]

    def diagonal(self) -> Tensor:
        """(m,) float64 similarity of every row with itself; 0 for padding."""
        if self.count == 0:
            return torch.zeros(1, dtype=torch.float64, device=self.device)
        return self.matrix.gather(1, self.own[:, None])[:, 0].double()
