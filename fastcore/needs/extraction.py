"""A model is run over a data set, for just what a method needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastcore import checks
from fastcore.needs.source import NORMS, Source, prefers_gradients
from fastcore.registry import Method
from fastcore.signals import items
from fastcore.signals.all_layers import gradient_norms
from fastcore.signals.deepfool import boundary_distances
from fastcore.signals.extract import compute

EXTRACTION: dict[str, Any] = {"layer": None, "batch_size": 256, "workers": 0, "amp": None, "keys": None}
"""Options of ``select`` for running a model over a data set, and their defaults; see ``signals.compute``."""


def run(
    method: Method,
    model: Any,
    dataset: Any,
    signal: str | None,
    options: dict[str, Any],
    settings: dict[str, Any],
    balance: bool,
) -> tuple[Any, Tensor | None]:
    """Runs a model over a data set for just what the method needs: data for ``Source``, and the labels.

    ``options`` are the method's signal options, ``settings`` those of ``signals.compute``, and ``balance``
    whether the labels are wanted where they take another pass. A list of models is a list of runs, whose norms
    are averaged. Raises ValueError for a method that needs a record of training,
    and for several models where one is expected.
    """
    models = list(model) if isinstance(model, list | tuple) else [model]
    if not models or not all(isinstance(each, torch.nn.Module) for each in models):
        got = "an empty list" if not models else ", ".join(sorted({type(each).__name__ for each in models}))
        raise TypeError(f"model must be a torch.nn.Module or a list of them, got {got}")
    if dataset is None:
        raise ValueError("model needs a data set to run over, got dataset=None")
    if "dynamics" in method.needs:
        raise ValueError(
            f"{method.name} needs a record of training, not a trained model: keep a DynamicsRecorder while "
            "training and pass its dynamics as data"
        )
    settings = EXTRACTION | settings
    norms = [need for need in method.needs if need in NORMS]
    if norms:
        runs = [_run_norms(method, norms[0], each, dataset, options, settings) for each in models]
        labels = runs[0][1]
        if labels is None and balance:  # these norms came without: the data set is read once more
            labels = _labels_of(dataset, settings["keys"])
        return torch.stack([values for values, _ in runs]).mean(0), labels
    if len(models) > 1:
        raise ValueError(f"{method.name} takes one model, got a list of {len(models)}")
    quantities = _quantities(method, signal, dataset, settings["keys"])
    signals = compute(models[0], dataset, quantities, **settings)
    return signals, signals.labels


def _run_norms(
    method: Method, need: str, model: Any, dataset: Any, options: dict[str, Any], settings: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    measure: Callable[..., Tensor]
    if need == "boundary_distances":
        measure = boundary_distances
    elif need == "gradient_norms" and checks.choice("layers", options["layers"], ("last", "all")) == "all":
        measure, options = gradient_norms, {}
    else:
        names = ("logits", "labels") if need == "error_norms" else ("gradients",)
        signals = compute(model, dataset, names, **settings)
        return Source(method, signals, None, None, None).meet(need, None, options), signals.labels
    for name in ("layer", "amp"):
        if settings[name] is not None:
            raise ValueError(
                f"{name} says how outputs of the model are collected, and {method.name} takes gradients of it "
                f"as it is: got {name}={settings[name]!r}"
            )
    few = {name: settings[name] for name in ("device", "keys", "progress", "batch_size", "workers")}
    return measure(model, dataset, **options, **few), None


def _labels_of(dataset: Any, keys: Any) -> Tensor | None:
    """(n,) class of every row, or None where the data set has none."""
    parts: list[Tensor] = []
    for batch in items.batches(dataset, batch_size=1024, keys=keys):
        if batch.labels is None:
            return None
        parts.append(batch.labels)
    return torch.cat(parts)


def _quantities(method: Method, signal: str | None, dataset: Any, keys: Any) -> tuple[str, ...]:
    """What ``signals.compute`` has to collect: labels whenever there are any, to balance the picks."""
    labelled = next(items.batches(dataset, batch_size=1, keys=keys)).labels is not None
    wanted = {"labels"} if labelled else set()
    for need in method.needs or ("labels",):
        if need == "gradients" or (need == "similarity" and prefers_gradients(method, signal, labelled)):
            wanted |= {"gradients"}
        elif need in ("similarity", "features"):
            wanted |= {"embeddings"}
        else:
            wanted |= {"probabilities"} if need == "probabilities" else {"labels"}
    return tuple(sorted(wanted))
