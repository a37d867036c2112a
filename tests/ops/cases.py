"""The op table: every op with its inputs, built the same way on every run."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.ops.herding_inputs import EXACT, herding
from tests.ops.inputs import (
    KINDS,
    Arguments,
    coverage_gains,
    deepfool_step,
    facility_location_block,
    farthest_first_block,
    graph_cut_block,
    linear_cut,
    log_det_block,
    nearest_update,
    project,
    squared_norms,
    weighted_sum,
)
from tests.ops.matrix_inputs import (
    asymmetry,
    coordinates,
    euclidean_tile,
    factored_columns,
    factored_coordinates,
    factored_project,
    factored_sum,
    product_gains,
    refine_products,
)
from tests.ops.pursuit_inputs import matching_pursuit
from tests.ops.reduced_inputs import facility_location_factored, nearest_factored
from tests.ops.sparse_inputs import facility_location_sparse, graph_cut_sparse

SHAPES = ((1, 1, 1), (1, 1, 33), (3, 50, 33), (2, 257, 33), (2, 40, 257), (1, 1100, 5))  # sets, rows, width
BLOCKS = ((1, 1), (1, 7), (4, 40), (2, 300))  # sets, block
LIMITS = ("open", "tight", "tied")
METRICS = range(5)  # precomputed, cosine, dot, euclidean, rbf


@dataclass(frozen=True)
class Case:
    op: str
    name: str
    build: Callable[[np.random.Generator], Arguments]

    def arguments(self) -> Arguments:
        """Fresh arguments, in the order of the op's parameters."""
        return self.build(np.random.default_rng(zlib.crc32(self.name.encode())))

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"


def _cases() -> Iterator[Case]:
    def case(op: Callable[..., Arguments], *choices: Any) -> Case:
        name = "-".join(str(c).replace("torch.", "").replace(" ", "") for c in choices)
        return Case(op.__name__, name, lambda rng: op(rng, *choices))

    for i, shape in enumerate(SHAPES):
        for kind in KINDS if 0 < i < 4 else KINDS[:2]:
            yield from (case(op, shape, kind) for op in (project, squared_norms, weighted_sum))
            sets, rows, width = shape
            yield case(coverage_gains, (sets, width, rows), kind)
            for share in (0.0, 0.03, 1.0):
                yield case(refine_products, shape, kind, min(rows, 10), share)
            yield case(linear_cut, shape, kind, min(rows, 40), 1, False)
            yield case(linear_cut, shape, kind, min(rows, 40), min(width, 7), len(kind) % 2 == 0)
            few = min(rows, 12 if sets > 1 else 3)
            yield case(herding, shape, kind, few)
            yield case(herding, shape, kind, few, (100, 3)[i % 2])
            yield case(deepfool_step, shape, kind)
    for i, shape in enumerate(((1, 1, 8), (3, 33, 16), (2, 257, 40), (1, 600, 72), (1, 70, 136))):
        for j, kind in enumerate(KINDS if i > 1 else KINDS[:2]):  # one tile and less, and several each way
            yield case(product_gains, shape, kind, (1, 129, 3, 140)[(i + j) % 4], (i + j) % 2 == 0)
    for i, (sets, rows, width) in enumerate(((1, 1, 1), (3, 37, 33), (2, 150, 5), (1, 300, 40))):
        for kind in KINDS if i else KINDS[:2]:
            yield case(matching_pursuit, (sets, rows, width), kind, min(rows, 25), False)
            yield case(matching_pursuit, (sets, rows, width), kind, min(rows, 25), True)
    yield case(linear_cut, (2, 200, 6), "random", 40, 3, True)  # measured by the sum of the picks
    yield case(linear_cut, (2, 200, 60), "random", 20, 3, True)  # and by each of them
    yield case(herding, (2, 5, 3), "integer", 5)  # a set runs out of rows
    yield case(herding, (2, 5, 3), "integer", 5, 100)
    yield case(herding, (1, 17000, 1), "integer", 2)  # more tiles of rows than threads
    yield case(herding, (1, 17000, 1), "random", 2, 100)
    yield case(herding, (1, 300, 20), "random", 40, 100)
    yield case(herding, (1, 3000, 20), "random", 40, EXACT)
    yield case(herding, (3, 300, 530), "duplicates", 9, 5)  # more columns than a warp reads at once
    for i, picks in enumerate((1, 2, 3, 16, 17, 70)):
        for j, kind in enumerate(KINDS):
            sets, rows = 1 + (i + j) % 3, (1, 33, 300)[(i + 2 * j) % 3]
            yield case(nearest_update, sets, rows, picks, kind, (i + j) % 2 == 0)
    for i, (sets, block) in enumerate(BLOCKS):
        for j, kind in enumerate(KINDS):
            for k, limits in enumerate(LIMITS):
                dtype = (torch.float32, torch.float64)[(i + j + k) % 2]
                yield case(farthest_first_block, sets, block, kind, limits, dtype)
                yield case(graph_cut_block, sets, block, kind, limits, dtype)
                yield case(log_det_block, sets, block, kind, limits)
                metric = (i + j + k) % len(METRICS)
                few = min(block, 60)
                rows = (1, 2, 5, 9)[i] * few
                factored = (j + k) % 2 == 0
                yield case(facility_location_block, sets, few, rows, kind, limits, metric, factored)
    yield case(graph_cut_block, 4, 40, "integer", "near", torch.float64)
    yield case(log_det_block, 4, 40, "integer", "near")
    yield from (case(facility_location_block, 4, 40, 60, "integer", "near", metric) for metric in METRICS)
    yield case(log_det_block, 1, 200, "random", "open", 140)  # more picks than the small block has threads
    for metric in METRICS:
        yield case(facility_location_block, 2, 30, 75, "duplicates", "open", metric)
        yield case(facility_location_block, 2, 30, 75, "integer", "open", metric)
        yield case(facility_location_block, 2, 30, 75, "duplicates", "open", metric, True)
        yield case(facility_location_block, 2, 30, 75, "integer", "tied", metric, True)
    yield case(facility_location_block, 1, 20, 2100, "random", "open", 1)  # the large block of threads
    yield case(facility_location_block, 1, 20, 2100, "random", "open", 3, True)
    for i, kind in enumerate(KINDS):
        yield from (
            case(coordinates, shape, kind, (1, 3, 16, 17, 40)[(i + j) % 5]) for j, shape in enumerate(SHAPES)
        )
        for shape, width in zip(SHAPES, (1, 2, 7, 8, 40, 17), strict=True):
            yield case(factored_columns, shape, kind, width, 1 + (5 * width + i) % 19)
            yield case(
                factored_coordinates, shape, kind, width, (1, 3, 8, 17)[(width + i) % 4], 1 + width % 10
            )
            yield case(factored_project, shape, kind, width)
            yield case(factored_sum, shape, kind, width)
    for kind in KINDS:
        for mirror in (False, True):
            yield case(euclidean_tile, (2, 90, 7), kind, (40, 69, 21), mirror)
        yield case(euclidean_tile, (1, 300, 3), kind, (33, 150, 10), False)
        yield case(euclidean_tile, (1, 300, 3), kind, (33, 150, 150), True)
    yield case(euclidean_tile, (1, 1, 1), "random", (1, 1, 0), True)
    for kind in KINDS:
        for covered in (False, True):
            for dimensions in (2, 9):
                yield case(facility_location_factored, (4, 70, 3), kind, 9, dimensions, covered)
            yield case(facility_location_factored, (1, 150, 11), kind, 40, 20, covered)
        yield case(nearest_factored, 90, 3, kind, 9, 4, 3)
        yield case(nearest_factored, 203, 11, kind, 40, 20, 1)
    yield case(facility_location_factored, (1, 1, 1), "random", 1, 1, False)
    yield case(nearest_factored, 1, 1, "random", 1, 1, 1)
    for i, rows in enumerate((1, 7, 8, 31, 515, 1030)):
        yield from (case(asymmetry, 1 + i % 3, rows, changes) for changes in (0, 1, 20))
        yield from (case(asymmetry, 1 + i % 3, rows, 1, odd) for odd in (math.inf, -math.inf, math.nan))
    for i, kind in enumerate(KINDS):
        # Sets by their rows: one, none, a node of the tree more or less, three levels of it.
        sizes = ((1,), (40,), (0, 31, 1, 0, 33, 32, 64, 7), (5, 0), (1100, 2))
        for op in (facility_location_sparse, graph_cut_sparse):
            yield from (case(op, each, 0.3, kind) for each in sizes[: 5 if i < 3 else 3])
    for kind in ("random", "integer"):  # lists so long that the large block of threads takes them
        yield case(facility_location_sparse, (40, 400), 1.0, kind)
        yield case(graph_cut_sparse, (40, 80), 1.0, kind)


CASES = tuple(_cases())
