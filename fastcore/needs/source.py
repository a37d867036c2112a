"""The data of a selection: what a method needs is met from it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcore import checks, inputs, similarity
from fastcore.assignment import assign
from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.picks import Picks
from fastcore.memory import retried
from fastcore.needs.storage import kept, kept_matrix
from fastcore.registry import Context, Method
from fastcore.signals.bundle import Signals
from fastcore.signals.dynamics import Dynamics

NORMS = ("error_norms", "gradient_norms", "boundary_distances")
_WORDS = {
    "similarity": "features (n, d), LastLayerGradients or Signals",
    "features": "features, Signals(embeddings=...)",
    "probabilities": "probabilities (n, C) or Signals(logits=...)",
    "gradients": "LastLayerGradients(delta, h) or Signals(embeddings=..., logits=..., labels=...)",
    "dynamics": "the dynamics of a DynamicsRecorder",
    "error_norms": "one norm a row, dynamics, gradients, or Signals(logits=..., labels=...)",
    "gradient_norms": "one norm a row, gradients, or Signals(embeddings=..., logits=..., labels=...)",
    "boundary_distances": "one distance a row",
}


class Source:
    """The data of a selection, checked, from which the needs of a method are met.

    Attributes:
        held: a table (n, d), a matrix (n, n), values (n,), LastLayerGradients, Signals or Dynamics.
        device: where the selection runs.
        labels: (n,) int64 that came with the data, or None.
        signal: "embeddings" or "gradients" where similarities are taken from Signals, otherwise None.
        whole: whether these are all rows.
    """

    whole = True

    def __init__(
        self,
        method: Method,
        data: Any,
        metric: str | None,
        device: Any,
        signal: str | None,
        storage: str | None = None,
    ) -> None:
        self.method, self.metric, self._storage = method, metric, storage
        self._given: list[Any] = []
        self.labels: Tensor | None = data.labels if isinstance(data, Signals) else None
        self.signal = _signal(method, data, signal)
        if storage is not None:
            self._check_storage(data)
        whole = isinstance(data, Signals | Dynamics)
        if metric == "precomputed" and method.needs and (whole or isinstance(data, LastLayerGradients)):
            raise TypeError(f"metric='precomputed' needs a {method.pairs} matrix, got {type(data).__name__}")
        self.held: Any = data
        # What is known of `held` since it was checked: see `similarity.view`.
        self._known: dict[str, Any] = {}
        if not whole:
            self.held, self._known = _coerced(method, data, metric, device, storage, self.whole)
        if isinstance(data, Signals | LastLayerGradients) and len(data) == 0:  # arrays were looked at
            raise ValueError(f"data must not be empty, got {type(data).__name__} of 0 rows")
        if isinstance(data, Dynamics) and not {"dynamics", "error_norms"} & set(method.needs or ["dynamics"]):
            raise self._missing(method.needs[0])
        own = torch.device("cpu") if isinstance(self.held, Dynamics) else self.held.device
        self.device = own if device is None else torch.device(device)

    def _check_storage(self, data: Any) -> None:
        kind = type(data).__name__
        if self.metric == "precomputed":
            kind = "a matrix"
        elif self.signal == "gradients":
            kind = "gradients"
        elif "similarity" in self.method.needs and not isinstance(data, LastLayerGradients | Dynamics):
            return
        raise ValueError(
            f"storage={self._storage!r} says how the features are kept that rows are compared by: "
            f"{self.method.name} from {kind} has none"
        )

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.held.shape[0]) if isinstance(self.held, Tensor) else len(self.held)

    def table(self) -> Any:
        """What rows are compared by: features (n, d), a matrix, or LastLayerGradients.

        Raises TypeError when the data has no such thing.
        """
        if isinstance(self.held, Signals):
            if self.signal == "gradients":
                return self._gradients("similarity")
            return self._features("similarity")
        if isinstance(self.held, Dynamics) or (isinstance(self.held, Tensor) and self.held.ndim != 2):
            raise self._missing("similarity")
        return self.held

    def codes(self, labels: Any) -> tuple[Tensor, np.ndarray]:
        """Class codes (n,) on the CPU of labels, one a row, and the classes."""
        return inputs.as_labels(labels, self.n)

    def pick(
        self,
        partition: Partition,
        context: Context,
        gamma: float | None,
        measured: dict[str, Any],
        options: dict[str, Any],
    ) -> Picks:
        """The picks of the method; `measured` are its signal options."""
        if not self._given:  # else a selection that ran out of memory is repeated
            self._given = [retried(partial(self.meet, need, gamma, measured)) for need in self.method.needs]
            if context.validation is not None:
                check_alike("validation", context.validation.gradients, self._given[0])
        picks: Picks = self.method.function(*self._given, partition, context=context, **options)
        return picks

    def owners(self, partition: Partition, indices: Tensor, gamma: float | None) -> np.ndarray:
        """For every row the position of the pick that represents it, (n,) int64."""
        needs = self.method.needs
        view = self._given[needs.index("similarity")] if "similarity" in needs else None
        view = retried(partial(self.meet, "similarity", gamma, {})) if view is None else view
        return assign(view, partition, indices, self.method.pairs).numpy()

    def meet(self, need: str, gamma: float | None, options: dict[str, Any]) -> Any:
        """The positional argument that stands for a need; options are the method's signal options."""
        if need == "similarity":
            return similarity.view(self.table(), self.metric or "euclidean", gamma, **self._known)
        if need == "features":
            return self._features(need)
        if need == "probabilities":
            return self._probabilities()
        if need == "gradients":
            return self._gradients(need)
        if need == "dynamics":
            if not isinstance(self.held, Dynamics):
                raise self._missing(need)
            return self.held
        return self._norms(need, options)

    def _features(self, need: str) -> Any:
        if isinstance(self.held, Signals) and self.held.has("embeddings"):
            embeddings = self.held.require("embeddings")
            if need != "similarity":
                return embeddings.to(self.device)
            features, self._known = kept(embeddings, self.device, self._storage)
            return features
        if not isinstance(self.held, Tensor) or self.held.ndim != 2:
            raise self._missing(need)
        return self.held

    def _probabilities(self) -> Tensor:
        if isinstance(self.held, Signals) and self.held.has("logits"):
            return self.held.probabilities.to(self.device)
        if not isinstance(self.held, Tensor) or self.method.needs[0] != "probabilities":
            raise self._missing("probabilities")
        return self.held

    def _gradients(self, need: str) -> LastLayerGradients:
        if isinstance(self.held, Signals) and self.held.has("embeddings", "logits", "labels"):
            return self.held.gradients.to(self.device)
        if not isinstance(self.held, LastLayerGradients):
            raise self._missing(need)
        return self.held

    def _norms(self, need: str, options: dict[str, Any]) -> Tensor:
        held = self.held
        if isinstance(held, Tensor) and held.ndim == 1:
            for name, value in options.items():
                if value != self.method.signal_options[name]:
                    raise ValueError(
                        f"{name} says how norms are measured, and these are given, got {name}={value!r}"
                    )
            return held
        if options.get("epoch") is not None and not isinstance(held, Dynamics):
            raise ValueError(f"epoch belongs to dynamics, got epoch={options['epoch']!r} without")
        if need == "error_norms":
            if isinstance(held, Dynamics):
                return held.error_norms(options.get("epoch"))
            if isinstance(held, Signals) and held.has("logits", "labels"):
                blank = torch.zeros(held.n, 1, device=held.require("logits").device)
                held = LastLayerGradients.from_logits(held.require("logits"), held.require("labels"), blank)
            if isinstance(held, LastLayerGradients):
                lengths: Tensor = held.delta.double().norm(dim=1)
                return lengths
        if need == "gradient_norms" and not isinstance(held, Dynamics | Tensor):
            if options.get("layers", "last") != "last":
                raise ValueError(f"{self.method.name} with layers='all' needs model= and dataset=")
            return self._gradients(need).squared_norms().sqrt()
        raise self._missing(need)

    def _missing(self, need: str) -> TypeError:
        got = type(self.held).__name__
        if isinstance(self.held, Signals):
            got = f"Signals without {' and '.join(_lacking(self.held, need))}"
        elif isinstance(self.held, Tensor):
            got = f"an array of shape {tuple(self.held.shape)}"
        model = "" if need == "dynamics" else ", or model= and dataset="
        return TypeError(f"{self.method.name} needs {_WORDS[need]}{model}, got {got}")


def prefers_gradients(method: Method, signal: str | None, possible: bool) -> bool:
    """Whether similarities are those of gradients: as asked, or as the method is defined where it can be."""
    return signal == "gradients" or (signal is None and possible and method.signal == "gradients")


def _signal(method: Method, data: Any, signal: str | None) -> str | None:
    checks.choice("signal", signal, (None, "embeddings", "gradients"))
    if "similarity" not in method.needs or not isinstance(data, Signals):
        if signal is not None:
            raise ValueError(
                f"signal={signal!r} says what to compare rows by where a model or Signals give both; "
                f"{method.name} from {type(data).__name__} has no choice"
            )
        return None
    possible = data.has("embeddings", "logits", "labels")
    return "gradients" if prefers_gradients(method, signal, possible) else "embeddings"


def _coerced(
    method: Method, data: Any, metric: str | None, device: Any, storage: str | None, whole: bool
) -> tuple[Any, dict[str, Any]]:
    """What is held of the data, and what became known of it while it was checked: see `similarity.view`."""
    if isinstance(data, LastLayerGradients):
        return data if device is None else data.to(device), {}
    need = method.needs[0] if method.needs else "similarity"
    if need in ("gradients", "dynamics") or len(method.needs) > 1:
        words = _WORDS[need] if len(method.needs) == 1 else "Signals(embeddings=..., logits=...)"
        raise TypeError(f"{method.name} needs {words}, or model= and dataset=, got {type(data).__name__}")
    if need == "probabilities":
        return inputs.as_probabilities(data, device), {}
    if need in NORMS:
        return inputs.as_values(data, device), {}
    if metric != "precomputed":
        if not method.needs or need != "similarity":  # no row is looked at, and no native library needed
            return inputs.as_features(data, device), {}
        return kept(inputs.as_table(data), device, storage)
    table, known = kept_matrix(data, device, method.pairs, whole)
    if table.layout != torch.strided and not method.sparse:
        raise TypeError(
            f"{method.name} needs a dense matrix, got a sparse one: use data.toarray() or to_dense()"
        )
    return table, known


def check_alike(name: str, others: LastLayerGradients, gradients: LastLayerGradients) -> None:
    """Raises ValueError unless the gradients are of one last layer."""
    if (others.classes, others.width) != (gradients.classes, gradients.width):
        raise ValueError(
            f"{name} gradients must be of {gradients.classes} classes and width {gradients.width} like data, got "
            f"{others.classes} and {others.width}"
        )


def _lacking(signals: Signals, need: str) -> list[str]:
    wanted = {
        "probabilities": ["logits"],
        "gradients": ["embeddings", "logits", "labels"],
        "gradient_norms": ["embeddings", "logits", "labels"],
        "error_norms": ["logits", "labels"],
    }.get(need, ["embeddings"])
    return [name for name in wanted if not signals.has(name)] or [need]
