"""The ops that pick, against loops over the rule of csrc/kernels.h that share nothing with the references."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fastcore.numerics import round_to_tf32
from fastcore.ops.coverage_gains import EXCESS
from tests.ops.backends import CUDA, run, runs_on
from tests.ops.cases import CASES, Case
from tests.ops.inputs import Arguments, products_of, similarity_of

Pass = tuple[list[int], list[float]]


def pick(values: list[float], rows: list[int], floor: float) -> tuple[int, float, float] | None:
    """(position, best, tolerance) by the rule of choice."""
    best = max(values)
    if best == -np.inf:
        return None
    tolerance = 1e-12 * abs(best) + floor
    tied = [
        (row, b) for b, (row, value) in enumerate(zip(rows, values, strict=True)) if value >= best - tolerance
    ]
    return min(tied)[1], best, tolerance


def greedy(
    arguments: Arguments,
    g: int,
    values: Callable[[list[int]], list[float]],
    least: float = -np.inf,
) -> Pass:
    """Picks of set g, where `values` says from scratch what counts after some picks."""
    rows = arguments["row_ids"][g].tolist()
    floor = float(arguments["floor"][g]) if "floor" in arguments else 0.0
    limit, limit_row = float(arguments["outside"][g]), int(arguments["outside_row"][g])
    picks: list[int] = []
    gains: list[float] = []
    while len(picks) < int(arguments["budgets"][g]):
        now = [-np.inf if b in picks else value for b, value in enumerate(values(picks))]
        found = pick(now, rows, floor)
        if found is None or found[1] <= least:
            break
        p, best, tolerance = found
        if not (best - tolerance > limit or (best + tolerance >= limit and rows[p] < limit_row)):
            break
        picks.append(p)
        gains.append(now[p])
    return picks, gains


def farthest_first_block(a: Arguments, g: int) -> Pass:
    distances, nearest = a["distances"][g].double().numpy(), a["nearest"][g].numpy()
    return greedy(a, g, lambda picks: np.min([nearest, *distances[picks]], axis=0).tolist())


def graph_cut_block(a: Arguments, g: int) -> Pass:
    similarity, values = a["similarity"][g].double().numpy(), a["values"][g].numpy()

    return greedy(a, g, lambda picks: (values - a["penalty"] * similarity[picks].sum(0)).tolist())


def log_det_block(a: Arguments, g: int) -> Pass:
    """The pivot of b after picks P is s_bb - s_bP inv(S_PP) s_Pb."""
    matrix, pivots = a["schur"][g].numpy().copy(), a["pivots"][g].numpy()
    np.fill_diagonal(matrix, np.where(np.isfinite(pivots), pivots, 1.0))

    def values(picks: list[int]) -> list[float]:
        inner = np.linalg.solve(matrix[np.ix_(picks, picks)], matrix[picks])
        return (pivots - (matrix[picks] * inner).sum(0)).tolist()

    return greedy(a, g, values, least=float(a["floor"][g]))


def facility_location_block(a: Arguments, g: int) -> Pass:
    exact = a["similarity"].double().numpy()
    if a["features"] is not None:
        positions = a["positions"].numpy()
        exact = similarity_of(
            products_of(a, positions),
            positions,
            a["norms"].numpy(),
            a["scale"].numpy(),
            a["metric"],
            a["parameter"],
        )
    coverage, closed = a["coverage"][g].numpy(), a["bounds"][g].numpy() == -np.inf

    def values(picks: list[int]) -> list[float]:
        covered = np.max([coverage, *exact[g][picks]], axis=0)
        gains = [float(np.maximum(0.0, column - covered).sum()) for column in exact[g]]
        return [-np.inf if shut else gain for shut, gain in zip(closed, gains, strict=True)]

    return greedy(a, g, values)


def herding(a: Arguments, g: int) -> Pass:
    x = a["features"][g].double().numpy() * a["scale"][g].numpy()[:, None]
    norms, mean, taken = a["norms"][g].numpy(), a["mean"][g].numpy(), a["taken"][g].numpy()
    rows = list(range(len(x)))
    picks: list[int] = []
    gains: list[float] = []
    while len(picks) < int(a["budgets"][g]):
        residual = a["residual"][g].numpy() + len(picks) * mean - x[picks].sum(0)
        scores = [
            -np.inf if taken[i] or i in picks else 2 * float(x[i] @ residual) - float(norms[i]) for i in rows
        ]
        found = pick(scores, rows, float(a["floor"][g]))
        if found is None:
            break
        picks.append(found[0])
        gains.append(scores[found[0]])
    return picks, gains


def facility_location_sparse(a: Arguments, g: int) -> Pass:
    offsets, indices, values = (a[name].tolist() for name in ("offsets", "indices", "values"))
    columns = [list(zip(indices[i:j], values[i:j], strict=True)) for i, j in itertools.pairwise(offsets)]
    rows = list(range(int(a["starts"][g]), int(a["starts"][g + 1])))
    closed = a["bounds"] == -torch.inf

    def gain(column: list[tuple[int, float]], covered: list[float]) -> float:
        return sum(max(0.0, value - covered[row]) for row, value in column)

    picks: list[int] = []
    gains: list[float] = []
    covered = a["coverage"].tolist()
    while rows and len(picks) < int(a["budgets"][g]):
        now = [-np.inf if closed[j] or j in picks else gain(columns[j], covered) for j in rows]
        found = pick(now, rows, float(a["floor"][g]))
        if found is None:
            break
        picks.append(rows[found[0]])
        gains.append(now[found[0]])
        for row, value in columns[picks[-1]]:
            covered[row] = max(covered[row], value)
    return picks, gains


def graph_cut_sparse(a: Arguments, g: int) -> Pass:
    offsets, starts = a["offsets"].tolist(), a["starts"].tolist()
    similarity = np.zeros((len(a["values"]), len(a["values"])))
    for row, (begin, end) in enumerate(itertools.pairwise(offsets)):
        similarity[row, a["indices"][begin:end].numpy()] = a["weights"][begin:end].numpy()
    rows, values = list(range(starts[g], starts[g + 1])), a["values"].numpy()
    picks: list[int] = []
    gains: list[float] = []
    near = np.zeros(len(values))  # to the picks
    while rows and len(picks) < int(a["budgets"][g]):
        left = values - a["penalty"] * near
        now = [-np.inf if row in picks else float(left[row]) for row in rows]
        found = pick(now, rows, float(a["floor"][g]))
        if found is None:
            break
        picks.append(rows[found[0]])
        gains.append(now[found[0]])
        near += similarity[picks[-1]]
    return picks, gains


BRUTE = (
    farthest_first_block,
    graph_cut_block,
    log_det_block,
    facility_location_block,
    facility_location_sparse,
    graph_cut_sparse,
    herding,
)


@functools.cache
def expected_passes(op: str) -> list[tuple[Case, list[Pass]]]:
    """The passes of all cases of an op that are small enough, a pass a set."""
    brute = {function.__name__: function for function in BRUTE}[op]
    cases = [case for case in CASES if case.op == op and is_small(case)]
    return [(case, [brute(a, g) for g in range(sets_of(a))]) for case in cases for a in [case.arguments()]]


def sets_of(arguments: Arguments) -> int:
    return len(arguments["budgets"]) if "budgets" in arguments else 1


def is_small(case: Case) -> bool:
    return next(iter(case.arguments().values())).numel() <= 15000


@pytest.mark.parametrize("backend", ["reference", "cpu", "simt-forward", CUDA])
@pytest.mark.parametrize("op", [brute.__name__ for brute in BRUTE])
def test_picks_against_brute_force(op: str, backend: str) -> None:
    if not runs_on(op, backend):
        pytest.skip("this op is not for this kind of device")
    for case, passes in expected_passes(op):
        results = run(case.op, case.arguments(), backend)
        all_picks, all_gains = (results[f"output {i}"].view(len(passes), -1) for i in (0, 1))
        for g, (picks, gains) in enumerate(passes):
            rest = all_picks.shape[1] - len(picks)
            assert all_picks[g].tolist() == picks + [-1] * rest, f"{case}, set {g}"
            size = 1 + max(map(abs, gains), default=0.0)
            np.testing.assert_allclose(all_gains[g], gains + [0.0] * rest, rtol=1e-9, atol=1e-8 * size)


@pytest.mark.parametrize("backend", ["reference", "cpu", "simt-forward", CUDA])
def test_a_gain_that_float32_cannot_see_is_not_lost(backend: str) -> None:
    """A coverage between two float32 numbers: every gain is at least the exact one."""
    below = 1.0 - np.array([1e-9, 2e-8, 2.0**-25, 2.0**-30])
    arguments = {
        "similarity": torch.ones(1, 4, 4) - 2 * (1 - torch.eye(4)),
        "coverage": torch.from_numpy(below)[None],
    }
    gains = run("coverage_gains", arguments, backend)["output 0"][0].numpy()
    assert (gains >= (1.0 - below) * (1 - 1e-12)).all()
    assert (gains <= 2.0**-22).all()


@pytest.mark.parametrize("backend", ["reference", "simt-forward", CUDA])
@pytest.mark.parametrize("last", [1.0, 2.0**-23 + 2.0**-27, 3 * 2.0**-25])
def test_sums_in_float32_lose_nothing(backend: str, last: float) -> None:
    """Products that are exact, and terms that round down when they are added, or lose what is in the last bits."""
    features = torch.zeros(1, 600, 8)
    features[0, :, 0] = 1.0
    features[0, 1::2, 0] = round_to_tf32(torch.tensor(last))
    for coverage in (0.0, 1e-9, 2.0**-30, -(2.0**-25), 1 - 2.0**-27):
        covered = torch.full((1, 600), coverage, dtype=torch.float64)
        arguments = {"features": features, "candidates": features[:, :2].clone(), "coverage": covered}
        exact = (features.double() @ arguments["candidates"].double().mT - covered.unsqueeze(2)).clamp(min=0)
        gains, least = run("product_gains", arguments, backend)["output 0"], exact.sum(1)
        assert bool((gains >= least * (1 - 1e-12)).all())
        assert bool((gains <= least + EXCESS * (least + 600 * abs(coverage))).all())
