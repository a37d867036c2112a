"""The rows with the largest gains over ranks, with threads for ranks, against those of one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcore.distributed.gradient_ascent import ShardedOpenRows
from fastcore.distributed.shards import Shards
from fastcore.greedy.gradient_ascent import ROUNDING, largest
from tests.distributed.test_shards import own
from tests.distributed.threads import on_ranks


class Given(ShardedOpenRows):
    """Rows whose gains are given."""

    def __init__(self, shards: Shards, gains: Tensor, length: float) -> None:
        self.shards, self.taken = shards, own(shards, gains == -torch.inf, True)
        self._gains, self.largest = own(shards, gains, -torch.inf), gains.new_tensor([length])

    def gains(self, slope: Any) -> Tensor:
        return self._gains.masked_fill(self.taken, -torch.inf)


@pytest.mark.parametrize("counts", [[7, 5, 90], [0, 40, 1], [1, 0, 60], [31, 30], [21]], ids=str)
def test_the_largest_gains_of_all_ranks(counts):
    """Ties of many rows, ties by rounding, negative gains, closed rows: more of each than one look takes in."""
    random = np.random.default_rng(sum(counts))
    for levels in (1, 3, 1000):
        gains = torch.from_numpy(random.integers(-levels, levels, sum(counts))).double()
        gains += torch.from_numpy(random.choice([0.0, 1e-15, 3e-15], len(gains)))
        gains[torch.from_numpy(random.random(len(gains)) < 0.2)] = -torch.inf
        length = torch.tensor([random.choice([0.0, 1.5 / ROUNDING])])  # rows of neighbouring levels tie
        for most in (1, 4, int((gains > -torch.inf).sum())):
            floor = ROUNDING * length

            def work(shards: Shards) -> tuple[Tensor, Tensor, Tensor]:
                rows = Given(shards, gains, 1.0)  # noqa: B023
                return *rows.best(torch.ones(1), length, None, most), rows.taken  # type: ignore[arg-type] # noqa: B023

            expected = largest(gains[None], torch.tensor([most]), most, floor)
            closed = (gains == -torch.inf).index_fill(0, expected[0], True)
            every = on_ranks(counts, work)
            for found, values, _ in every:
                assert found.tolist() == expected.tolist()
                assert torch.equal(values, gains[expected[0]][None])
            taken = [part[0, :count] for (_, _, part), count in zip(every, counts, strict=True)]
            assert torch.equal(torch.cat(taken), closed)
