"""What networks say of the rows of a data set, and what their training said; the only place that meets a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcore.signals.all_layers import gradient_norms
    from fastcore.signals.bundle import Signals
    from fastcore.signals.deepfool import boundary_distances
    from fastcore.signals.dynamics import Dynamics, DynamicsRecorder
    from fastcore.signals.extract import compute

__all__ = ["Dynamics", "DynamicsRecorder", "Signals", "boundary_distances", "compute", "gradient_norms"]

_HOMES = {
    "Dynamics": "dynamics",
    "DynamicsRecorder": "dynamics",
    "Signals": "bundle",
    "boundary_distances": "deepfool",
    "compute": "extract",
    "gradient_norms": "all_layers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastcore.signals' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastcore.signals.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
