"""Facility location and graph cut far beyond the point where picks still change much, or anything at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.facility_location import facility_location
from fastcore.greedy.graph_cut import graph_cut
from fastcore.ops import use_backend
from fastcore.similarity import view

KINDS = ("clusters", "integers", "duplicates", "signed")


def similarity_of(kind: str, n: int) -> np.ndarray:
    """(n, n) symmetric float32."""
    rng = np.random.default_rng(KINDS.index(kind))
    centres = rng.standard_normal((n // 8, 6))
    x = centres[rng.integers(0, len(centres), n)] + 0.3 * rng.standard_normal((n, 6))
    if kind == "duplicates":
        x = x[rng.integers(0, n // 3, n)]
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    similarity = np.exp(-distance) if kind != "signed" else 1 - distance
    if kind == "integers":
        similarity = np.floor(8 * similarity)
    return np.maximum(similarity, similarity.T).astype(np.float32)


def naive(similarity: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    exact, coverage = similarity.astype(np.float64), np.zeros(len(similarity))
    picks: list[int] = []
    gains: list[float] = []
    for _ in range(k):
        gain = np.maximum(exact - coverage[:, None], 0).sum(0)
        gain[picks] = -np.inf
        tied = gain >= gain.max() - (1e-12 * gain.max() + 1e-14 * np.abs(exact.diagonal()).max())
        picks.append(int(tied.argmax()))
        gains.append(gain[picks[-1]])
        coverage = np.maximum(coverage, exact[:, picks[-1]])
    return picks, gains


@pytest.mark.parametrize("kind", KINDS)
def test_long_runs_on_a_matrix(kind: str) -> None:
    n, k = 900, 600
    matrix = similarity_of(kind, n)
    with use_backend("auto"):
        picks = facility_location(view(torch.from_numpy(matrix), "precomputed"), Partition.whole(n, k))
    rows, gains = naive(matrix, k)
    assert picks.rows[0].tolist() == rows
    np.testing.assert_allclose(picks.gains[0].numpy(), gains, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["gradients", "features", "around the origin", "all but equal"])
@pytest.mark.parametrize("sets", [1, 2])
def test_graph_cut_takes_gains_afresh_by_itself(kind: str, sets: int) -> None:
    """On a CPU one call of its op makes all picks, of which no bound holds through so many."""
    rng = np.random.default_rng(sets)
    x = rng.standard_normal((900, 20)).astype(np.float32)
    if kind != "around the origin":
        x = np.abs(x)
    if kind == "all but equal":  # gains of three rows each differ by less than float can tell
        x = np.repeat(x[:300], 3, 0) * (1 + 1e-6 * rng.standard_normal((900, 20))).astype(np.float32)
    rows = (
        LastLayerGradients(rng.standard_normal((900, 4)), x) if kind == "gradients" else torch.from_numpy(x)
    )
    labels = torch.arange(900) % sets
    partition = Partition.by_label(labels, 800) if sets > 1 else Partition.whole(900, 800)
    with use_backend("auto"):
        mine = graph_cut(view(rows, "cosine"), partition)
        short = graph_cut(view(rows, "cosine"), partition, block=50)
    with use_backend("reference"):
        wanted = graph_cut(view(rows, "cosine"), partition)
    assert mine.info["passes"] == 1 and short.info["passes"] > 5
    for picks in (mine, short):
        assert torch.equal(picks.rows, wanted.rows)
        torch.testing.assert_close(picks.gains, wanted.gains, rtol=1e-9, atol=1e-9)
