"""Farthest-first under the symmetric divergence of probabilities, and of rows that only have products."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from fastcore import divergence as divergences
from fastcore.budget import Partition
from fastcore.divergence import Divergence, mean_divergence, symmetric_divergence, with_logs
from fastcore.greedy import farthest_first as engine
from fastcore.greedy.farthest_first import farthest_first
from fastcore.greedy.pairwise import ProductDistances
from fastcore.similarity import FeatureSimilarity, GradientSimilarity
from tests import oracle
from tests.greedy.judge import Judgement
from tests.greedy.support import Watch, check_gains, gains_of, rows_of, run
from tests.score_oracle import Diversity, cal_scores, divergence, groups_of, softmax, symmetric_divergences


def probabilities(seed: int, n: int = 300, classes: int = 10, scale: float = 3.0) -> np.ndarray:
    return softmax(scale * np.random.default_rng(seed).standard_normal((n, classes))).astype(np.float32)


def one_hot(rng: np.random.Generator) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[rng.integers(0, 5, 80)]


def saturated(rng: np.random.Generator) -> np.ndarray:
    """A network that is sure of most rows: probabilities down to float32's smallest, and exact ones."""
    return softmax(rng.standard_normal((300, 6)) * np.exp(2 * rng.standard_normal((300, 1)) + 1)).astype(
        np.float32
    )


def permuted(rng: np.random.Generator) -> np.ndarray:
    """Rows that are permutations of a few others: ties that sums in another order do not see."""
    base = softmax(rng.standard_normal((3, 7)))
    return np.array([rng.permutation(base[rng.integers(3)]) for _ in range(90)]).astype(np.float32)


FAMILIES = {
    "spread": lambda rng: probabilities(1),
    "flat": lambda rng: probabilities(2, scale=1e-3),
    "sure": lambda rng: probabilities(3, scale=12.0),
    "saturated": saturated,
    "two classes": lambda rng: probabilities(4, 200, 2),
    "one class": lambda rng: np.ones((20, 1), np.float32),
    "many classes": lambda rng: probabilities(5, 150, 300),
    "one-hot": one_hot,
    "repeated": lambda rng: probabilities(6, 40)[rng.integers(0, 40, 160)],
    "permuted": permuted,
    "few levels": lambda rng: np.array([[1, 0], [0.75, 0.25], [0.5, 0.5], [0, 1]], np.float32)[
        rng.integers(0, 4, 50)
    ],
    "float64": lambda rng: softmax(40 * rng.standard_normal((200, 5))),
    "almost flat": lambda rng: softmax(1.6e-6 * rng.standard_normal((300, 40))),
    "nearly one": lambda rng: softmax(
        np.eye(4)[rng.integers(0, 4, 120)] * 18 + rng.standard_normal((120, 4))
    ),
}


SHARES = {"almost flat": 0.95}
"""Divergences near 3e-12, where the logarithms of the oracle and ours differ in the tenth digit."""


def rng_of(*words: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def picked(p: np.ndarray, k: int, **options):
    options.setdefault("start", 0)
    partition = options.pop("partition", None) or Partition.whole(len(p), k)
    if options.get("preselected") is not None:
        options["preselected"] = torch.as_tensor(options["preselected"])
    return farthest_first(Divergence(torch.from_numpy(p)), partition, **options)


@pytest.mark.parametrize("block", [4, 512])
@pytest.mark.parametrize("family", FAMILIES)
def test_picks_are_those_of_the_plain_greedy(family, block):
    """Every pick and every gain, until all rows are picked."""
    p = FAMILIES[family](rng_of(family))
    picks = picked(p, len(p), block=block)
    rows, gains = rows_of(picks), gains_of(picks)
    assert sorted(rows) == list(range(len(p))) and gains[0] == np.inf
    judgement = Judgement(Diversity(p), rows, skip=1)
    judgement.check(family, gap=1e-8, share=SHARES.get(family, 1.0))
    check_gains(gains[1:], judgement.gains, family, 1e-6)


@pytest.mark.parametrize("family", ["spread", "saturated", "one-hot", "repeated", "permuted"])
def test_preselected(family):
    p = FAMILIES[family](rng_of(family))
    fixed = [3, 17, 40]
    picks = picked(p, 30, preselected=fixed)
    Judgement(Diversity(p, fixed), rows_of(picks)).check(family, gap=1e-9, share=1.0)
    assert not set(fixed) & set(rows_of(picks))
    outside = p[fixed]
    picks = picked(p, 30, preselected=outside)
    judgement = Judgement(Diversity(p, external=outside), rows_of(picks))
    judgement.check(family, gap=1e-9, share=1.0)
    check_gains(gains_of(picks), judgement.gains, family, 1e-3)


def test_ties_go_to_the_lowest_row():
    wrong = []
    levels = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5], [0, 0.5, 0.5]], np.float32)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p = levels[rng.integers(0, 5, int(rng.integers(2, 40)))]
        first = int(rng.integers(len(p)))
        got = rows_of(picked(p, len(p), start=first, block=(3, 8, 512)[seed % 3]))
        if got != oracle.greedy(Diversity(p), len(p), first)[0]:
            wrong.append(seed)
    assert wrong == []


def test_stop_at_and_mean():
    p = probabilities(7)
    full = picked(p, 100, start="mean")
    middle = symmetric_divergences(p, p.astype(np.float64).mean(0))
    assert rows_of(full)[0] == middle.argmin()
    stopped = picked(p, 100, start="mean", stop_at=float(gains_of(full)[20]) * 1.0001)
    assert rows_of(stopped) == rows_of(full)[:20]
    nearest = symmetric_divergences(p, p[rows_of(stopped)[0]])
    for row in rows_of(stopped)[1:]:
        nearest = np.minimum(nearest, symmetric_divergences(p, p[row]))
    assert nearest.max() <= float(gains_of(full)[20]) * 1.0001


@pytest.mark.parametrize("start", ["random", "mean"])
@pytest.mark.parametrize("family", ["saturated", "almost flat"])
def test_classes_side_by_side_are_as_each_alone(start, family):
    rng = np.random.default_rng(8)
    p = FAMILIES[family](rng)
    labels = (len(p) ** 0.25 * rng.random(len(p)) ** 3 * 2).astype(int)  # from a few rows to half of them
    partition = Partition.by_label(torch.from_numpy(labels), 150)
    generator = torch.Generator().manual_seed(0)
    picks = picked(p, 150, partition=partition, start=start, generator=generator, block=8)
    for g, group in enumerate(groups_of(labels)):
        rows = [int(np.flatnonzero(group == row)[0]) for row in rows_of(picks, g)]
        judgement = Judgement(Diversity(p[group]), rows, skip=1)
        judgement.check(f"class {g}", gap=1e-8, share=SHARES.get(family, 1.0) - 0.05)
        if start == "mean":
            assert rows[0] == symmetric_divergences(p[group], p[group].astype(np.float64).mean(0)).argmin()


def test_many_small_classes():
    rng = np.random.default_rng(9)
    p, labels = probabilities(9, 3000, 5), rng.integers(0, 700, 3000)
    picks = picked(p, 900, partition=Partition.by_label(torch.from_numpy(labels), 900), start="mean")
    for g in range(0, len(groups_of(labels)), 50):
        group = groups_of(labels)[g]
        rows = [int(np.flatnonzero(group == row)[0]) for row in rows_of(picks, g)]
        Judgement(Diversity(p[group]), rows, skip=1).check(f"class {g}", gap=1e-9, share=1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_divergence_is_symmetric_and_zero_for_equal_rows(family):
    p = torch.from_numpy(FAMILIES[family](rng_of(family)))[:90]
    x, logs = with_logs(p)
    pairs = symmetric_divergence((x[:, None], logs[:, None]), (x, logs))
    assert torch.equal(pairs, pairs.T)
    assert pairs.diagonal().tolist() == [0.0] * len(p)
    assert bool((pairs >= 0).all()) and bool(pairs.isfinite().all())
    assert float(pairs.max()) <= 28
    np.testing.assert_allclose(
        pairs, [symmetric_divergences(p.numpy(), row) for row in p.numpy()], rtol=1e-7, atol=0
    )
    both = [[(divergence(a, b) + divergence(b, a)) / 2 for b in p.numpy()[:9]] for a in p.numpy()[:9]]
    np.testing.assert_allclose(pairs[:9, :9], both, rtol=1e-6, atol=3e-11)


def test_one_hot_rows_are_no_nan():
    """Without a bound 0 log 0 - 0 log 1 is NaN, and a NaN wins or loses every comparison."""
    p = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 2, 3]]
    picks = picked(p, 6)
    assert rows_of(picks) == [0, 2, 3, 5, 1, 4]
    assert gains_of(picks)[1:4] == pytest.approx([np.log(1e12)] * 3, rel=1e-9)
    assert gains_of(picks)[4:].tolist() == [0, 0]


def test_mean_divergence_is_directed():
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]])
    got = mean_divergence(p, torch.tensor([[1, -1], [0, 2], [-1, -1]]))
    rows = p.numpy()
    assert got.tolist() == pytest.approx(
        [divergence(rows[1], rows[0]), (divergence(rows[0], rows[1]) + divergence(rows[2], rows[1])) / 2, 0]
    )


@pytest.mark.parametrize("tile", [None, 100])
@pytest.mark.parametrize("family", FAMILIES)
def test_mean_divergence_of_every_family(family, tile, monkeypatch):
    """Rows, copies of rows and rows with few neighbours; by whichever sum, the same to rounding."""
    if tile is not None:
        monkeypatch.setattr(divergences, "TILE_BYTES", tile)
    rng = rng_of(family)
    p = FAMILIES[family](rng)[:60]
    nearest = rng.integers(-1, len(p), (len(p), 5))
    nearest = -np.sort(-nearest, 1)
    nearest[5:9] = np.arange(5, 9)[:, None]  # of itself alone
    nearest[9] = -1
    got = mean_divergence(torch.from_numpy(p), torch.from_numpy(nearest)).numpy()
    assert (got[5:10] == 0).all()
    # Sums of p (log p - log q) round by their terms, which are larger than their sum where rows are alike.
    spread = np.abs(np.log(np.maximum(p, 1e-12))).max() + 1
    np.testing.assert_allclose(got, cal_scores(p, nearest), rtol=1e-11, atol=1e-15 * spread)


def test_mean_divergence_takes_a_logarithm_of_every_row_and_not_of_every_neighbour():
    p, nearest = torch.from_numpy(probabilities(8, 200, 30)), torch.randint(0, 200, (200, 10))
    nearest[:50] = torch.arange(50).unsqueeze(1)  # 0, which the difference of two large sums would miss
    with Watch() as watch:
        got = mean_divergence(p, nearest)
    assert (got[:50] == 0).all() and (got[50:] > 0).all()
    assert watch.numbers["log"] <= (2 * 200 + 50 * 11 + 10) * 30 < 200 * 10 * 30


# ---- rows with products --------------------------------------------------------------------------


def through_products(monkeypatch, features: np.ndarray, k: int, metric: str, **options):
    monkeypatch.setattr(engine, "FeatureDistances", ProductDistances)
    monkeypatch.setattr(
        FeatureSimilarity, "gradients", property(lambda view: Rows(view.features)), raising=False
    )
    return run("k_center", features, k, metric=metric, **options)


class Rows:
    """Plain rows with the methods of gradients that the mean needs."""

    def __init__(self, x):
        self.x = x.double()

    def __getitem__(self, rows):
        return Rows(self.x[rows])

    def weighted_sum(self, weights):
        return weights @ self.x

    def project(self, direction):
        return self.x @ direction


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("seed", range(4))
def test_product_distances_pick_what_feature_distances_pick(monkeypatch, metric, seed):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((260, 12)).astype(np.float32)
    labels = torch.from_numpy(rng.integers(0, 5, 260))
    cases = [
        dict(k=60),
        dict(k=60, block=16),
        dict(k=40, start="mean"),
        dict(k=30, preselected=[5, 9]),
        dict(k=30, preselected=rng.standard_normal((3, 12)).astype(np.float32)),
        dict(k=50, partition=Partition.by_label(labels, 50), start="mean"),
    ]
    expected = [run("k_center", features, metric=metric, **case) for case in cases]
    for case, wanted in zip(cases, expected, strict=True):
        got = through_products(monkeypatch, features, metric=metric, **case)
        assert got.rows.tolist() == wanted.rows.tolist(), case
        np.testing.assert_allclose(got.gains, wanted.gains, rtol=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_gradients_are_as_their_materialised_rows(metric):
    """k-center of factored gradients, against features that hold the same products in float64."""
    from fastcore.gradients import LastLayerGradients

    rng = np.random.default_rng(11)
    logits, h = rng.standard_normal((150, 5)).astype(np.float32), rng.standard_normal((150, 7))
    labels = torch.from_numpy(rng.integers(0, 5, 150))
    h[40], logits[40], labels[40] = h[3], logits[3], labels[3]
    gradients = LastLayerGradients.from_logits(torch.from_numpy(logits), labels, torch.from_numpy(h).float())
    delta, wide = gradients.delta.double().numpy(), np.c_[np.ones(150), gradients.h.double().numpy()]
    rows = np.einsum("nc,nd->ncd", delta, wide).reshape(150, -1)
    view = GradientSimilarity(gradients, metric)
    picks = farthest_first(view, Partition.whole(150, 150), start=0, block=16)
    judgement = Judgement(oracle.KCenter(rows, metric), rows_of(picks), skip=1)
    judgement.check(metric, gap=1e-9, share=1.0)
    check_gains(gains_of(picks)[1:], judgement.gains, metric, 1e4)
    assert rows_of(picks)[-1] == 40 and gains_of(picks)[-1] == 0, "the copy of row 3 comes last"
    outside = farthest_first(view, Partition.whole(150, 20), preselected=gradients[:4])
    assert gains_of(outside)[0] < np.inf and not set(rows_of(outside)) & set(range(4))
    middle = farthest_first(view, Partition.whole(150, 2), start="mean")
    scaled = oracle.unit_rows(rows) if metric == "cosine" else rows
    mean = scaled.mean(0)
    near = scaled @ mean if metric == "cosine" else -((scaled - mean) ** 2).sum(1)
    assert rows_of(middle)[0] == near.argmax()
