"""The rows with the largest gains over ranks, with threads for ranks, against those of one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.distributed import gradient_ascent as sharded
from fastcore.distributed import view
from fastcore.distributed.gradient_ascent import ShardedOpenRows
from fastcore.distributed.shards import Shards
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.gradient_ascent import ROUNDING, gradient_ascent, largest
from fastcore.greedy.picks import Picks
from tests.distributed.data import gradients, validation
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
                rows = Given(shards, gains, float(shards.ranks.rank == 0))  # noqa: B023
                return *rows.best(torch.ones(1), length, None, most), rows.taken  # type: ignore[arg-type] # noqa: B023

            expected = largest(gains[None], torch.tensor([most]), most, floor)
            assert len(expected[0].unique()) == most
            closed = (gains == -torch.inf).index_fill(0, expected[0], True)
            every = on_ranks(counts, work)
            for found, values, _ in every:
                assert found.tolist() == expected.tolist()
                assert torch.equal(values, gains[expected[0]][None])
            taken = [part[0, :count] for (_, _, part), count in zip(every, counts, strict=True)]
            assert torch.equal(torch.cat(taken), closed)


def of_rank(rows: LastLayerGradients, shards: Shards) -> LastLayerGradients:
    if not shards.count:
        return LastLayerGradients(torch.zeros(1, rows.classes), torch.zeros(1, rows.width))
    return rows[shards.start :][: shards.count]


@pytest.mark.parametrize("sent", [9, 25, 1 << 21])
def test_gradients_of_any_rows_on_all_ranks(sent, monkeypatch):
    """In parts: of one row, of two, and all together."""
    monkeypatch.setattr(view, "SENT", sent)
    rows, some = gradients(), torch.tensor([119, 3, 30, 29, 60])

    def work(shards: Shards) -> LastLayerGradients:
        return view.ShardedGradients(shards, of_rank(rows, shards))[some]

    for found in on_ranks([30, 0, 1, 89], work):
        assert torch.equal(found.delta, rows.delta[some]) and torch.equal(found.h, rows.h[some])


@pytest.mark.parametrize("refresh", [1, 7, 200])
def test_the_layer_moves_as_in_one_process(refresh, monkeypatch):
    """With preselected rows on several ranks, whose sum is sent in parts."""
    monkeypatch.setattr(sharded, "SENT", 9)
    rows, counts = gradients(), [30, 0, 1, 89]
    held_out = validation(rows), torch.zeros(70, dtype=torch.int64)
    settings = {"eta": 0.3, "refresh": refresh, "preselected": torch.tensor([3, 119, 30, 60])}
    partition = Partition.whole(120, 40)
    expected = gradient_ascent(rows, partition, held_out, **settings)

    def work(shards: Shards) -> Picks:
        return sharded.gradient_ascent(shards, of_rank(rows, shards), partition, held_out, **settings)

    for found in on_ranks(counts, work):
        assert torch.equal(found.rows, expected.rows) and found.info == expected.info
        torch.testing.assert_close(found.gains, expected.gains, rtol=1e-12, atol=1e-12)
