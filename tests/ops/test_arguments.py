"""The torch glue: the schema and fake kernel of every op, and errors that name the argument."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from fastcore.ops import fakes
from tests.ops.backends import CUDA_ONLY, op_of, require
from tests.ops.cases import CASES, Case
from tests.ops.inputs import Arguments

OPS = [fake.__name__ for fake in fakes.OPS]
STATE = ("row_norms", "nearest", "owner", "second")


@pytest.fixture(autouse=True)
def native() -> None:
    require("cpu")


def native_op(op: str) -> Any:
    """The op of a library that has it for tensors on the CPU."""
    if op in CUDA_ONLY:
        require("simt")
    return getattr(torch.ops.fastcore_simt if op in CUDA_ONLY else torch.ops.fastcore, op)


@functools.cache
def first_case(op: str) -> Case:
    """The first one that has several of everything."""
    for case in CASES:
        tensors = [v for v in case.arguments().values() if isinstance(v, Tensor)] if case.op == op else []
        if tensors and all(min(value.shape) > 1 for value in tensors):
            return case
    raise LookupError(op)


def arguments_of(op: str) -> Arguments:
    arguments = first_case(op).arguments()
    if "schur" in arguments:  # opcheck compares before and after, and NaN is not equal to itself
        arguments["schur"].nan_to_num_()
    return arguments


@pytest.mark.parametrize("op", OPS)
def test_opcheck(op: str) -> None:
    torch.library.opcheck(native_op(op).default, tuple(arguments_of(op).values()))


def call_with(op: str, name: str, value: Any, expected: str) -> None:
    """The op refuses `value` for the argument `name`, and says so."""
    arguments = arguments_of(op)
    with pytest.raises(RuntimeError, match=rf"fastcore::{op}: (?=.*\b{name}\b).*{re.escape(expected)}"):
        native_op(op)(*{**arguments, name: value}.values())


LEADING = {
    *((op, next(iter(arguments_of(op)))) for op in OPS),
    *((op, "row_ids") for op in OPS),
    ("matching_pursuit", "picks"),
    ("euclidean_tile", "norms"),
    ("nearest_factored", "members"),
    *(("facility_location_sparse", name) for name in ("values", "coverage", "budgets")),
    *(("graph_cut_sparse", name) for name in ("weights", "values", "budgets")),
}
"""Arguments whose sizes are what the others are compared with."""

FREE = {
    ("coordinates", "along"): 1,
    ("facility_location_block", "features"): 2,
    ("facility_location_block", "second"): 2,
    ("euclidean_tile", "features"): 2,
    ("euclidean_tile", "second"): 2,
    ("facility_location_factored", "second"): 2,
    ("facility_location_factored", "reduced"): 2,
    ("nearest_factored", "second"): 1,
    ("nearest_factored", "reduced"): 1,
    ("nearest_factored", "picks"): 1,
    ("factored_columns", "second"): 2,
    ("factored_coordinates", "second"): 2,
    ("factored_coordinates", "second_along"): 1,
    ("factored_coordinates", "along"): 1,
    ("factored_columns", "others"): 1,
    ("factored_project", "second"): 2,
    ("factored_sum", "second"): 2,
    ("linear_cut", "second"): 2,
    ("linear_cut", "coordinates"): 1,
    ("matching_pursuit", "h"): 2,
    ("refine_products", "features"): 2,
    ("product_gains", "candidates"): 1,
}
"""Dimensions of which nothing else tells the size."""

TENSORS = [(op, name) for op in OPS for name, value in arguments_of(op).items() if isinstance(value, Tensor)]


@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_wrong_type(op: str, name: str) -> None:
    value = arguments_of(op)[name]
    call_with(op, name, value.to(torch.bfloat16), "must be")


@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_wrong_number_of_dimensions(op: str, name: str) -> None:
    call_with(op, name, arguments_of(op)[name].unsqueeze(-1), "must")


@pytest.mark.parametrize(("op", "name"), [pair for pair in TENSORS if pair not in LEADING])
def test_wrong_size(op: str, name: str) -> None:
    value = arguments_of(op)[name]
    free = FREE.get((op, name))
    for dimension in [d for d in range(value.dim()) if d != free]:
        call_with(op, name, value.narrow(dimension, 0, value.shape[dimension] - 1).contiguous(), "must")


@pytest.mark.parametrize(("op", "name"), TENSORS)
def test_not_contiguous(op: str, name: str) -> None:
    value = arguments_of(op)[name]
    strided = torch.stack([value, value], -1)[..., 0]
    expected = "must be contiguous"
    if op == "nearest_update" and name in STATE:
        expected = "must be dense in its last dimension"
    call_with(op, name, strided, expected)


@pytest.mark.parametrize("name", STATE[:1] + STATE[2:])
def test_state_with_other_strides(name: str) -> None:
    value = arguments_of("nearest_update")[name]
    wider = torch.cat([value, value, value], 1)[:, : value.shape[1]]
    call_with("nearest_update", name, wider, "must have a stride of")


def test_codes_that_a_gpu_cannot_read_16_at_a_time() -> None:
    arguments = next(a for case in CASES if (a := case.arguments()).get("codes") is not None)
    codes = arguments["codes"]
    buffer = torch.empty(codes.numel() + 16, dtype=torch.int8)
    shifted = buffer[1 : 1 + codes.numel()].view(codes.shape)
    with pytest.raises(RuntimeError, match="fastcore::herding: codes must start at a multiple of 16 bytes"):
        torch.ops.fastcore.herding(*{**arguments, "codes": shifted}.values())


@pytest.mark.parametrize("op", [op for op in OPS if "most" in arguments_of(op)])
@pytest.mark.parametrize("most", [-1, 10_000])
def test_most_out_of_range(op: str, most: int) -> None:
    call_with(op, "most", most, "must be between 0 and")


@pytest.mark.parametrize("starts", [[1, 3, 5], [0, 3, 4], [0, 6, 5]])
def test_sets_that_do_not_span_the_rows(starts: list[int]) -> None:
    arguments = arguments_of("facility_location_sparse")
    budgets, floor = (arguments[name][:2].contiguous() for name in ("budgets", "floor"))
    changed = {
        "offsets": torch.zeros(6, dtype=torch.int64),
        "indices": torch.zeros(0, dtype=torch.int64),
        "values": torch.zeros(0),
        "coverage": arguments["coverage"][:5].contiguous(),
        "bounds": arguments["bounds"][:5].contiguous(),
        "starts": torch.tensor(starts),
        "budgets": torch.zeros_like(budgets),
        "floor": floor,
        "most": 0,
    }
    with pytest.raises(RuntimeError, match="starts must ascend from 0 to 5, the number of rows"):
        torch.ops.fastcore.facility_location_sparse(*changed.values())


@pytest.mark.parametrize("metric", [-1, 5])
def test_unknown_metric(metric: int) -> None:
    call_with("facility_location_block", "metric", metric, "must be 0 to 4")


@pytest.mark.parametrize("name", ["features", "scale", "norms"])
def test_a_metric_that_lacks_features(name: str) -> None:
    arguments = arguments_of("facility_location_block")
    assert arguments["metric"] != 0
    with pytest.raises(RuntimeError, match="features, scale and norms"):
        op_of("facility_location_block")(**{**arguments, name: None})


def test_a_second_factor_without_features() -> None:
    arguments = arguments_of("facility_location_block")
    assert arguments["second"] is not None
    missing = dict.fromkeys(("features", "scale", "norms")) | {"metric": 0}
    with pytest.raises(RuntimeError, match="second must be None"):
        op_of("facility_location_block")(**{**arguments, **missing})
