"""The optimizers of the submodular methods, by name."""

from __future__ import annotations

from typing import Any

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.lazy import maximize
from fastcore.greedy.picks import Picks
from fastcore.registry import Context

_TUNING: dict[str, str | None] = {
    "lazy": None,
    "naive": None,
    "stochastic": "epsilon",
    "approximate_lazy": "beta",
    "lazier_than_lazy": "epsilon",
}


def native(optimizer: str, epsilon: float | None, beta: float | None) -> bool:
    """Whether the native engine does what is asked; checks the optimizer and what tunes it."""
    checks.choice("optimizer", optimizer, _TUNING)
    for name, value in (("epsilon", epsilon), ("beta", beta)):
        if value is not None:
            takers = [key for key, tuning in _TUNING.items() if tuning == name]
            if optimizer not in takers:
                owner = " or ".join(map(repr, takers))
                raise ValueError(f"{name} belongs to optimizer={owner}, got optimizer={optimizer!r}")
            checks.number(name, value, "(0, 1)" if name == "epsilon" else "(0, 1]")
    return optimizer == "lazy"


def general(
    objective: str,
    view: Any,
    partition: Partition,
    context: Context,
    optimizer: str,
    epsilon: float | None,
    beta: float | None,
    **parameters: Any,
) -> Picks:
    """Greedy maximization by one of the other optimizers."""
    tuning = {name: value for name, value in (("epsilon", epsilon), ("beta", beta)) if value is not None}
    return maximize(
        objective,
        view,
        partition,
        optimizer=optimizer,
        preselected=context.preselected,
        generator=context.generator,
        progress=context.progress,
        **tuning,
        **parameters,
    )
