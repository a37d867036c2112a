"""Runs a case on a backend: CPU kernels, CUDA kernels on the stand-in or on a card, or the reference."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastcore.ops import active_backend, use_backend
from tests.ops.inputs import Arguments
from tests.simt import build

MUTATED = {
    "nearest_update": ("nearest", "owner", "second"),
    "farthest_first_block": ("nearest",),
    "graph_cut_block": ("values",),
    "log_det_block": ("pivots",),
    "herding": ("residual", "taken"),
    "matching_pursuit": ("taken", "correlations", "columns", "whitener", "picks", "gains", "weights"),
    "refine_products": ("products",),
    "facility_location_block": ("coverage", "bounds"),
    "facility_location_factored": ("coverage", "bounds"),
    "facility_location_sparse": ("coverage", "bounds"),
    "graph_cut_sparse": ("values",),
    "linear_cut": ("values",),
    "deepfool_step": ("nearest", "step"),
    "euclidean_tile": ("out",),
}
"""The arguments that an op changes."""

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)

GRID = ("linear_cut", "facility_location_block", "coverage_gains")
"""The ops whose CUDA kernels work with the whole grid on one large set: "-grid" behind a backend asks for that."""

CPU_ONLY = (
    "asymmetry",
    "coordinates",
    "euclidean_tile",
    "facility_location_factored",
    "factored_columns",
    "factored_coordinates",
    "factored_project",
    "factored_sum",
    "nearest_factored",
)

CUDA_ONLY = ("product_gains",)

Results = dict[str, Any]


def op_of(name: str) -> Callable[..., Any]:
    return getattr(importlib.import_module(f"fastcore.ops.{name}"), name)


def reference_of(name: str) -> Callable[..., Any]:
    return getattr(importlib.import_module(f"fastcore.ops.{name}"), f"{name}_reference")


def require(backend: str) -> str:
    """The name for `use_backend`; skips what this machine lacks or $FASTCORE_BACKEND leaves out."""
    kind = backend.partition("-")[0]
    only = os.environ.get("FASTCORE_BACKEND") or "auto"
    if only not in ("auto", kind):
        pytest.skip(f"FASTCORE_BACKEND={only}")
    if kind == "reference":
        return kind
    try:
        if kind == "simt":
            build.load()
        with use_backend(kind):
            active_backend("cuda" if kind == "cuda" else "cpu")
    except (RuntimeError, build.UnavailableError) as missing:
        pytest.skip(str(missing))
    return kind


def runs_on(op: str, backend: str) -> bool:
    return backend == "reference" or op not in (CUDA_ONLY if backend == "cpu" else CPU_ONLY)


def run(name: str, arguments: Arguments, backend: str) -> Results:
    """What the op returns and the arguments it changes, on the CPU; `arguments` stay as they are."""
    kind = require(backend)
    device = "cuda" if kind == "cuda" else "cpu"
    mine = {key: _copy(value, device) for key, value in arguments.items()}
    with pytest.MonkeyPatch.context() as patch:
        asked = backend.split("-")[1:]
        patch.setenv("FASTCORE_SIMT_SCHEDULE", next((word for word in asked if word != "grid"), "forward"))
        if "grid" in asked:
            patch.setenv("FASTCORE_GRID_ROWS", "0")
        with use_backend(kind):
            returned = op_of(name)(**mine)
    return collect(name, returned, mine)


def run_reference(name: str, arguments: Arguments) -> Results:
    mine = {key: _copy(value, "cpu") for key, value in arguments.items()}
    return collect(name, reference_of(name)(**mine), mine)


def collect(name: str, returned: Any, arguments: Arguments) -> Results:
    outputs = returned if isinstance(returned, tuple) else () if returned is None else (returned,)
    results: Results = {f"output {i}": value.cpu() for i, value in enumerate(outputs)}
    return results | {key: arguments[key].cpu() for key in MUTATED.get(name, ())}


def _copy(value: Any, device: str) -> Any:
    """A copy with the same strides: a slice of columns stays one."""
    if not isinstance(value, Tensor):
        return value
    whole = value if value._base is None else value._base
    copy = whole.to(device, copy=True)
    return copy.as_strided(value.shape, value.stride(), value.storage_offset())


def parameters(name: str) -> list[str]:
    return list(inspect.signature(op_of(name)).parameters)


def magnitude(arguments: Arguments) -> float:
    """A number that no value of the case exceeds by much: rounding is measured against it."""
    sizes = [1.0]
    for value in arguments.values():
        if isinstance(value, Tensor) and value.is_floating_point():
            finite = value[torch.isfinite(value)]
            sizes += [float(finite.abs().max())] if len(finite) else []
    return max(sizes)
