"""Small experiments, and networks that misbehave, for the tests of experiments."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from fastcore.train import reading
from fastcore.train.config import ExperimentConfig

FAULTY = f"{__name__}:faulty"
VOLATILE = ("finished", "peak_bytes", "versions")


def experiment(**fields: Any) -> ExperimentConfig:
    """Digits and a small network: a run takes a twentieth of a second."""
    values = {
        "name": "tiny",
        "data": {"name": "digits", "rows": 300, "test_rows": 200},
        "networks": ["mlp"],
        "methods": ["uniform", "herding", "el2n"],
        "fractions": [0.1, 0.05],
        "seeds": [0, 1],
        "train": {"epochs": 2, "batch_size": 32, "augment": False},
        "selection": {"epochs": [2]},
    }
    for name, value in fields.items():
        nested = isinstance(values.get(name), dict) and isinstance(value, dict)
        values[name] = {**values[name], **value} if nested else value  # type: ignore[dict-item]
    return reading.build(ExperimentConfig, values)


def lasting(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows of results by key, without what another time or machine changes."""
    return {
        row["key"]: {k: v for k, v in row.items() if k not in VOLATILE and not k.endswith("_seconds")}
        for row in rows
    }


def faulty(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A linear network that does what a file says which the environment names.

    "kill" its process or "fail" when it is made, "interrupt" in the 25th step, or "tell" by a file that it is
    there.
    """
    order = Path(os.environ.get("FAULTY_NETWORK", "/nowhere"))
    what = order.read_text() if order.exists() else ""
    if what == "kill":
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "fail":
        raise ValueError("this network\ncannot be made")
    network = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
    if what == "interrupt":
        order.unlink()
        network.register_forward_hook(_At25(lambda: os.kill(os.getpid(), signal.SIGINT)))
    if what == "tell":
        network.register_forward_hook(_At25(order.with_name(f"told-{os.getpid()}").touch))
    return network


class _At25:
    """Does something in the 25th step."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act, self.steps = act, 0

    def __call__(self, network: nn.Module, *_: Any) -> None:
        self.steps += network.training
        if self.steps == 25:
            self.act()
