"""Selections that several processes make together and one makes alone: the data, the arguments, the shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastcore
from tests.distributed.data import data_of, features, labels, sparse, validation

CLASSES = np.array(["ant", "bee", "cat", "dog", "eel"])


@dataclass
class Case:
    """One selection: method, kind of data, budget, arguments, and how the rows are spread.

    With `small_blocks` passes take a 64th of the rows that they would, so that other rows often tie with them.
    `memory` bytes are all that tables of similarities and blocks may take.
    """

    method: str
    data: str
    k: int
    settings: dict[str, Any] = field(default_factory=dict)
    shards: str = "uneven"
    balanced: bool = False
    small_blocks: bool = False
    memory: int = 0

    def arguments(self) -> tuple[Any, dict[str, Any]]:
        """The data and the settings of `select` over all rows."""
        data, settings = self._given()
        return sparse(data, 0) if self.data.startswith("sparse") else data, settings

    def _given(self) -> tuple[Any, dict[str, Any]]:
        data, settings = data_of(self.data), dict(self.settings)
        if settings.get("preselected") == "outside":
            factored = isinstance(data, fastcore.LastLayerGradients)
            settings["preselected"] = data[5:9] if factored else features(self.data)[5:9] * 1.5
        if "validation" in settings:
            groups = [0, 1, 2, 3, 4, 0, 1] * 10 if self.balanced else [0] * 70
            settings["validation"] = validation(data), groups
        if self.balanced and not isinstance(data, fastcore.Signals):
            codes = labels(len(data))
            settings["labels"] = CLASSES[codes] if self.shards == "empty" else codes
        return data, settings

    def share(self, rank: int, size: int) -> tuple[Any, dict[str, Any]]:
        """The same for one of `size` ranks: of data and labels its own rows."""
        data, settings = self._given()
        start, stop = bounds(self.shards, len(data), size)[rank:][:2]
        if "labels" in settings:
            settings["labels"] = settings["labels"][start:stop]
        rows = data[start:stop]
        return sparse(rows, rank) if self.data.startswith("sparse") else rows, settings


def bounds(shards: str, n: int, size: int) -> list[int]:
    """Where the shards of `size` ranks begin and end: (size + 1,) row numbers."""
    if shards == "even":
        return [n * rank // size for rank in range(size + 1)]
    if shards == "uneven":  # one row on the last rank, and the first one holds most of the rest
        return [0, *([n - 1 - (size - 2) * (n // 4)] if size > 1 else []), *[n - 1] * (size > 2), n]
    return [0, 0, *[n // 3] * (size > 2), n]  # none on the first rank


_WHOLE_GRADIENTS = {
    "k_center": ("euclidean", "cosine"),
    "graph_cut": ("cosine", "dot", "euclidean", "rbf"),
    "facility_location": ("cosine", "dot", "euclidean", "rbf"),
    "craig": ("euclidean",),
    "log_det": ("cosine", "rbf"),
}
"""What may be selected from gradients over ranks as one ground set, and under which metrics."""


def _cases() -> dict[str, Case]:
    found = {}

    def add(*given: Any, **more: Any) -> None:
        case = Case(*given, **more)
        settings = "-".join(f"{key}={value}" for key, value in case.settings.items())
        parts = [case.method, case.data, "balanced" if case.balanced else "whole", settings, case.shards]
        parts += ["small blocks"] * case.small_blocks + ["lists"] * (case.memory > 0)
        found["-".join(filter(None, parts))] = case

    for shards in ("even", "uneven", "empty"):
        for data in ("random", "ties"):
            add("k_center", data, 60, {}, shards)
            add("herding", data, 40, {}, shards)
            add("graph_cut", data, 60, {}, shards)
            add("facility_location", data, 40, {}, shards)
        add("uniform", "small", 11, {}, shards, balanced=True)
        add("k_center", "random", 60, {}, shards, balanced=True)
        add("facility_location", "random", 60, {}, shards, balanced=True)
    for data in ("ties", "copies"):
        add("k_center", data, 60, {}, "even", small_blocks=True)
        add("k_center", data, 60, {"start": "mean"}, "even")
        for metric in ("cosine", "dot"):
            add("graph_cut", data, 30, {"metric": metric}, "even", small_blocks=True)
            add("facility_location", data, 5, {"metric": metric}, "even", small_blocks=True)
    add("k_center", "random", 300, {}, "even", small_blocks=True)
    add("graph_cut", "line", 60, {"metric": "dot", "lam": 2.0}, "even", small_blocks=True)
    for metric in ("euclidean", "cosine"):
        for data in ("far", "copies", "ties"):
            add("k_center", data, 30, {"metric": metric, "start": "mean"})
        add("k_center", "random", 40, {"metric": metric, "preselected": [3, 899, 450]})
        add("k_center", "random", 40, {"metric": metric, "preselected": "outside"}, "empty")
        add("k_center", "random", 40, {"metric": metric, "weights": "cluster", "seed": 4})
        add("herding", "ties", 30, {"metric": metric, "preselected": [0, 699]})
        add("herding", "random", 30, {"metric": metric, "preselected": "outside"})
        add("herding", "copies", 30, {"metric": metric})
    add("k_center", "random", 400, {"stop_at": 2.5, "start": 899})
    add("k_center", "copies", 50, {"stop_at": 1e-3})
    for metric in ("cosine", "dot"):
        for data in ("positive", "copies", "far"):
            add("graph_cut", data, 30, {"metric": metric, "lam": 0.5})
            add("facility_location", data, 20, {"metric": metric})
        add("graph_cut", "ties", 90, {"metric": metric, "lam": 0.0})
        add("graph_cut", "ties", 40, {"metric": metric, "lam": 3.0})
        for method in ("graph_cut", "facility_location"):
            add(method, "random", 30, {"metric": metric, "preselected": [3, 899, 450]})
            add(method, "random", 30, {"metric": metric, "preselected": "outside"}, "empty")
            add(method, "positive", 30, {"metric": metric, "weights": "cluster"})
        add("facility_location", "positive", 400, {"metric": metric, "stop_at": 0.95})
        add("facility_location", "ties", 400, {"metric": metric, "stop_at": 0.6})
    for metric in ("euclidean", "cosine", "dot", "rbf"):
        for method in ("graph_cut", "facility_location", "log_det"):
            add(method, "ties", 50, {"metric": metric}, balanced=True)
        add("graph_cut", "small", 12, {"metric": metric, "optimizer": "naive"}, balanced=True)
    for metric in ("euclidean", "dot"):
        for method in ("graph_cut", "facility_location", "log_det"):
            sampled = {"metric": metric, "optimizer": "stochastic"}
            add(method, "ties" if method == "graph_cut" else "small", 15, sampled, "empty")
    for metric in ("euclidean", "rbf"):
        for method in ("graph_cut", "facility_location"):
            add(method, "ties", 5, {"metric": metric}, "even", small_blocks=True)
            add(method, "random", 40, {"metric": metric, "preselected": [3, 899, 450]})
            add(method, "random", 40, {"metric": metric, "preselected": "outside"}, "empty")
        add("facility_location", "random", 300, {"metric": metric, "stop_at": 0.9}, "empty")
    for metric in ("cosine", "dot", "rbf"):
        add("log_det", "random", 50, {"metric": metric}, "even", small_blocks=True)
        add("log_det", "ties", 40, {"metric": metric}, "empty")
        add("log_det", "random", 40, {"metric": metric, "preselected": [3, 899, 450]})
        add("log_det", "random", 40, {"metric": metric, "preselected": "outside"}, "empty")
    add("log_det", "random", 50, {"preselected": [3, 899, 450]}, balanced=True)
    add("k_center", "ties", 50, {"preselected": [0, 1, 5, 6], "weights": "cluster"}, balanced=True)
    add("k_center", "small", 3, {"weights": "cluster"}, balanced=True)
    add("facility_location", "random", 300, {"stop_at": 0.95, "weights": "cluster"}, "empty", balanced=True)
    add("facility_location", "random", 30, {"metric": "rbf", "gamma": 0.3}, "empty", balanced=True)
    add("herding", "ties", 50, {}, "empty", balanced=True)
    for method in ("entropy", "margin", "least_confidence"):
        add(method, "probabilities", 40, {"preselected": [0, 1, 2]})
    add("entropy", "probabilities", 40, {"keep": "middle"}, "empty")
    add("entropy", "probabilities", 40, {"keep": "easy", "seed": 3}, "empty", balanced=True)
    add("contextual_diversity", "probabilities", 40, {}, "empty", balanced=True)
    for shards in ("uneven", "empty"):
        add("contextual_diversity", "probabilities", 60, {"preselected": [0, 1, 299]}, shards)
    add("contextual_diversity", "probabilities", 60, {"start": "mean"}, "even", small_blocks=True)
    add("contextual_diversity", "probabilities", 250, {"stop_at": 0.1}, "even")
    for method in ("el2n", "deepfool", "grand"):
        add(method, "norms", 33, {}, "empty")
        add(method, "norms", 33, {"ties": "row"}, balanced=True)
    add("uniform", "random", 33, {"preselected": [3, 899], "seed": 9, "weights": "cluster"})
    add("craig", "gradients", 30, {}, balanced=True)
    add("craig", "random", 30, {}, "even")
    add("facility_location", "gradients", 20, {}, "empty", balanced=True)
    add("gradmatch", "gradients", 30, {}, "empty", balanced=True)
    add("gradmatch", "gradients", 30, {"validation": "other"}, balanced=True)
    add("glister", "gradients", 30, {"validation": "other", "refresh": 2}, balanced=True)
    for shards in ("even", "uneven", "empty"):
        add("glister", "gradients", 40, {"validation": "other"}, shards)
        add("glister", "alike gradients", 60, {"validation": "other", "refresh": 25}, shards)
    add(
        "glister",
        "gradients",
        30,
        {"validation": "other", "refresh": 7, "eta": 0.5, "preselected": [3, 119, 60]},
    )
    add("glister", "alike gradients", 60, {"validation": "other", "preselected": [0, 399]}, "even")
    add("glister", "gradients", 120, {"validation": "other", "refresh": 200}, "empty")
    for shards in ("even", "uneven", "empty"):
        add("glister", "gradients", 40, {"split": 0.3, "preselected": [3, 119, 60]}, shards)
        add(
            "glister",
            "alike signals",
            150,
            {"split": 0.3, "refresh": 20, "seed": 5, "balance": False},
            shards,
        )
        add("glister", "gradients", 40, {"split": 0.3, "preselected": [3, 119, 60]}, shards, balanced=True)
        add("glister", "alike signals", 60, {"split": 0.2, "refresh": 20, "seed": 5}, shards, balanced=True)
    add("glister", "gradients", 84, {"split": 0.3}, "even")
    for data in ("gradients", "alike gradients"):
        for shards in ("even", "uneven", "empty"):
            small = shards == "even" and data == "alike gradients"
            for method, metrics in _WHOLE_GRADIENTS.items():
                for metric in metrics:
                    add(method, data, 30, {"metric": metric}, shards, small_blocks=small)
    for method, metrics in _WHOLE_GRADIENTS.items():
        for metric in metrics:
            add(method, "gradients", 25, {"metric": metric, "preselected": [3, 119, 60]})
            add(method, "gradients", 25, {"metric": metric, "preselected": "outside"}, "empty")
    for lam in (0.0, 0.4, 3.0):
        for metric in ("cosine", "dot"):
            add("graph_cut", "alike gradients", 100, {"metric": metric, "lam": lam})
    add("craig", "gradients", 120, {}, "even")
    add("craig", "gradients", 20, {"metric": "dot"}, "empty")
    add("facility_location", "gradients", 100, {"metric": "dot", "stop_at": 0.9}, "empty")
    add("facility_location", "gradients", 100, {"metric": "rbf", "stop_at": 0.9})
    add("k_center", "gradients", 40, {"start": "mean", "weights": "cluster"}, "empty")
    add("k_center", "alike gradients", 40, {"start": "mean", "metric": "cosine"})
    for method in ("graph_cut", "facility_location", "log_det"):
        lazier = {"metric": "cosine", "optimizer": "lazier_than_lazy", "epsilon": 0.3, "seed": 5}
        add(method, "gradients", 15, lazier | {"preselected": "outside"}, "empty")
        add(method, "gradients", 15, lazier | {"preselected": [3, 119, 60]}, "even")
        kind = "kernel matrix" if method == "log_det" else "lopsided matrix"
        for optimizer in ("naive", "approximate_lazy"):
            add(method, kind, 10, {"metric": "precomputed", "optimizer": optimizer}, "empty")
    add("graph_cut", "negative matrix", 10, {"metric": "precomputed", "optimizer": "approximate_lazy"})
    add("craig", "signals", 25, {"balance": False})
    given: dict[str, Any] = {"metric": "precomputed"}
    for method in ("k_center", "graph_cut", "facility_location"):
        for kind in ("lopsided matrix", "whole matrix", "kernel matrix"):
            for shards in ("even", "uneven", "empty"):
                small = shards == "even" and kind == "whole matrix"
                add(method, kind, 60, given, shards, small_blocks=small)
        add(
            method,
            "lopsided matrix",
            40,
            given | {"preselected": [3, 259, 60], "weights": "cluster"},
            "empty",
        )
        add(method, "whole matrix", 40, given | {"weights": "cluster"}, balanced=True)
        add(method, "lopsided matrix", 40, given | {"weights": "cluster"}, "empty", balanced=True)
    # No room for a table: blocks, and lists of rows that still count.
    add("facility_location", "random", 150, {"metric": "cosine"}, "even", memory=400_000)
    add("facility_location", "alike gradients", 100, {"metric": "euclidean"}, memory=100_000)
    add("facility_location", "lopsided matrix", 60, given, "empty", memory=60_000)
    for shards in ("even", "empty"):
        add("graph_cut", "negative matrix", 60, given | {"lam": 2.0}, shards)
        add("facility_location", "negative matrix", 60, given, shards)
        add("log_det", "kernel matrix", 60, given, shards, small_blocks=shards == "even")
    add("graph_cut", "negative matrix", 60, given | {"preselected": [3, 259, 60]}, small_blocks=True)
    add("log_det", "kernel matrix", 40, given | {"preselected": [3, 259, 60]})
    add("log_det", "kernel matrix", 40, given, "empty", balanced=True)
    add("k_center", "lopsided matrix", 260, given | {"stop_at": 0.02, "start": 7}, "even")
    add("facility_location", "lopsided matrix", 260, given | {"stop_at": 0.97}, "empty")
    add("uniform", "whole matrix", 20, given, "empty")
    for method in ("graph_cut", "facility_location"):
        for shards in ("even", "uneven", "empty"):
            add(method, "sparse whole matrix", 60, given | {"weights": "cluster"}, shards, balanced=True)
        more = given | {"preselected": [3, 259, 60], "weights": "cluster"}
        add(method, "sparse lopsided matrix", 40, more, "empty")
        add(method, "sparse negative matrix", 40, more)
        add(method, "sparse lopsided matrix", 40, more, balanced=True)
        add(method, "sparse whole matrix", 20, given | {"optimizer": "naive"}, "even")
        sampled = given | {"optimizer": "stochastic", "seed": 3}
        add(method, "sparse lopsided matrix", 20, sampled, "empty", balanced=True)
    add("facility_location", "sparse lopsided matrix", 260, given | {"stop_at": 0.9}, "empty")
    for method in ("craig", "graph_cut", "gradmatch", "cal", "entropy", "grand"):
        add(method, "signals", 25, {}, "empty" if method in ("cal", "graph_cut") else "uneven", balanced=True)
    for shards in ("even", "uneven", "empty"):
        add("cal", "signals", 40, {"balance": False}, shards)
        add("cal", "alike signals", 150, {"balance": False, "neighbours": 25}, shards)
    add("cal", "alike signals", 40, {"balance": False, "keep": "middle", "preselected": [3, 299, 60]}, "even")
    add("cal", "few signals", 3, {"balance": False, "keep": "easy", "ties": "row"}, "empty")
    add("gradmatch", "signals", 25, {"preselected": [0, 1, 5, 118]}, balanced=True)
    for shards in ("even", "uneven", "empty"):
        add("gradmatch", "gradients", 40, {}, shards)
        add("gradmatch", "mirrored gradients", 40, {"lam": 0.1}, shards)
        add("gradmatch", "alike gradients", 60, {"lam": 0.1}, shards)
        add("gradmatch", "gradients", 25, {"preselected": [3, 119, 60], "memory": 20_000}, shards)
    # Most of the budget is ranked, since nothing correlates any more.
    for shards in ("even", "empty"):
        add("gradmatch", "alike gradients", 330, {"preselected": [0, 399, 200]}, shards)
    add("gradmatch", "gradients", 100, {"stop_at": 1e-3}, "even")
    add("gradmatch", "gradients", 30, {"validation": "other", "stop_at": 0.5}, "empty")
    add("gradmatch", "gradients", 120, {"lam": 3.0}, "even")
    add("gradmatch", "signals", 25, {"balance": False})
    add("k_center", "signals", 25, {"signal": "embeddings", "balance": False})
    return found


CASES = _cases()
