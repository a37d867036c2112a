"""One numeric check of every native op against its reference, run once after a build."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastcore.numerics import round_to_tf32
from fastcore.ops.codes import encode
from fastcore.ops.coverage_gains import EXCESS

SETS, ROWS, WIDTH, BLOCK, MOST = 2, 37, 19, 11, 5


@dataclass(frozen=True)
class Case:
    """Arguments of one op, and which of its outputs and changed arguments its definition fixes: to `rtol`, where
    rounding in float64 or float32 is not all that they may differ by."""

    arguments: tuple[Any, ...]
    outputs: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    rtol: float | None = None


def cases() -> dict[str, Case]:
    """A small case for every op: two ground sets, odd sizes, no ties, the second budget smaller."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)

    features = uniform(SETS, ROWS, WIDTH, dtype=torch.float32) - 0.5
    double = features.double()
    norms = double.square().sum(-1)
    scale = norms.rsqrt()
    points = double[:, :BLOCK]
    gram = points @ points.mT
    distances = torch.cdist(points, points).square()
    row_ids = torch.arange(BLOCK).repeat(SETS, 1)
    budgets = torch.tensor([MOST, MOST - 2])
    nothing = torch.full((SETS,), -torch.inf, dtype=torch.float64)
    block = (row_ids, budgets, nothing, torch.full((SETS,), ROWS))
    floor = torch.full((SETS,), 1e-12, dtype=torch.float64)
    similarity = 0.5 + 0.5 * (points @ double.mT) * scale[:, :BLOCK, None] * scale[:, None]
    coverage = uniform(SETS, ROWS)
    bounds = torch.full((SETS, BLOCK), float(ROWS), dtype=torch.float64)
    float_norms = norms.float()
    halves = (features * 8).round()[:, :, :16].contiguous()  # whole numbers, exact in every type
    nearest = uniform(SETS, ROWS, dtype=torch.float32) * 4
    # Three rows for each candidate, of its own one of two sets.
    start = torch.where(torch.arange(ROWS) < BLOCK, 0, BLOCK).unsqueeze(1)
    size = torch.where(start == 0, BLOCK, ROWS - BLOCK)
    entries = (start + (torch.arange(ROWS).unsqueeze(1) + torch.arange(3)) % size).flatten()
    left_out, everyone = features[..., 9:].norm(dim=-1) * 1.001, torch.arange(ROWS).repeat(SETS, 1)
    coordinates = torch.stack([features[..., 0] * scale.float(), torch.full((SETS, ROWS), 2.0)], 1)
    return {
        "project": Case((features, uniform(SETS, WIDTH)), (0,)),
        "squared_norms": Case((features,), (0,)),
        "weighted_sum": Case((features, uniform(SETS, ROWS)), (0,)),
        "nearest_update": Case(
            (
                (double @ points.mT).float(),
                float_norms,
                float_norms[:, :BLOCK].contiguous(),
                nearest,
                torch.zeros(SETS, ROWS, dtype=torch.int64),
                nearest + 1,
                3,
            ),
            changed=(3, 4, 5),
        ),
        "farthest_first_block": Case((distances, uniform(SETS, BLOCK) * 9, *block, MOST), (0, 1), (1,)),
        "graph_cut_block": Case((gram, uniform(SETS, BLOCK), *block, floor, 0.3, MOST), (0, 1), (1,)),
        "graph_cut_sparse": Case(
            (torch.arange(ROWS + 1) * 3, entries.view(ROWS, 3).sort(1).values.flatten(), uniform(3 * ROWS))
            + (uniform(ROWS), torch.tensor([0, BLOCK, ROWS]), budgets, floor, 0.3, MOST),
            (0, 1),
            (3,),
        ),
        "linear_cut": Case(
            (features, double[:, :, :3].float().contiguous(), scale, coordinates, uniform(SETS, ROWS))
            + (budgets, floor, 0.003, 1e-5, MOST),  # so little that the call does not end early
            (0, 1),
        ),
        "log_det_block": Case(
            (gram, gram.diagonal(dim1=1, dim2=2).clone(), *block, floor, MOST), (0, 1, 2), (1,)
        ),
        "herding": Case(
            (
                features,
                *encode(features, scale, ROWS),
                scale,
                torch.ones_like(norms),
                (double * scale[..., None]).mean(1),
                uniform(SETS, WIDTH),
                torch.zeros(SETS, ROWS, dtype=torch.uint8),
                budgets,
                floor,
                MOST,
            ),
            (0, 1),
            (7, 8),
        ),
        "matching_pursuit": Case(
            (
                features[..., :3].contiguous(),
                features[..., 3:].contiguous(),
                coverage - 0.3,
                torch.tensor([[0.5, 1e-3, 1e-3, 1e-12, 1e9]], dtype=torch.float64).repeat(SETS, 1),
                budgets,
                torch.zeros(SETS, ROWS, dtype=torch.uint8),
                coverage - 0.3,
                torch.zeros(SETS, MOST, ROWS, dtype=torch.float64),
                torch.zeros(SETS, MOST, MOST, dtype=torch.float64),
                torch.full((SETS, MOST), -1),
                torch.zeros(SETS, MOST, dtype=torch.float64),
                torch.zeros(SETS, MOST, dtype=torch.float64),
                3 * MOST,
            ),
            (0,),
            (5, 6, 7, 9, 10, 11),
        ),
        "coverage_gains": Case((similarity.float(), coverage), (0,), rtol=EXCESS * ROWS),
        "product_gains": Case(
            (round_to_tf32(halves), round_to_tf32(halves[:, :BLOCK]), coverage), (0,), rtol=EXCESS * ROWS
        ),
        "refine_products": Case(
            ((points @ double.mT).float(), features, row_ids, uniform(SETS, ROWS, dtype=torch.float32) - 0.5),
            (0,),
            (0,),
        ),
        "facility_location_block": Case(
            (similarity.float(), features, scale, norms, None, row_ids, coverage, bounds)
            + (*block, floor, 1e-5, 1, 0.0, MOST),
            (0, 1),
            (5,),
        ),
        "coordinates": Case((features, features[:, :3].contiguous()), (0,)),
        "euclidean_tile": Case(
            ((points @ double.mT).float(), (points @ double.mT).float(), features, features)
            + (norms * (1 + norms), row_ids, similarity.float(), 0, False, 1e-6, 0.0, 1e-3, 9.0),
            (0,),
            (6,),
        ),
        "facility_location_factored": Case(
            (features, features, features[..., :9].contiguous(), left_out, norms * (1 + norms))
            + (coverage * 0, torch.full_like(coverage, torch.inf), everyone, budgets, floor)
            + (1e-5, 1e-30, 9.0, ROWS**2, SETS * ROWS**2, MOST),
            (0, 1, 3),
            (5,),
            rtol=1e-6,
        ),
        "nearest_factored": Case(
            (features[0], features[0], features[0, :, :9].contiguous(), left_out[0])
            + (
                (norms * (1 + norms))[0],
                everyone,
                row_ids,
                torch.zeros(ROWS, dtype=torch.float64),
                1e-5,
                1e-30,
            ),
            (0,),
        ),
        "factored_columns": Case(
            (features, features, features[:, :3].contiguous(), features[:, 2:5].contiguous()), (0,)
        ),
        "factored_project": Case((features, features, uniform(SETS, WIDTH, WIDTH + 1)), (0,)),
        "factored_sum": Case((features, features, uniform(SETS, ROWS)), (0,)),
        "asymmetry": Case((gram.triu().float(),), (0,)),
        "factored_coordinates": Case(
            (features, features, uniform(SETS, 3, 1 + WIDTH, dtype=torch.float32))
            + (uniform(SETS, 2, 3 * WIDTH, dtype=torch.float32),),
            (0,),
        ),
        "facility_location_sparse": Case(
            (torch.arange(ROWS + 1) * 3, entries, features.abs().flatten()[: 3 * ROWS], coverage[0])
            + (torch.full((ROWS,), torch.inf, dtype=torch.float64), torch.tensor([0, BLOCK, ROWS]))
            + (budgets, floor, MOST),
            (0, 1),
            (3,),
        ),
        "deepfool_step": Case(
            (features[0], uniform(ROWS) - 0.5, uniform(ROWS) * 0.5, uniform(ROWS, WIDTH, dtype=torch.float32))
            + (0.1,),
            changed=(2, 3),
        ),
    }


def copied(arguments: tuple[Any, ...], device: str) -> tuple[Any, ...]:
    """Fresh copies on a device, for an op that changes its arguments."""
    return tuple(a.clone().to(device) if isinstance(a, Tensor) else a for a in arguments)


def difference(case: Case, op: Callable[..., Any], reference: Callable[..., Any], device: str) -> str:
    """Run op and reference on the same arguments; "" if they agree, else what differs."""
    ours, theirs = copied(case.arguments, device), copied(case.arguments, device)
    results = [op(*ours), reference(*theirs)]
    got, wanted = (r if isinstance(r, tuple) else (r,) for r in results)
    pairs = [(f"output {i}", got[i], wanted[i]) for i in case.outputs]
    pairs += [(f"argument {i}", ours[i], theirs[i]) for i in case.changed]
    for name, one, other in pairs:
        rtol = case.rtol or (1e-5 if other.dtype == torch.float32 else 1e-9)
        if not torch.allclose(one.to(other.dtype), other, rtol=rtol, atol=rtol, equal_nan=True):
            return f"{name} differs by {float((one - other).abs().max()):.3g}"
    return ""


def failures(device: str, has_kernel: Callable[[str, str], bool]) -> dict[str, str]:
    """The ops whose native results on `device` are wrong, and how: {} if all is well."""
    found = {}
    with torch.device("cpu"), torch.no_grad():
        for name, case in cases().items():
            if not has_kernel(name, device):
                continue
            reference = getattr(importlib.import_module(f"fastcore.ops.{name}"), f"{name}_reference")
            try:
                trouble = difference(case, getattr(torch.ops.fastcore, name), reference, device)
            except Exception as error:  # whatever it is, the op cannot be used
                trouble = f"{type(error).__name__}: {error}".partition("\n")[0]
            if trouble:
                found[name] = trouble
    return found
