"""The methods there are, and what each one takes."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fastcore import checks
from fastcore.gradients import LastLayerGradients

_methods: dict[str, Method] = {}


@dataclass(frozen=True, eq=False)
class Validation:
    """Gradients of validation rows.

    Attributes:
        gradients: of m rows, by the same layer as those of the data.
        groups: (m,) int64 on the CPU, the ground set that each row speaks for; zeros when there is one.
    """

    gradients: LastLayerGradients
    groups: torch.Tensor


@dataclass(frozen=True)
class Context:
    """What a method is given beside its data and its options.

    Attributes:
        generator: source of randomness, on the CPU, seeded with ``seed``.
        seed: the seed of the selection.
        preselected: rows that are in the coreset already: (p,) int64 row numbers on the CPU, or (p, d)
            features (or probabilities, or gradients) of rows outside the data (one ground set only), or None.
        memory: bytes an engine may use beside the data, or None for its own choice.
        progress: to be told of every so many picks.
        validation: gradients of validation rows, for a method that takes them, or None.
        held_out: rows (m,) of the data that were drawn to validate on, and their ground sets (m,), both on the
            CPU, or None where the method draws them.
    """

    generator: torch.Generator
    seed: int
    preselected: Any
    memory: int | None
    progress: Any
    validation: Validation | None = None
    held_out: tuple[torch.Tensor, torch.Tensor] | None = None


NEEDS = (
    "similarity",
    "features",
    "probabilities",
    "gradients",
    "dynamics",
    "error_norms",
    "gradient_norms",
    "boundary_distances",
)


@dataclass(frozen=True)
class Method:
    """One way to choose rows, as ``@method`` declared it.

    Attributes:
        name: the name ``select`` knows it by.
        function: called as ``function(*needed, partition, *, context, **options)``, returns the picks.
        needs: what it looks at, one positional argument each: "similarity" is a view of pairs of rows under
            a metric, "features" (n, d) and "probabilities" (n, C) tensors, "gradients" LastLayerGradients,
            "dynamics" a record of training, and "error_norms", "gradient_norms" and "boundary_distances"
            (n,) float64. Without needs it sees nothing but the number of rows.
        signal: where a network gives both, whether similarities are those of its "embeddings" or of its
            last-layer "gradients".
        signal_options: options of ``select`` that say how what it needs is computed, and their defaults.
        validation: whether it takes validation rows: "no", "optional" or "required".
        order: what the order of the picks means: "greedy", "score" or "random".
        hard: of a score, the end where the hard rows are: "high" or "low"; otherwise None.
        weights: whether picks are weighted: "none", "cluster" (by the rows each stands for) or "own".
        prefix: whether the first j picks are the selection for a budget of j.
        metrics: the metrics it takes; the first one is its default.
        pairs: whether a precomputed matrix holds a "similarity" or a "distance".
        sparse: whether a precomputed matrix may be sparse.
        sharded: what may be spread over ranks without labels: the metrics under which one ground set may be (or
            the first of its needs, where it has no metric), and "rows" where the score of a row depends on no
            other row.
        cost: time, in terms of n rows, d features and k picks.
        paper: where the method comes from.
        options: its own options and their defaults.
        summary: the first line of its docstring.
    """

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    signal: str
    signal_options: dict[str, Any]
    validation: str
    order: str
    hard: str | None
    weights: str
    prefix: bool
    metrics: tuple[str, ...]
    pairs: str
    sparse: bool
    sharded: tuple[str, ...]
    cost: str
    paper: str
    options: dict[str, Any]
    summary: str


def method(
    name: str,
    *,
    needs: tuple[str, ...] = ("similarity",),
    signal: str = "embeddings",
    signal_options: dict[str, Any] | None = None,
    validation: str = "no",
    order: str = "greedy",
    hard: str | None = None,
    weights: str = "none",
    prefix: bool = True,
    metrics: tuple[str, ...] | None = None,
    pairs: str = "similarity",
    sparse: bool = False,
    sharded: tuple[str, ...] = (),
    cost: str = "",
    paper: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the method ``name``; see ``Method`` for the arguments.

    The keyword-only parameters of the function, other than ``context``, are the options of the method.
    Raises ValueError when the name is taken or a need is unknown.
    """
    for need in needs:
        checks.choice(f"needs of {name}", need, NEEDS)
    if metrics is None:
        metrics = ("cosine", "dot", "euclidean", "rbf", "precomputed") if "similarity" in needs else ()

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in _methods:
            other = _methods[name].function
            raise ValueError(
                f"method {name!r} is registered already, by {other.__module__}.{other.__qualname__}"
            )
        options = {
            parameter.name: parameter.default
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name != "context"
        }
        _methods[name] = Method(
            name=name,
            function=function,
            needs=needs,
            signal=signal,
            signal_options=dict(signal_options or {}),
            validation=validation,
            order=order,
            hard=hard,
            weights=weights,
            prefix=prefix,
            metrics=metrics,
            pairs=pairs,
            sparse=sparse,
            sharded=sharded,
            cost=cost,
            paper=paper,
            options=options,
            summary=(inspect.getdoc(function) or "").partition("\n")[0],
        )
        return function

    return register


def list_methods() -> list[str]:
    """Names of all methods, in alphabetical order."""
    _discover()
    return sorted(_methods)


def get_method(name: str) -> Method:
    """The method of that name. Raises ValueError, with the closest name there is, when there is none."""
    if not isinstance(name, str):
        raise TypeError(f"method must be a name, got {type(name).__name__}")
    if name not in _methods:
        _discover()
    if name not in _methods:
        close = difflib.get_close_matches(name.lower().replace("-", "_"), _methods, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the methods are {', '.join(list_methods())}"
        raise ValueError(f"unknown method {name!r}: {hint}")
    return _methods[name]


def methods_taking(option: str) -> list[str]:
    """Names of the methods that take this option."""
    return [
        name
        for name in list_methods()
        if option in _methods[name].options or option in _methods[name].signal_options
    ]


def _discover() -> None:
    """Imports every module of ``fastcore.methods``, each of which registers its method."""
    package = importlib.import_module("fastcore.methods")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
