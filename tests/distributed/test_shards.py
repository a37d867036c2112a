"""What ranks must know of a few rows, with threads for ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcore.distributed.shards import Shards
from fastcore.greedy.batches import top_block
from tests.distributed.threads import on_ranks

COUNTS = [[7, 5, 9], [0, 13, 1], [1, 0, 20], [21]]


def own(shards: Shards, values: Tensor, padding: float) -> Tensor:
    """The part (1, m) of values (n,) that a rank holds, with its padding."""
    part = values[shards.start : shards.start + shards.count]
    return (part if shards.count else torch.full_like(values[:1], padding))[None]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_top_block_of_all_ranks(counts, dtype):
    random = np.random.default_rng(sum(counts) + len(counts))
    for block in (1, 2, 3, 8, 21, 40):
        for levels in (1, 3, 6, 1000):
            values = torch.from_numpy(random.integers(0, levels, sum(counts))).to(dtype)
            values[torch.from_numpy(random.random(len(values)) < 0.2)] = -torch.inf
            if bool((values == -torch.inf).all()):
                values[0] = 1.0
            open_rows = int((values > -torch.inf).sum())
            found = on_ranks(counts, lambda shards: shards.top(own(shards, values, -torch.inf), block))  # noqa: B023
            (at, outside, row), *others = found
            for other in others:
                assert all(torch.equal(ours, theirs) for ours, theirs in zip(found[0], other, strict=True))
            assert at.shape == (1, min(block, open_rows)) and len(set(at[0].tolist())) == at.shape[1]
            inside = values[at[0]]
            assert sorted(inside.tolist()) == sorted(values.tolist())[len(values) - at.shape[1] :]
            rest = values.clone()
            rest[at[0]] = -torch.inf
            assert float(outside) == float(rest.max())
            if open_rows > block:
                reaching = (rest == rest.max()).nonzero()[:, 0]
                assert int(row) == int(reaching[0])
                # Of the rows tied at the edge the lowest are inside.
                edge = at[0][inside == rest.max()]
                assert len(edge) == 0 or int(edge.max()) < int(row)
            expected = top_block(values[None].double(), block)
            assert float(expected[1]) == float(outside)


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_the_best_row_of_all_ranks(counts):
    random = np.random.default_rng(1)
    for _ in range(20):
        values = torch.from_numpy(random.integers(0, 4, sum(counts))).double()
        values += torch.from_numpy(random.choice([0.0, 1e-15], len(values)))  # rounding
        found = on_ranks(counts, lambda shards: shards.best(own(shards, values, -torch.inf)))  # noqa: B023
        for best, row in found:
            assert float(best) == float(values.max())
            assert int(row) == int((values >= values.max() - 1e-12).nonzero()[0])


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_rows_of_other_ranks(counts):
    values = torch.randn(sum(counts), 3)
    rows = torch.tensor([[sum(counts) - 1, 0, -1, 5, 0]])

    def work(shards: Shards) -> tuple[Tensor, Tensor]:
        mine = values[shards.start : shards.start + shards.count]
        held = (mine if shards.count else values.new_ones(1, 3))[None]
        mask = torch.arange(shards.n)[None] % 2 == 0
        return shards.take(held, rows), shards.part(mask)

    expected = torch.stack([values[row] if row >= 0 else torch.zeros(3) for row in rows[0].tolist()])
    start = 0
    for count, (taken, part) in zip(counts, on_ranks(counts, work), strict=True):
        assert torch.equal(taken[0], expected)
        rows_here = torch.arange(start, start + count) % 2 == 0
        assert torch.equal(part[0], rows_here if count else torch.tensor([True]))
        start += count
