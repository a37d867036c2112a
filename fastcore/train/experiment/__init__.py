"""Experiments: every method at every fraction for every seed, shared between processes, resumed, never redone."""

from fastcore.train.experiment.plan import Run, SelectionModel, left_out, plan
from fastcore.train.experiment.results import COLUMNS, read_results
from fastcore.train.experiment.runner import IncompleteError, run

__all__ = [
    "COLUMNS",
    "IncompleteError",
    "Run",
    "SelectionModel",
    "left_out",
    "plan",
    "read_results",
    "run",
]
