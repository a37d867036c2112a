"""The engines on last-layer gradients: the picks of the materialised gradients, which are never formed."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastcore import memory
from fastcore.assignment import assign
from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy import batches, facility_location, gradients, graph_cut, lazy, log_det
from fastcore.greedy.picks import Picks
from fastcore.similarity import GradientSimilarity, view
from tests import oracle
from tests.greedy.judge import Judgement
from tests.greedy.support import check_gains, gains_of, rows_of

ROOT = Path(__file__).resolve().parents[2]
METRICS = ["cosine", "dot", "euclidean", "rbf"]
ENGINES = {
    "facility_location": facility_location.facility_location,
    "matrix_free": functools.partial(facility_location.facility_location, memory=1, block=24),
    "graph_cut": graph_cut.graph_cut,
    "graph_cut_strong": functools.partial(graph_cut.graph_cut, lam=6.0, block=9),
    "log_det": functools.partial(log_det.log_det, ridge=0.5),
}
KINDS = ["plain", "duplicates", "zeros", "one class", "scaled", "wide", "sure"]


def make(kind: str, seed: int = 0) -> tuple[LastLayerGradients, torch.Tensor]:
    """Gradients whose float32 materialisation is exact, since their factors have few digits, and labels."""
    n, classes, width = (90, 100, 33) if kind == "wide" else (110, 5, 12)
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    labels = np.zeros(n, np.int64) if kind == "one class" else rng.integers(0, classes, n)
    logits = rng.standard_normal((n, classes)) * 2
    logits[np.arange(n), labels] += rng.choice([0, 2, 9], n) if kind == "sure" else 1
    delta = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    delta[np.arange(n), labels] -= 1
    delta = np.round(delta * 256) / 256
    h = np.round(np.maximum(0, rng.standard_normal((n, width)) + 0.5) * 32) / 32
    if kind == "scaled":
        h *= 1024
    if kind == "zeros":
        delta[rng.random(n) < 0.3] = 0
    if kind == "duplicates":
        source = rng.integers(0, n // 3, n)
        delta, h, labels = delta[source], h[source], labels[source]
    made = LastLayerGradients(
        torch.from_numpy(delta.astype(np.float32)), torch.from_numpy(h.astype(np.float32))
    )
    return made, torch.from_numpy(labels)


def materialised(rows: LastLayerGradients) -> np.ndarray:
    """(n, C (D + 1)) float64, without fastcore."""
    delta, h = rows.delta.double().numpy(), rows.h.double().numpy()
    return np.einsum("ic,ik->ick", delta, np.hstack([np.ones((len(h), 1)), h])).reshape(len(h), -1)


def problem_of(name: str, s: np.ndarray, rows: np.ndarray, **options: Any) -> oracle.Problem:
    """The oracle of an engine on one ground set of a similarity matrix."""
    among = s[np.ix_(rows, rows)]
    if name.startswith("graph_cut"):
        return oracle.GraphCut(among, lam=6.0 if name.endswith("strong") else 1.0, **options)
    if name == "log_det":
        return oracle.LogDet(among, ridge=0.5, **options)
    return oracle.FacilityLocation(among, **options)


def judge(name: str, s: np.ndarray, picks: Picks, partition: Partition, label: str, **options: Any) -> None:
    """Every pick and every gain of every set against the float64 oracle."""
    for c, rows in enumerate(torch.split(partition.rows, partition.sizes.tolist())):
        chosen = rows_of(picks, c)
        assert len(chosen) == int(partition.budgets[c]), label
        places = [int((rows == row).nonzero()) for row in chosen]
        problem = problem_of(name, s, rows.numpy(), **options)
        judgement = Judgement(problem, places)
        judgement.check(f"{label} set {c}", 1e-9, 1.0)
        check_gains(gains_of(picks, c), judgement.gains, label, problem.size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_view_against_the_materialised_rows(kind: str, metric: str) -> None:
    rows, _ = make(kind)
    outside, _ = make(kind, seed=1)
    mine, dense = view(rows, metric), materialised(rows)
    other = view(rows.materialise(), metric)
    assert isinstance(mine, GradientSimilarity)
    expected = oracle.similarity(dense, metric)
    assert not torch.isnan(mine.diagonal()).any()
    size = max(1.0, np.abs(expected).max())
    near = 1e-6 if metric == "euclidean" else 1e-12  # the root of a difference
    every = torch.arange(rows.n)
    np.testing.assert_allclose(mine.columns(every), expected, rtol=0, atol=near * size)
    np.testing.assert_allclose(mine.diagonal(), expected.diagonal(), rtol=0, atol=near * size)
    some = torch.tensor([7, 3, 50])
    np.testing.assert_allclose(
        mine.columns(some, every[5:9]), expected[5:9][:, some], rtol=0, atol=near * size
    )
    np.testing.assert_allclose(mine.parameter, other.parameter, rtol=1e-9)
    cross = oracle.similarity(
        dense, metric, materialised(outside), mine.parameter if metric == "rbf" else None
    )
    np.testing.assert_allclose(mine.external(outside), cross, rtol=0, atol=near * size)
    np.testing.assert_allclose(
        mine.of(outside).columns(every).diagonal(), mine.of(outside).diagonal(), atol=near * size
    )


@pytest.mark.parametrize("metric", METRICS)
def test_view_to_float32_rounding(metric: str) -> None:
    generator = torch.Generator().manual_seed(0)
    delta, h = torch.randn(60, 7, generator=generator), torch.randn(60, 40, generator=generator)
    rows = LastLayerGradients(delta / 7, h)
    mine, other = view(rows, metric), view(rows.materialise(), metric)
    every = torch.arange(60)
    apart = (mine.columns(every) - other.columns(every)).abs()
    if metric == "euclidean":  # near 0 a distance is the root of rounding
        apart.fill_diagonal_(0)
    assert apart.max() <= 3e-7 * other.columns(every).abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("balanced", [False, True])
def test_picks_of_the_materialised_rows(kind: str, metric: str, name: str, balanced: bool) -> None:
    if name == "log_det" and metric == "euclidean":
        pytest.skip("c - distance is not positive semidefinite")
    rows, labels = make(kind)
    partition = Partition.by_label(labels, 30) if balanced else Partition.whole(rows.n, 30)
    picks = ENGINES[name](view(rows, metric), partition)
    label = f"{name}/{metric} {kind}"
    judge(name, oracle.similarity(materialised(rows), metric), picks, partition, label)
    same = ENGINES[name](view(rows.materialise(), metric), partition)
    assert torch.equal(picks.rows, same.rows), label
    assert torch.allclose(picks.gains, same.gains, rtol=1e-6, atol=1e-6 * float(same.gains.abs().max())), (
        label
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ENGINES)
def test_tiles_and_batches_change_nothing(metric: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "log_det" and metric == "euclidean":
        pytest.skip("c - distance is not positive semidefinite")
    rows, labels = make("plain")
    partition = Partition.by_label(labels, 40)
    expected = ENGINES[name](view(rows, metric), partition)
    monkeypatch.setattr(gradients, "TRIANGLE", 7)
    monkeypatch.setattr(gradients, "PICKS_A_PASS", {"cpu": 3})
    monkeypatch.setattr(gradients, "PICKS_TOGETHER", 2)
    with memory.sizes(tile=20_000, batch=1):
        picks = ENGINES[name](view(rows, metric), partition)
    assert torch.equal(picks.rows, expected.rows)
    assert torch.allclose(picks.gains, expected.gains, rtol=1e-9)


def test_graph_cut_sums_by_pairs_and_by_one_matrix() -> None:
    """Small sets add up pairs, large ones the gradients: n (C + D) on either side of C D."""
    rows, _ = make("wide")  # C D / (C + D) = 25
    for n in (20, 60):
        part = rows[:n]
        partition = Partition.whole(n, 10)
        for metric in ("cosine", "dot"):
            picks = graph_cut.graph_cut(view(part, metric), partition)
            judge(
                "graph_cut", oracle.similarity(materialised(part), metric), picks, partition, f"{metric} {n}"
            )


@pytest.mark.parametrize("seed", range(4))
def test_graph_cut_where_similarities_are_negative(seed: int) -> None:
    """Gains outside a block rise while opposite rows are picked: a block that took no notice would go on."""
    rng = np.random.default_rng(seed)
    delta = rng.integers(-8, 9, (150, 2)).astype(np.float32)
    rows = LastLayerGradients(delta, rng.integers(-3, 4, (150, 3)).astype(np.float32))
    partition = Partition.whole(150, 80)
    for lam in (0.5, 3.0):
        picks = graph_cut.graph_cut(view(rows, "dot"), partition, lam=lam, block=10)
        problem = oracle.GraphCut(oracle.similarity(materialised(rows), "dot"), lam=lam)
        judgement = Judgement(problem, rows_of(picks))
        judgement.check(f"lam={lam}", 1e-9, 1.0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["facility_location", "matrix_free", "graph_cut", "log_det"])
def test_preselected(metric: str, name: str) -> None:
    if name == "log_det" and metric == "euclidean":
        pytest.skip("c - distance is not positive semidefinite")
    rows, labels = make("plain")
    outside, _ = make("plain", seed=1)
    dense, partition = materialised(rows), Partition.whole(rows.n, 20)
    s = oracle.similarity(dense, metric)
    mine = view(rows, metric)
    picks = ENGINES[name](mine, partition, preselected=torch.tensor([4, 90, 31]))
    judge(name, s, picks, partition, "rows", preselected=[4, 90, 31])

    gamma = mine.parameter if metric == "rbf" else None
    cross = oracle.similarity(dense, metric, materialised(outside), gamma)
    external: Any = cross
    if name == "log_det":
        external = cross, oracle.similarity(materialised(outside), metric, gamma=gamma)
    picks = ENGINES[name](mine, partition, preselected=outside)
    judge(name, s, picks, partition, "outside", external=external)

    fixed = torch.tensor([5, 17, 18, 40])
    shared = Partition.by_label(labels, 20, preselected=fixed)
    same = ENGINES[name](view(rows.materialise(), metric), shared, preselected=fixed)
    assert torch.equal(ENGINES[name](mine, shared, preselected=fixed).rows, same.rows)


@pytest.mark.parametrize("name", ["facility_location", "graph_cut", "log_det"])
@pytest.mark.parametrize("optimizer", ["naive", "lazy", "approximate_lazy", "stochastic"])
def test_general_optimizers(name: str, optimizer: str) -> None:
    rows, labels = make("plain")
    outside, _ = make("plain", seed=1)
    partition = Partition.by_label(labels, 15)
    for part, fixed in ((partition, None), (Partition.whole(rows.n, 15), outside)):
        wanted = fixed if fixed is None else fixed.materialise()
        runs = [
            lazy.maximize(
                name,
                view(data, "cosine"),
                part,
                optimizer=optimizer,
                preselected=held,
                ridge=0.5 if name == "log_det" else None,
                generator=torch.Generator().manual_seed(1),
            )
            for data, held in ((rows, fixed), (rows.materialise(), wanted))
        ]
        assert torch.equal(runs[0].rows, runs[1].rows)
        if optimizer in ("naive", "lazy"):
            native = ENGINES[name](view(rows, "cosine"), part, preselected=fixed)
            assert torch.equal(runs[0].rows, native.rows)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("memory", [None, 1])
def test_stop_at(metric: str, memory: int | None) -> None:
    rows, labels = make("plain")
    for partition in (Partition.whole(rows.n, 100), Partition.by_label(labels, 100)):
        mine, other = (
            facility_location.facility_location(view(data, metric), partition, stop_at=0.9, memory=memory)
            for data in (rows, rows.materialise())
        )
        assert torch.equal(mine.rows, other.rows)
        assert int((mine.rows >= 0).sum()) < 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_assignment(kind: str, metric: str) -> None:
    rows, labels = make(kind)
    partition = Partition.by_label(labels, 12)
    picks = facility_location.facility_location(view(rows, metric), partition)
    indices = picks.rows.T.reshape(-1)
    indices = indices[indices >= 0]
    owners = assign(view(rows, metric), partition, indices)
    assert torch.equal(owners, assign(view(rows.materialise(), metric), partition, indices))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [*KINDS, "hostile"])
def test_float32_similarities_stay_within_their_error(kind: str, metric: str) -> None:
    if kind == "hostile":  # all terms of one sign, so that rounding does not average out
        generator = torch.Generator().manual_seed(0)
        factors = torch.rand(70, 50, generator=generator), torch.rand(70, 700, generator=generator) * 1e3
        rows = LastLayerGradients(*factors)
    else:
        rows, _ = make(kind)
    batch = next(batches.batches(Partition.whole(rows.n, 1), rows.device, 1))
    mine = view(rows, metric)
    assert isinstance(mine, GradientSimilarity)
    for limit in (1, 1 << 30):
        coverage = gradients.GradientCoverage(mine, batch, limit)
        every = torch.arange(rows.n)[None]
        shown = coverage.matrix if coverage.matrix is not None else coverage.block(every)
        exact = coverage.columns(every).mT
        worst = float((shown.double() - exact).abs().max())
        assert worst <= coverage.error, f"{worst:.3g} for {coverage.error:.3g}"
        assert torch.isfinite(shown).all()


@pytest.mark.parametrize("case", ["craig", "facility_location", "graph_cut"])
def test_memory(case: str) -> None:
    """C = 100, D = 2048, n = 5000: materialised 4.1 GB, ours 43 MB of factors and at most 94 MB more."""
    command = [sys.executable, "-m", "benchmarks.gradients", "--memory", case, "--picks", "40"]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    added = int(answer.split()[0])
    assert added <= 94e6, f"{added / 1e6:.0f} MB"
