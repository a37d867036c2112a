"""Native ops and the choice of what runs them.

Each op is one file: a function that calls what `implementation` gives it, and its reference in plain torch,
which is its definition and runs where the native library does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

BACKENDS = ("auto", "reference", "cpu", "cuda")
NAMESPACES = {"cpu": "fastcore", "cuda": "fastcore", "simt": "fastcore_simt"}
"""Of the torch ops of a backend."""

Op = TypeVar("Op", bound=Callable[..., Any])
_chosen: ContextVar[str | None] = ContextVar("fastcore_backend", default=None)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the ops on one backend inside a `with` block.

    "auto": native kernels for the device of the tensors, the reference where there are none. "reference":
    plain torch, on any device. "cpu", "cuda": native kernels of that kind of device; a ValueError where the
    tensors are on another, a RuntimeError that says why where there are none. The default is $FASTCORE_BACKEND,
    else "auto". Raises ValueError for any other name.
    """
    token = _chosen.set(_checked(name, "backend"))
    try:
        yield
    finally:
        _chosen.reset(token)


def _checked(name: str, what: str) -> str:
    # "simt" runs the CUDA kernels on the CPU: tests load it, nothing else can.
    if name in BACKENDS or (name == "simt" and hasattr(torch.ops.fastcore_simt, "project")):
        return name
    raise ValueError(f"{what} must be one of {', '.join(BACKENDS)}, got {name!r}")


def active_backend(device: torch.device | str) -> str:
    """What runs the ops on tensors of a device: "reference", "cpu" or "cuda".

    Builds and loads the native library if the answer needs it.
    """
    kind = torch.device(device).type
    name, what = _chosen.get(), "backend"
    if name is None:
        what = "FASTCORE_BACKEND"
        name = _checked(os.environ.get(what) or "auto", what)
    if name in ("reference", "simt"):
        return name
    if name == "auto" and kind not in ("cpu", "cuda"):
        return "reference"
    if name not in ("auto", kind):
        raise ValueError(f"{what}={name!r} needs data on {name!r}, got it on {kind!r}: pass device={name!r}")
    from fastcore.ops import native

    problem = native.problem(kind)
    if not problem:
        return kind
    if name == "auto":
        return "reference"
    raise RuntimeError(f"the backend {name!r} is not available: {problem}; `fastcore doctor` says more")


def backend_of(name: str, device: torch.device | str) -> str:
    """What runs op `name` on a device: the active backend, or "reference" for an op that it lacks.

    Raises RuntimeError where a backend was asked for whose kernel of this op fails its self-test.
    """
    from fastcore.ops import native

    kind = torch.device(device).type
    backend = active_backend(kind)
    if backend == "reference" or not native.has_kernel(name, kind, NAMESPACES[backend]):
        return "reference"
    if trouble := native.broken(name, kind):
        if (_chosen.get() or os.environ.get("FASTCORE_BACKEND") or "auto") != "auto":
            raise RuntimeError(
                f"the backend {backend!r} was asked for, but its {name} fails the self-test: {trouble}"
            )
        return "reference"
    return backend


def implementation(name: str, reference: Op, *tensors: Tensor) -> Op:
    """What computes op `name` on tensors like these, by the first of them: the native op or `reference`."""
    backend = backend_of(name, tensors[0].device)
    if backend == "reference":
        return reference
    op: Op = getattr(getattr(torch.ops, NAMESPACES[backend]), name)
    return op
