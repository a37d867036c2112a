"""Rows beside the data: validation rows, and rows that are in the coreset already."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcore import inputs
from fastcore.arrays import as_tensor
from fastcore.gradients import LastLayerGradients
from fastcore.needs.extraction import EXTRACTION
from fastcore.needs.source import Source
from fastcore.registry import Method, Validation
from fastcore.signals.bundle import Signals
from fastcore.signals.extract import compute


def preselected_of(preselected: Any, source: Source, sets: int) -> Any:
    """Row numbers (p,) int64, rows outside the data of the kind that is compared, or None when there are none.

    Outside rows are features (p, d) float32, probabilities (p, C) or gradients.
    """
    if preselected is None or (hasattr(preselected, "__len__") and len(preselected) == 0):
        return None
    gradients = isinstance(preselected, LastLayerGradients)
    if not gradients:
        given = as_tensor(preselected, "preselected")
        if given.ndim != 2:
            return inputs.as_rows(given, source.n, "preselected")
    name, needs = source.method.name, source.method.needs
    # A score looks at one row at a time; a greedy choice by probabilities compares them.
    probabilities = needs == ("probabilities",) and source.method.order == "greedy"
    kind = "probabilities" if probabilities else "features"
    if needs and "similarity" not in needs and not probabilities:
        raise ValueError(f"preselected must be row numbers for {name}, got outside rows: it compares no rows")
    if source.metric == "precomputed":
        raise ValueError("preselected must be row numbers when metric='precomputed', got a 2-D array")
    if sets > 1:
        raise ValueError(
            f"preselected {kind} need one ground set, got {sets} classes: use row numbers or balance=False"
        )
    table = source.meet("probabilities", None, {}) if probabilities else source.table()
    if gradients != isinstance(table, LastLayerGradients):
        wanted, got = (kind, "LastLayerGradients") if gradients else ("LastLayerGradients", kind)
        raise TypeError(f"preselected must be row numbers or {wanted} like data, got {got}")
    if gradients:
        if (preselected.classes, preselected.width) != (table.classes, table.width):
            raise ValueError(
                f"preselected gradients must be of {table.classes} classes and width {table.width} like data, "
                f"got {preselected.classes} and {preselected.width}"
            )
        return preselected.to(table.device)
    read = inputs.as_probabilities if probabilities else inputs.as_features
    outside = read(given, table.device, "preselected")
    if outside.shape[1] != table.shape[1]:
        raise ValueError(
            f"preselected {kind} must have {table.shape[1]} columns like data, got {outside.shape[1]}"
        )
    return outside


def validation_of(
    method: Method,
    validation: Any,
    model: Any,
    labels: tuple[Tensor, np.ndarray] | None,
    settings: dict[str, Any],
) -> Validation | None:
    """The validation rows of a selection, grouped like its ground sets.

    ``labels`` are the codes and the classes of the data when the selection is balanced. Raises ValueError when
    the method wants none or cannot do without, and for a class that the data lacks.
    """
    if validation is None:
        return None
    if method.validation == "no":
        raise ValueError(
            f"{method.name} takes no validation rows, got validation={type(validation).__name__}"
        )
    own: Any = None
    if model is not None and not isinstance(validation, LastLayerGradients | Signals):
        validation = compute(model, validation, ("gradients",), **(EXTRACTION | settings))
    if isinstance(validation, Signals):
        own, gradients = validation.labels, validation.gradients
    elif isinstance(validation, LastLayerGradients):
        gradients = validation
    elif (
        isinstance(validation, tuple)
        and len(validation) == 2
        and isinstance(validation[0], LastLayerGradients)
    ):
        gradients, own = validation
    else:
        raise TypeError(
            "validation must be LastLayerGradients, a pair of them and their labels, Signals, or with model= a "
            f"data set, got {type(validation).__name__}"
        )
    groups = torch.zeros(gradients.n, dtype=torch.int64, device="cpu")
    if labels is not None:
        if own is None:
            raise ValueError(
                "validation needs labels in a balanced selection: pass Signals, or (gradients, labels)"
            )
        groups = _groups(own, gradients.n, labels[1])
    return Validation(gradients, groups)


def _groups(own: Any, n: int, classes: np.ndarray) -> Tensor:
    codes, mine = inputs.as_labels(own, n)
    unknown = ~np.isin(mine, classes)
    if unknown.any():
        raise ValueError(f"validation labels must be classes of the data, got {mine[unknown].tolist()[0]!r}")
    return torch.from_numpy(np.searchsorted(classes, mine))[codes]
