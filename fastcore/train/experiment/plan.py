"""The runs of an experiment: what each one is, what it is called by, and in which order they come."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastcore.registry import get_method
from fastcore.train import networks
from fastcore.train.config import ExperimentConfig, MethodConfig, TrainConfig
from fastcore.train.experiment.keys import derived_seed, digest

FULL = "full"
"""The name of the run on all rows, as a method."""

NORMS = ("error_norms", "gradient_norms", "boundary_distances")
"""What may be averaged over several networks."""

_SPLIT = 0.1
_GENERAL = ("backend", "gamma", "memory", "metric", "signal", "weights")


@dataclass(frozen=True)
class SelectionModel:
    """A network that is trained on all rows so that it can say something of each: shared by all methods.

    Attributes:
        network: its name.
        train: how it is trained.
        seed: of the runs that it serves.
        number: tells apart the networks of one run, over which norms are averaged.
    """

    network: str
    train: TrainConfig
    seed: int
    number: int = 0

    def key(self, data: str) -> str:
        """What determines the trained network, with the training rows of this fingerprint, as a name."""
        return digest({"data": data, **vars(self)})

    def seed_for(self, purpose: str) -> int:
        """The seed for its "initialisation" or its "order", another one than that of any run."""
        return derived_seed(self.seed, f"{purpose} of selection model {self.number}")


@dataclass(frozen=True)
class Run:
    """One training of one network: on all rows, or on those that a method chose.

    Attributes:
        network: the network that is trained.
        fraction: share of the rows that it is trained on.
        seed: of the run; initialisation, selection and order have seeds that are made of it.
        train: how it is trained.
        label: what tables call the method, which is no part of the key.
        method: name of the method, or "full" for all rows.
        options: of the method, defaults included.
        balance: whether every class gets its share.
        models: the networks that the selection looks through; none where the method needs none.
        reselect_every: epochs between two selections by the network in training; None for one before it.
        warm_start: share of the training on all rows before the first of them.
    """

    network: str
    fraction: float
    seed: int
    train: TrainConfig
    label: str = FULL
    method: str = FULL
    options: Mapping[str, Any] = field(default_factory=dict)
    balance: bool = True
    models: tuple[SelectionModel, ...] = ()
    reselect_every: int | None = None
    warm_start: float = 0.0

    def key(self, data: str) -> str:
        """What determines the result, with the data of this fingerprint, as a name."""
        return digest({**self._selection(data), "network": self.network, "train": self.train})

    def selection_key(self, data: str) -> str:
        """What determines the chosen rows, as a name; which network is trained on them does not."""
        return self.key(data) if self.reselect_every is not None else digest(self._selection(data))

    def seed_for(self, purpose: str) -> int:
        """The seed for one purpose: "initialisation", "selection" or "order"."""
        return derived_seed(self.seed, purpose)

    @property
    def selector(self) -> str:
        """What selects, in words: empty where nothing has to be trained for it."""
        if self.reselect_every is not None and self.method != FULL:
            return f"itself, every {self.reselect_every} epochs"
        if not self.models:
            return ""
        first, several = self.models[0], f" x {len(self.models)}" if len(self.models) > 1 else ""
        return f"{first.network} ({first.train.epochs} epoch{'s' * (first.train.epochs != 1)}){several}"

    def __str__(self) -> str:
        by = f" by {self.selector}" if self.selector else ""
        return f"{self.short}{by}"

    @property
    def short(self) -> str:
        """The run in a few words, without what selects."""
        return f"{self.label} {self.fraction:.4g}, seed {self.seed}, {self.network}"

    def _selection(self, data: str) -> dict[str, Any]:
        chosen: dict[str, Any] = {"data": data, "seed": self.seed, "fraction": self.fraction}
        if self.method != FULL:
            chosen |= {"method": self.method, "options": self.options, "balance": self.balance}
            chosen["models"] = self.models
        if self.reselect_every is not None:
            chosen |= {"reselect_every": self.reselect_every, "warm_start": self.warm_start}
        return chosen


def plan(config: ExperimentConfig) -> list[Run]:
    """The runs of an experiment, in the order they are made: small fractions first, and of these all methods.

    A method that looks at no network is run once for all networks and epochs that select. The fraction 1 is
    the method "full", once for each network and seed. What cannot be run is left out: see ``left_out``.

    Raises ValueError and TypeError for an option that the method does not have, two methods that are the same,
    and an unknown network.
    """
    _check_networks(config)
    methods = [(method, _resolved(method)) for method in config.methods]
    _check_different(methods)
    return [
        run
        for fraction in sorted(config.fractions)
        for seed in config.seeds
        for network in config.networks
        for run in _runs(config, methods, fraction, seed, network)
    ]


def left_out(config: ExperimentConfig) -> list[str]:
    """Which methods are not run with which networks that select, and why: a line for each."""
    return [
        f"{method.label} needs a record of training: it is left out for networks trained for 0 epochs"
        for method in config.methods
        if 0 in config.selection.epochs
        and config.selection.reselect_every is None
        and needs_record(method.name, _resolved(method))
    ]


def needs_record(method: str, options: Mapping[str, Any]) -> bool:
    """Whether a method with these options looks at how a network was trained."""
    needs = get_method(method).needs
    return "dynamics" in needs or ("error_norms" in needs and options.get("epoch") is not None)


def _runs(
    config: ExperimentConfig,
    methods: list[tuple[MethodConfig, dict[str, Any]]],
    fraction: float,
    seed: int,
    network: str,
) -> Iterator[Run]:
    if fraction == 1:
        yield Run(network, fraction, seed, config.train)
        return
    selection = config.selection
    for method, options in methods:
        basis = Run(
            network, fraction, seed, config.train, method.label, method.name, options, selection.balance
        )
        if selection.reselect_every is not None:
            again = {"reselect_every": selection.reselect_every, "warm_start": selection.warm_start}
            yield Run(**{**vars(basis), **again})
        elif not (get_method(method.name).needs or options.get("weights")):
            yield basis
        else:
            for models in _selectors(config, method, options, seed, network):
                yield Run(**{**vars(basis), "models": models})


def _selectors(
    config: ExperimentConfig, method: MethodConfig, options: Mapping[str, Any], seed: int, network: str
) -> Iterator[tuple[SelectionModel, ...]]:
    """The networks that select, for every name and number of epochs that are compared."""
    averaged = _averages(method.name)
    for name in config.selection.networks or (network,):
        for epochs in config.selection.epochs:
            if epochs > 0 or not needs_record(method.name, options):
                train = config.selection_train(epochs)
                count = (method.runs or config.selection.runs) if averaged else 1
                yield tuple(SelectionModel(name, train, seed, number) for number in range(count))


def _averages(method: str) -> bool:
    """Whether a method takes several networks, and the mean of what they say."""
    return bool(set(get_method(method).needs) & set(NORMS))


def _resolved(method: MethodConfig) -> dict[str, Any]:
    """The options of a method, defaults included. Raises TypeError for one that it does not have."""
    chosen = get_method(method.name)
    own = chosen.options | chosen.signal_options
    for name, value in method.options.items():
        if name not in own and name not in _GENERAL:
            raise TypeError(
                f"methods: {method.label} has no option {name!r}; its options are {', '.join([*own, *_GENERAL])}"
            )
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise TypeError(
                f"methods: {name} of {method.label} must be a plain value, got {value!r}"
            ) from None
    if method.runs is not None and not _averages(method.name):
        raise ValueError(f"methods: {method.label} looks at one network, got runs={method.runs}")
    options = own | dict(method.options)
    if chosen.validation == "required" and "split" in own and options["split"] is None:
        options["split"] = _SPLIT  # rows of its own to validate by, as there are no others
    return options


def _check_different(methods: list[tuple[MethodConfig, dict[str, Any]]]) -> None:
    labels: dict[str, str] = {}
    for method, options in methods:
        same = labels.setdefault(digest({"name": method.name, "options": options}), method.label)
        if same != method.label:
            raise ValueError(f"methods must differ, got {same} and {method.label} with the same options")
        if method.label == FULL:
            raise ValueError(f"methods: the label {FULL!r} is that of the run on all rows")


def _check_networks(config: ExperimentConfig) -> None:
    known = networks.names()
    for where, names in {
        "networks": config.networks,
        "selection.networks": config.selection.networks,
    }.items():
        for name in names:
            if ":" not in name and name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
                raise ValueError(f"{where} must be names of networks, got {name!r}: {hint}")
