"""The op table: every op on every backend against its reference, over random and hostile inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastcore.numerics import UNIT, product_error, tensor_core_error
from fastcore.ops.coverage_gains import EXCESS
from tests.ops.backends import CUDA, GRID, Results, magnitude, run, run_reference, runs_on
from tests.ops.cases import CASES, Case
from tests.ops.inputs import Arguments, products_of, similarity_of
from tests.ops.pursuit_inputs import active_gram
from tests.ops.reduced_inputs import distances
from tests.simt import build

SUMS = ("project", "squared_norms", "weighted_sum", "factored_columns", "factored_project", "factored_sum")
OTHERS = [schedule for schedule in build.SCHEDULES if schedule != "forward"]
ROUNDING = 1e-12
"""Of sums in float64, as a fraction of the sum of the sizes of the terms."""


def assert_same(actual: Tensor, expected: Tensor, tolerance: float | Tensor, what: str) -> None:
    """Whole numbers alike, floats within the tolerance, infinities at the same places."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype, what
    if not expected.is_floating_point():
        assert torch.equal(actual, expected), what
        return
    finite = torch.isfinite(expected)
    assert torch.equal(torch.where(finite, 0.0, actual), torch.where(finite, 0.0, expected)), what
    worst = torch.where(finite, (actual - expected).abs() - tolerance, 0.0).max()
    assert worst <= 0, f"{what}: off by {float(worst):.3g} more than allowed"


@pytest.mark.parametrize("backend", ["cpu", "simt-forward", "simt-other", CUDA])
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: str(CASES[number]))
def test_against_reference(number: int, backend: str) -> None:
    case = CASES[number]
    if backend == "simt-other":  # the other schedules take turns
        backend = f"simt-{OTHERS[number % len(OTHERS)]}"
    if not runs_on(case.op, backend):
        pytest.skip("this op is not for this kind of device")
    check(case, backend)


GRID_CASES = [case for case in CASES if case.op in GRID]
IN_TURN = {case.name: build.SCHEDULES[i % len(build.SCHEDULES)] for i, case in enumerate(GRID_CASES)}


@pytest.mark.parametrize("backend", [*(f"simt-{schedule}" for schedule in build.SCHEDULES), CUDA])
@pytest.mark.parametrize("case", GRID_CASES, ids=str)
def test_the_grid_on_one_set(case: Case, backend: str) -> None:
    """What large sets take, forced on small ones: several blocks, and several pieces of work for each."""
    schedule = backend.partition("-")[2]
    if schedule not in ("", IN_TURN[case.name]) and not any(
        kind in case.name for kind in ("integer", "dupl")
    ):
        pytest.skip("the schedules take turns but for ties")
    check(case, f"{backend}-grid")


def check(case: Case, backend: str) -> None:
    arguments = case.arguments()
    actual, expected = run(case.op, arguments, backend), run_reference(case.op, arguments)
    if case.op == "facility_location_sparse":
        del actual["bounds"], actual["output 2"], expected["bounds"], expected["output 2"]
    if case.op == "linear_cut":  # it may stop early, and leaves no more than its picks
        expected = until(expected, actual["output 0"])
        del actual["values"], actual["output 2"]
    if case.op == "coverage_gains":
        least = expected["output 0"] - ROUNDING * sizes_of_gains(arguments)
        assert bool((actual["output 0"] >= least).all())
    if case.op == "product_gains" and "integer" in case.name:  # the products are exact
        assert bool((actual["output 0"] >= expected["output 0"] * (1 - ROUNDING)).all())
    if case.op == "matching_pursuit":
        check_whitener(arguments | actual, actual.pop("whitener"))
        del expected["whitener"]
    if case.op == "facility_location_block":
        # Bounds and counts depend on the order of the evaluations; what they must satisfy does not.
        check_bounds(arguments, actual, actual.pop("bounds"))
        check_evaluations(arguments, actual, actual.pop("output 2"))
        del expected["bounds"], expected["output 2"]
    if case.op == "facility_location_factored":
        check_reduced_bounds(arguments, actual, actual.pop("bounds"))
        del expected["bounds"], actual["output 2"], expected["output 2"]
    if case.op == "euclidean_tile" and int(expected["output 0"]):  # the tile is of no use
        del actual["out"], expected["out"]
    assert actual.keys() == expected.keys()
    tolerances = rounding_of(case.op, arguments, expected)
    for name, value in expected.items():
        assert_same(actual[name], value, tolerances.get(name, 0.0), name)


def until(expected: Results, picks: Tensor) -> Results:
    """The expected picks and gains of sets that stopped where `picks` did, after at least one."""
    none = (picks < 0).cummax(1).values
    assert torch.equal(none[:, 0], expected["output 0"][:, 0] < 0)
    return {
        "output 0": expected["output 0"].masked_fill(none, -1),
        "output 1": expected["output 1"].masked_fill(none, 0.0),
    }


def rounding_of(op: str, arguments: Arguments, expected: Results) -> dict[str, float | Tensor]:
    """How far each float result may be from the reference; what is not listed must be equal."""
    size = magnitude(arguments)
    if op in SUMS:
        sizes = {key: value.abs() if isinstance(value, Tensor) else value for key, value in arguments.items()}
        return {"output 0": ROUNDING * run_reference(op, sizes)["output 0"]}
    if op == "coverage_gains":
        return {"output 0": EXCESS * sizes_of_gains(arguments)}
    if op == "product_gains":
        sizes = [arguments[key].double().abs() for key in ("candidates", "features")]
        products = (sizes[0] @ sizes[1].mT).sum(2) * 2 * tensor_core_error(sizes[0].shape[2])
        coverage = arguments["coverage"].nan_to_num(posinf=0.0).abs().sum(1, keepdim=True)
        return {"output 0": products + EXCESS * (expected["output 0"] + coverage)}
    if op in ("graph_cut_block", "graph_cut_sparse"):  # a fused multiply-add rounds once instead of twice
        return dict.fromkeys(
            ("output 1", "values"), ROUNDING * size * (1 + expected["output 0"].shape[1]) / 10
        )
    if op == "log_det_block":
        return {"output 1": ROUNDING * size, "pivots": ROUNDING * size, "output 2": ROUNDING * size**0.5 * 10}
    if op == "coordinates":  # sums in float, in another order
        sizes = {key: value.abs() for key, value in arguments.items()}
        return {
            "output 0": 2
            * product_error(sizes["features"].shape[2])
            * run_reference(op, sizes)["output 0"].double()
        }
    if op == "factored_coordinates":  # likewise
        sizes = {key: value.abs() for key, value in arguments.items()}
        error = product_error(1 + sizes["second"].shape[2]) + product_error(sizes["along"].shape[2])
        return {"output 0": 2 * error * run_reference(op, sizes)["output 0"].double()}
    if op == "refine_products":  # likewise
        sizes = {"products": torch.full_like(arguments["products"], torch.nan)}
        sizes = arguments | sizes | {"features": arguments["features"].abs()}
        return {
            "products": 2
            * product_error(sizes["features"].shape[2])
            * run_reference(op, sizes)["products"].double()
        }
    if op == "euclidean_tile":  # either side of the limit of what is near
        rounding = 2 * arguments["error"] + 4 * UNIT * arguments["parameter"]
        return {"out": torch.where(expected["out"] == -7, 0.0, rounding)}
    if op == "linear_cut":
        return {"output 1": ROUNDING * (float(expected["output 1"].abs().max()) + size) * 100}
    if op == "deepfool_step":  # a step is rounded to float32 once
        return {"nearest": ROUNDING * expected["nearest"].abs(), "step": 2.0**-23 * expected["step"].abs()}
    if op == "matching_pursuit":
        scale = float(arguments["limits"][:, 3].max()) / ROUNDING  # |b| max |g|
        weight = 1e-12 * scale / float(arguments["limits"][:, 0].min())  # an error of c, without the data
        product = ROUNDING * float(expected["columns"].abs().max())
        return {"correlations": 1e-10 * scale, "gains": 1e-10 * scale, "weights": weight, "columns": product}
    if op == "herding":
        scores = ROUNDING * (float(arguments["norms"].max()) + 1) * 10
        return {"output 1": scores, "residual": ROUNDING * size * 10}
    if op in ("facility_location_block", "facility_location_factored"):
        rows = arguments["coverage"].shape[1]
        # A distance is the root of a difference: an error of 1e-16 in the square is one of 1e-8 near 0.
        near = 1e-6 if arguments.get("metric", 3) == 3 else ROUNDING
        return {"output 1": near * size * rows**0.5, "coverage": near * size}
    return {"output 1": ROUNDING * size * 100} if op == "facility_location_sparse" else {}


def sizes_of_gains(arguments: Arguments) -> Tensor:
    """The sizes of what a gain is made of, over the rows that count, with the last bit of the others."""
    similarity, coverage = arguments["similarity"].double(), arguments["coverage"].unsqueeze(1)
    sizes = similarity.abs() + coverage.abs()
    return torch.where(coverage.isfinite() & (similarity >= coverage - 2.0**-23 * sizes), sizes, 0.0).sum(2)


def exact_gains(arguments: Arguments, coverage: Tensor) -> np.ndarray:
    positions = arguments["positions"].numpy()
    if arguments["features"] is None:
        exact = arguments["similarity"].double().numpy()
    else:
        products = products_of(arguments, positions)
        sides = arguments["norms"].numpy(), arguments["scale"].numpy()
        exact = similarity_of(products, positions, *sides, arguments["metric"], arguments["parameter"])
    return np.maximum(0.0, exact - coverage.numpy()[:, None]).sum(-1)


def check_bounds(arguments: Arguments, results: Results, bounds: Tensor) -> None:
    """Closed where it was or became closed; elsewhere at least the gain left, no worse than before."""
    before = arguments["bounds"]
    closed = before == -torch.inf
    for g, picks in enumerate(results["output 0"]):
        closed[g, picks[picks >= 0]] = True
    assert torch.equal(bounds == -torch.inf, closed)
    left = torch.from_numpy(exact_gains(arguments, results["coverage"]))
    slack = 1e-6 * magnitude(arguments)
    open_ = ~closed
    assert torch.all(bounds[open_] >= left[open_] - slack)
    width = 2 * arguments["error"] * arguments["coverage"].shape[1]
    assert torch.all(bounds[open_] <= before[open_] + width + slack)


def check_reduced_bounds(arguments: Arguments, results: Results, bounds: Tensor) -> None:
    """Closed where it was or became closed; elsewhere at least the gain left."""
    closed = arguments["bounds"] == -torch.inf
    for g, picks in enumerate(results["output 0"]):
        closed[g, picks[picks >= 0]] = True
        similarity = arguments["parameter"] - distances(arguments, g)
        left = np.maximum(0, similarity - results["coverage"][g].numpy()[:, None]).sum(0)
        slack = 1e-6 * magnitude(arguments) * len(left) ** 0.5
        assert np.all(bounds[g].numpy() >= np.where(closed[g].numpy(), -np.inf, left - slack))
        if arguments["second"].shape[2] == arguments["reduced"].shape[2]:
            # All is known of the rows: a bound is larger than the gain at the start by rounding alone.
            root = (2 * arguments["relative"] * float(arguments["norms"].max())) ** 0.5
            most = first(arguments, g) + slack + len(left) * root
            assert np.all(bounds[g].numpy() <= np.where(closed[g].numpy(), -np.inf, most))
    assert torch.equal(bounds == -torch.inf, closed)


def first(arguments: Arguments, g: int) -> np.ndarray:
    """The gains at the start: bounds from all coordinates are no larger."""
    similarity = arguments["parameter"] - distances(arguments, g)
    return np.maximum(0, similarity - arguments["coverage"][g].numpy()[:, None]).sum(0)


def check_whitener(arguments: Arguments, whitener: Tensor) -> None:
    """W'W is the inverse of the Gram matrix of the active rows plus the ridge, and 0 for all others."""
    for g, active in enumerate(arguments["weights"] > 0):
        gram, rows = active_gram(arguments, g), whitener[g, : int(active.sum())]
        product = rows[:, active].mT @ rows[:, active] @ gram
        assert torch.allclose(product, torch.eye(len(gram), dtype=torch.float64), atol=1e-8)
        assert not rows[:, ~active].any()


def check_evaluations(arguments: Arguments, results: Results, evaluations: Tensor) -> None:
    """No more evaluations of a kind than candidates, a pick; none for a set that may not pick."""
    picks = (results["output 0"] >= 0).sum(1)
    block = arguments["row_ids"].shape[1]
    assert torch.all(evaluations >= 0)
    assert torch.all(evaluations <= (picks + 1).unsqueeze(1) * (block + 1))
    assert torch.all(evaluations[arguments["budgets"] == 0] == 0)
