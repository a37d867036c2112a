"""Other libraries on the same real similarities: the same picks, unless float32 cannot tell two rows apart.

How definitions map: apricot's graph cut is alpha * sum - redundancy, so alpha = 1 / lam and its gains are
ours / lam; submodlib's lambdaVal is our lam for graph cut and our ridge for the log-determinant.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests import oracle
from tests.greedy.judge import Judgement
from tests.greedy.support import gains_of, problem_of, rows_of, run

ROWS, K = 700, 60


@pytest.fixture(scope="module")
def similarity(digits) -> dict[str, np.ndarray]:
    """Float32 similarities of digits, symmetric, that all libraries are given."""
    features = digits[0][:ROWS]
    matrices = {metric: oracle.similarity(features, metric) for metric in ("cosine", "dot", "rbf")}
    return {metric: ((s + s.T) / 2).astype(np.float32) for metric, s in matrices.items()}


def same_picks(label: str, problem: oracle.Problem, ours: list[int], theirs: list[int]) -> None:
    """Equal up to the first step where float64 gains lie within 1e-5 of each other."""
    for step, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if our != their:
            values = problem.values()
            gap = (values[our] - values[their]) / abs(values[our])
            assert 0 <= gap < 1e-5, f"{label} step {step}: {our} is {values[our]}, {their} is {values[their]}"
            return
        problem.add(our)


def compare(label, method, s, theirs, their_gains, factor=1.0, **options):
    """Their picks are greedy under our definition, all along; ours are the same; the gains agree."""
    theirs = [int(row) for row in theirs]
    Judgement(problem_of(method, s, "precomputed", **options), theirs).check(label, gap=1e-5, share=0.0)
    picks = run(method, s, len(theirs), metric="precomputed", **options)
    same_picks(label, problem_of(method, s, "precomputed", **options), rows_of(picks), theirs)
    ours = rows_of(picks)
    shared = next((t for t, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(ours))
    assert shared >= len(ours) // 2, f"{label}: only the first {shared} picks agree"
    np.testing.assert_allclose(
        gains_of(picks)[:shared],
        factor * np.asarray(their_gains)[:shared],
        rtol=1e-3,
        atol=1e-3,
        err_msg=label,
    )


@pytest.mark.parametrize(
    ("optimizer", "metric"),
    [("naive", "cosine"), ("naive", "dot"), ("naive", "rbf"), ("lazy", "cosine"), ("lazy", "rbf")],
)
def test_apricot_facility_location(similarity, metric, optimizer):
    # Not its lazy optimizer on dot: it picks rows that are worth 0 while others are not.
    apricot = pytest.importorskip("apricot")
    s = similarity[metric]
    model = apricot.FacilityLocationSelection(K, metric="precomputed", optimizer=optimizer).fit(
        s.astype(np.float64)
    )
    compare(f"apricot {optimizer} {metric}", "facility_location", s, model.ranking, model.gains)


@pytest.mark.parametrize("metric", ["cosine", "dot", "rbf"])
@pytest.mark.parametrize("lam", [0.25, 1.0])
def test_apricot_graph_cut(similarity, metric, lam):
    apricot = pytest.importorskip("apricot")
    s = similarity[metric]
    model = apricot.GraphCutSelection(K, metric="precomputed", optimizer="naive", alpha=1 / lam).fit(
        s.astype(np.float64)
    )
    compare(f"apricot {metric} lam={lam}", "graph_cut", s, model.ranking, model.gains, factor=lam, lam=lam)


def submodlib(name: str):
    module = {
        "FacilityLocationFunction": "facilityLocation",
        "GraphCutFunction": "graphCut",
        "LogDeterminantFunction": "logDeterminant",
    }[name]
    return getattr(pytest.importorskip(f"submodlib.functions.{module}"), name)


def maximized(function, optimizer: str) -> tuple[list[int], list[float]]:
    pairs = function.maximize(
        budget=K, optimizer=optimizer, stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return [row for row, _ in pairs], [gain for _, gain in pairs]


@pytest.mark.parametrize("metric", ["cosine", "dot", "rbf"])
@pytest.mark.parametrize("optimizer", ["NaiveGreedy", "LazyGreedy"])
def test_submodlib_facility_location(similarity, metric, optimizer):
    s = similarity[metric]
    function = submodlib("FacilityLocationFunction")(n=ROWS, mode="dense", sijs=s, separate_rep=False)
    compare(f"submodlib {optimizer} {metric}", "facility_location", s, *maximized(function, optimizer))


@pytest.mark.parametrize("metric", ["cosine", "dot", "rbf"])
@pytest.mark.parametrize("lam", [0.25, 1.0])
def test_submodlib_graph_cut(similarity, metric, lam):
    s = similarity[metric]
    function = submodlib("GraphCutFunction")(n=ROWS, mode="dense", ggsijs=s, lambdaVal=lam)
    compare(f"submodlib {metric} lam={lam}", "graph_cut", s, *maximized(function, "NaiveGreedy"), lam=lam)


def test_submodlib_log_determinant(similarity):
    """On dot, whose diagonal differs from row to row: under cosine and rbf all rows tie at the first."""
    s, ridge = similarity["dot"], 0.5
    function = submodlib("LogDeterminantFunction")(n=ROWS, mode="dense", sijs=s, lambdaVal=ridge)
    compare("submodlib dot", "log_det", s, *maximized(function, "NaiveGreedy"), ridge=ridge)
