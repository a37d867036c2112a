"""Training on coresets: the protocol of the DeepCore paper, from a data set to a table and a plot."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcore.train import datasets, experiment, networks, report
    from fastcore.train.config import DataConfig, ExperimentConfig, MethodConfig, SelectionConfig, TrainConfig
    from fastcore.train.reading import dump, load
    from fastcore.train.reselection import ReselectingLoader, Reselection
    from fastcore.train.training import TrainingResult, evaluate, fit

__all__ = [
    "DataConfig",
    "ExperimentConfig",
    "MethodConfig",
    "ReselectingLoader",
    "Reselection",
    "SelectionConfig",
    "TrainConfig",
    "TrainingResult",
    "datasets",
    "dump",
    "evaluate",
    "experiment",
    "fit",
    "load",
    "networks",
    "report",
]

_PACKAGES = ("datasets", "experiment", "networks", "report")
_HOMES = {
    "DataConfig": "config",
    "ExperimentConfig": "config",
    "MethodConfig": "config",
    "SelectionConfig": "config",
    "TrainConfig": "config",
    "dump": "reading",
    "load": "reading",
    "ReselectingLoader": "reselection",
    "Reselection": "reselection",
    "TrainingResult": "training",
    "evaluate": "training",
    "fit": "training",
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"fastcore.train.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastcore.train' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastcore.train.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
