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

_methods: dict[str, Method] = {}


@dataclass(frozen=True)
class Context:
    """What a method is given beside its data and its options.

    Attributes:
        generator: source of randomness, on the CPU, seeded with ``seed``.
        seed: the seed of the selection.
        preselected: rows that are in the coreset already: (p,) int64 row numbers on the CPU, or (p, d)
            float32 features of rows outside the data (one ground set only), or None.
        memory: bytes an engine may use beside the data, or None for its own choice.
        progress: to be told of every so many picks.
    """

    generator: torch.Generator
    seed: int
    preselected: torch.Tensor | None
    memory: int | None
    progress: Any


@dataclass(frozen=True)
class Method:
    """One way to choose rows, as ``@method`` declared it.

    Attributes:
        name: the name ``select`` knows it by.
        function: called as ``function(view, partition, *, context, **options)``, returns the picks.
        needs: what it looks at: "features", or "nothing" but the number of rows.
        order: what the order of the picks means: "greedy", "score" or "random".
        prefix: whether the first j picks are the selection for a budget of j.
        metrics: the metrics it takes; the first one is its default.
        pairs: whether a precomputed matrix holds a "similarity" or a "distance".
        sparse: whether a precomputed matrix may be sparse.
        cost: time, in terms of n rows, d features and k picks.
        paper: where the method comes from.
        options: its own options and their defaults.
        summary: the first line of its docstring.
    """

    name: str
    function: Callable[..., Any]
    needs: str
    order: str
    prefix: bool
    metrics: tuple[str, ...]
    pairs: str
    sparse: bool
    cost: str
    paper: str
    options: dict[str, Any]
    summary: str


def method(
    name: str,
    *,
    needs: str = "features",
    order: str = "greedy",
    prefix: bool = True,
    metrics: tuple[str, ...] = ("cosine", "dot", "euclidean", "rbf", "precomputed"),
    pairs: str = "similarity",
    sparse: bool = False,
    cost: str = "",
    paper: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the method ``name``; see ``Method`` for the arguments.

    The keyword-only parameters of the function, other than ``context``, are the options of the method.
    Raises ValueError when the name is taken.
    """

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
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        _methods[name] = Method(
            name, function, needs, order, prefix, metrics, pairs, sparse, cost, paper, options, summary
        )
        return function

    return register


def list_methods() -> list[str]:
    """Names of all methods, in alphabetical order."""
    _discover()
    return sorted(_methods)


def get_method(name: str) -> Method:
    """The method of that name. Raises ValueError, with the closest name there is, when there is none."""
    _discover()
    if not isinstance(name, str):
        raise TypeError(f"method must be a name, got {type(name).__name__}")
    if name not in _methods:
        close = difflib.get_close_matches(name.lower().replace("-", "_"), _methods, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the methods are {', '.join(list_methods())}"
        raise ValueError(f"unknown method {name!r}: {hint}")
    return _methods[name]


def methods_taking(option: str) -> list[str]:
    """Names of the methods that take this option."""
    return [name for name in list_methods() if option in _methods[name].options]


def _discover() -> None:
    """Imports every module of ``fastcore.methods``, each of which registers its method."""
    package = importlib.import_module("fastcore.methods")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
