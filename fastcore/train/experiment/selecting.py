"""The selection of a run: what its method looks at, from the networks that select, and the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import fastcore
from fastcore.needs import Source
from fastcore.registry import get_method
from fastcore.selection import Selection
from fastcore.train.experiment.models import SelectionModels
from fastcore.train.experiment.plan import NORMS, Run, SelectionModel, needs_record


@dataclass(frozen=True)
class Material:
    """What a method looks at, and what it took to make it, were it made for this run alone.

    Attributes:
        data: for ``fastcore.select``.
        options: of the method, for ``fastcore.select``: without those that went into the data.
        pretrain_seconds: training of the networks.
        signal_seconds: what they say of every row.
    """

    data: Any
    options: dict[str, Any]
    pretrain_seconds: float = 0.0
    signal_seconds: float = 0.0


def material(run: Run, models: SelectionModels, n: int) -> Material:
    """What the method of a run looks at, of n rows; networks are trained where that has not been done.

    Raises BusyError where another process does it right now, and what training and signals raise.
    """
    options = dict(run.options)
    if not run.models:
        return Material(torch.zeros(n, 1), options)
    chosen = get_method(run.method)
    pretrain = sum(models.seconds(model) for model in run.models)
    norms = next((need for need in chosen.needs if need in NORMS), None)
    if norms is not None:
        measured = {name: options.pop(name) for name in chosen.signal_options}
        found = [_norms(run, norms, measured, model, models) for model in run.models]
        values = torch.stack([each for each, _ in found]).mean(0)
        return Material(values, options, pretrain, sum(seconds for _, seconds in found))
    if needs_record(run.method, options):
        return Material(models.dynamics(run.models[0]), options, pretrain)
    signals, seconds = models.signals(run.models[0])
    return Material(signals, options, pretrain, seconds)


def choose(run: Run, made: Material, labels: Tensor, device: torch.device) -> Selection:
    """The rows of a run, balanced over the labels (n,) where it says so."""
    return fastcore.select(
        run.method,
        made.data,
        fraction=run.fraction,
        labels=labels if run.balance else None,
        balance=run.balance,
        seed=run.seed_for("selection"),
        device=device,
        progress=False,
        **made.options,
    )


def _norms(
    run: Run, need: str, options: dict[str, Any], model: SelectionModel, models: SelectionModels
) -> tuple[Tensor, float]:
    """(n,) norms or distances by one network, and the seconds they took."""
    if need == "boundary_distances":
        return models.boundary_distances(model, **options)
    if need == "gradient_norms" and options.get("layers") == "all":
        return models.gradient_norms(model)
    seconds = 0.0
    data: Any
    if needs_record(run.method, run.options):
        data = models.dynamics(model)
    else:
        data, seconds = models.signals(model)
    source = Source(get_method(run.method), data, None, None, None)
    norms: Tensor = source.meet(need, None, options)
    return norms.to("cpu"), seconds
