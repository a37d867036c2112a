"""Divergences to a coreset by products: what they err by, and who decides where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcore.budget import Partition
from fastcore.divergence import SAME_ROW, Divergence, symmetric_divergence, with_logs
from fastcore.greedy import divergences
from fastcore.greedy.batches import batches
from fastcore.greedy.divergences import DivergenceDistances
from tests.greedy.judge import Judgement
from tests.greedy.support import Watch, gains_of, rows_of
from tests.greedy.test_divergence import FAMILIES, picked, probabilities, rng_of
from tests.score_oracle import Diversity, softmax


def distances(p: np.ndarray) -> DivergenceDistances:
    (batch,) = batches(Partition.whole(len(p), 1), torch.device("cpu"), 1)
    return DivergenceDistances(Divergence(torch.from_numpy(p)), batch)


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_products_err_by_no_more_than_they_say(family, refined):
    p = FAMILIES[family](rng_of(family))
    sets, picks = distances(p), torch.arange(min(20, len(p)))
    sets.fold(picks[None, :7])
    sets.fold(torch.cat([picks[None, 7:], torch.tensor([[-1]])], 1))
    if refined:
        sets._refine()
    assert sets.dtype == (torch.float64 if refined else torch.float32)
    x, logs = with_logs(torch.from_numpy(p))
    true = torch.stack([((x - x[j]) * (logs - logs[j])).sum(1) / 2 for j in picks], 1)
    ordered = true.sort(1).values
    for got, wanted in zip((sets.nearest, sets.second), ordered[:, :2].T, strict=False):
        assert ((got[0] - wanted).abs() <= sets._error(wanted[None])[0]).all()
    owned = true.gather(1, sets.owner[0].unsqueeze(1))[:, 0]
    assert (owned <= ordered[:, 0] + 2 * sets._error(ordered[None, :, 0])[0]).all()
    open_rows = torch.arange(len(picks), len(p))
    exact = sets.exact(open_rows[None])[0] if len(open_rows) else torch.zeros(0)
    near = ordered[len(picks) :, 0]
    np.testing.assert_allclose(exact, torch.where(near < SAME_ROW, 0.0, near), rtol=1e-13)


@pytest.mark.parametrize("family", FAMILIES)
def test_divergences_inside_a_block(family):
    """By products or by differences, whichever does not cancel; the same both ways, and 0 of a row with itself."""
    p = FAMILIES[family](rng_of(family))[:70]
    at = torch.from_numpy(rng_of(family, "order").permutation(len(p)))
    got = distances(p).among(at[None])[0]
    rows = with_logs(torch.from_numpy(p)[at])
    expected = symmetric_divergence(tuple(r[:, None] for r in rows), tuple(r[None] for r in rows))
    assert torch.equal(got, got.T) and (got.diagonal() == 0).all()
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=0)


def test_most_divergences_inside_a_block_are_products():
    p = probabilities(9, 300, 50)
    p[100:110] = p[:10]
    with Watch() as watch:
        distances(p).among(torch.arange(300)[None])
    assert watch.numbers["sub"] < 300 * 300 * 50 / 20


@pytest.mark.parametrize("together", [7, 512])
@pytest.mark.parametrize("noise", [0, 1e-9, 1e-7, 1e-5, "mixed"])
def test_coreset_rows_that_float32_cannot_tell_apart(noise, together, monkeypatch):
    """Every coreset row has a near copy: which of them is nearer is a matter of float64, or of differences."""
    monkeypatch.setattr(divergences, "TOGETHER", together)
    rng = rng_of("copies")
    p = softmax(3 * rng.standard_normal((120, 30)))
    noise = rng.choice([0, 1e-5], (30, 1)) if noise == "mixed" else noise
    copies = p[:30] * (1 + noise * rng.standard_normal((30, 30)))
    p[30:60] = copies / copies.sum(1, keepdims=True)
    picks = picked(p, 40, preselected=list(range(60)), block=16)
    problem = Diversity(p, preselected=range(60))
    judgement = Judgement(problem, rows_of(picks))
    judgement.check("copies", gap=1e-12, share=1.0)
    np.testing.assert_allclose(gains_of(picks), judgement.gains, rtol=1e-12)


def test_float64_products_only_where_float32_decides_little(monkeypatch):
    calls: list[int] = []
    refine = DivergenceDistances._refine
    monkeypatch.setattr(
        DivergenceDistances, "_refine", lambda sets: (calls.append(sets.coreset.shape[1]), refine(sets))
    )
    flat = softmax(1e-4 * np.random.default_rng(3).standard_normal((400, 40)))
    first = picked(flat, 60, block=64).info["passes"]
    assert calls == [1], "once, before there is much to do again"
    monkeypatch.setattr(DivergenceDistances, "_refine", lambda sets: None)
    assert first < picked(flat, 60, block=64).info["passes"] / 2
    monkeypatch.setattr(DivergenceDistances, "_refine", lambda sets: 1 / 0)
    picked(flat, 60, preselected=softmax(np.zeros((1, 40))))  # no row outside the block
    picked(probabilities(10, 400, 40), 100, block=64)
    picked(probabilities(10, 60, 40), 60)  # all in one block, with one open row at the end
    labels = torch.arange(60) % 6
    picked(probabilities(10, 60, 40), 60, start="mean", partition=Partition.by_label(labels, 60))
