"""The rows of each epoch: all of them at first, then those that the network chose last."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import fastcore
from fastcore import checks, inputs, needs
from fastcore.budget import resolve_budget
from fastcore.registry import Method, get_method
from fastcore.selection import Selection
from fastcore.signals import DynamicsRecorder, compute, items
from fastcore.train.datasets.base import LabelledSet
from fastcore.train.datasets.seeds import mixed, seeded
from fastcore.train.training.rows import Rows

_ARRAYS = ("indices", "gains", "scores", "weights")


def warm_epochs(epochs: int, fraction: float, warm_start: float) -> int:
    """How many epochs on all rows a training begins with, so that they are a share ``warm_start`` of its cost.

    Cost is rows that pass through the network: w epochs on all n rows and ``epochs - w`` on k = ``fraction`` n of
    them cost w n + (epochs - w) k. Of this w n is the share kappa = ``warm_start`` where

        w = kappa * epochs * fraction / (1 - kappa + kappa * fraction).

    This is the rule of CORDS. It plans T epochs on the subset, puts kappa T k / n on all rows in place of the
    first kappa T, which costs the same, and trains for kappa T k / n + (1 - kappa) T epochs: our ``epochs``.

    w is rounded up, so that a warm start is one epoch at least, and leaves at least one for the subset.
    """
    w = warm_start * epochs * fraction / (1 - warm_start + warm_start * fraction)
    return max(0, min(epochs - 1, math.ceil(w - 1e-9)))


class Reselection:
    """Rows that are chosen anew every few epochs, by the network that is trained on them.

    It is a ``subset`` for ``fastcore.train.fit``. Epochs count from 0. The first ``warm_epochs`` pass over all
    rows; then comes the first selection, and another one every ``every`` epochs, each with a seed of its own made
    of ``seed``. Any method will do. One that looks at a network looks at this one, in eval mode. One that needs a
    record of training gets that of ``fit``, to which each selection adds a pass over all rows as an epoch, so
    that rows outside the subset are seen too. "uniform" draws other rows each time.

    A selection leaves the network, its modes and gradients, and the global random numbers of torch (CPU), numpy
    and Python as they were; random transforms of the data set draw from numbers made of its seed. It costs one
    pass of the network over the data set, and the choice. An object belongs to one training.

    Args:
        method: a name of ``fastcore.list_methods()``.
        dataset: the rows: a torch ``Dataset``, or (inputs, labels); see ``fastcore.signals.items``. One of
            ``fastcore.train.datasets`` is read by whole batches, without augmentation.
        every: epochs from one selection to the next.
        k, fraction: rows to choose, as in ``fastcore.select``.
        warm_start: share of the cost of training that is spent on all rows first, in [0, 1); see ``warm_epochs``.
        epochs: epochs of the whole training, which a warm start has to know.
        labels: (n,) class of every row; by default those of the data set.
        balance: whether every class gets its share, as in ``fastcore.select``.
        validation: rows whose loss counts, a data set like ``dataset``, for glister and gradmatch.
        seed: of all selections.
        options: of ``fastcore.select`` for this method, such as ``{"lam": 0.5, "batch_size": 512}``.
        device: where selections run; None for where the network is.
        progress: as in ``fastcore.select``.

    Attributes:
        selection: the present ``Selection``; None while training is on all rows.
        count: selections so far.
        seconds: time that they took, in all.
        warm_epochs: epochs on all rows at the start.

    Raises ValueError and TypeError that name the argument.
    """

    def __init__(
        self,
        method: str,
        dataset: Any,
        *,
        every: int,
        k: int | None = None,
        fraction: float | None = None,
        warm_start: float = 0.0,
        epochs: int | None = None,
        labels: Any = None,
        balance: bool | None = None,
        validation: Any = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        device: Any = None,
        progress: bool | None = None,
    ) -> None:
        self.method, self.dataset, self.validation = get_method(method), dataset, validation
        self.n = items.count(dataset)
        self.k = resolve_budget(self.n, k, fraction)
        self.every = checks.whole("every", every, 1)
        self.seed = checks.whole("seed", seed, 0)
        self.warm_epochs = _warm(warm_start, epochs, self.k / self.n)
        self.options = _checked(self.method, options or {}, validation)
        self._common = {
            "k": self.k,
            "balance": checks.choice("balance", balance, (None, True, False)),
            "device": inputs.as_device(device),
            "progress": checks.choice("progress", progress, (None, True, False)),
        }
        if labels is None and isinstance(dataset, LabelledSet):
            labels = dataset.labels
        if labels is not None:
            inputs.as_labels(labels, self.n)
        self._labels = labels
        self._record: DynamicsRecorder | None = None  # our own, where training keeps none
        self._epoch = self._chosen_at = -1  # the last one asked for, and the last one selected for
        self._told = False
        self.selection: Selection | None = None
        self.count, self.seconds = 0, 0.0

    def __repr__(self) -> str:
        return f"Reselection({self.method.name!r}, k={self.k}, n={self.n}, every={self.every}, count={self.count})"

    def choose(self, epoch: int, network: nn.Module, recorder: DynamicsRecorder | None = None) -> Rows | None:
        """The rows to train on in an epoch and their weights, or None where they are those of the epoch before.

        To be called before each epoch. Weights have mean 1 over the rows, so that a learning rate keeps its
        meaning, and are None where the method gives none. ``recorder`` holds the record of the epochs that ended.
        Asked again for the same epoch, as after a checkpoint, it gives the same rows. Raises ValueError for an
        epoch before the last one.
        """
        if epoch < self._epoch:
            raise ValueError(
                f"epoch must be at least {self._epoch}, got {epoch}: a training has its own Reselection"
            )
        if epoch > self._epoch and self.is_due(epoch):
            start = time.perf_counter()
            self.selection = self._select(network, recorder)
            self.seconds += time.perf_counter() - start
            self.count += 1
            self._chosen_at, self._told = epoch, False
        known = self._told and epoch > self._epoch
        self._epoch, self._told = epoch, True
        return None if known else self.rows()

    def is_due(self, epoch: int) -> bool:
        """Whether a selection comes before this epoch, given those that there were."""
        if epoch < self.warm_epochs:
            return False
        turn, last = ((each - self.warm_epochs) // self.every for each in (epoch, self._chosen_at))
        return self.selection is None or turn > last

    def rows(self) -> Rows:
        """The present rows and their weights."""
        if self.selection is None:
            return Rows(torch.arange(self.n), None)
        weights = self.selection.weights
        if weights is not None and weights.sum() > 0:
            scaled = torch.from_numpy(weights * (len(weights) / weights.sum())).float()
            return Rows(torch.from_numpy(self.selection.indices), scaled)
        return Rows(torch.from_numpy(self.selection.indices), None)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on with the same rows and selections: tensors and plain values."""
        held: dict[str, Any] | None = None
        if self.selection is not None:
            arrays = {name: getattr(self.selection, name) for name in _ARRAYS}
            held = {name: None if each is None else torch.tensor(each) for name, each in arrays.items()}
            held["info"] = json.dumps(self.selection.info, default=str)
        return {
            "settings": self._settings(),
            "epoch": self._epoch,
            "chosen_at": self._chosen_at,
            "count": self.count,
            "seconds": self.seconds,
            "selection": held,
            "record": None if self._record is None else self._record.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what ``state_dict`` gave. Raises ValueError, naming the setting, where it had others."""
        for name, value in self._settings().items():
            if state["settings"].get(name) != value:
                raise ValueError(f"state must be of {name}={value!r}, got {state['settings'].get(name)!r}")
        self._epoch, self._chosen_at = int(state["epoch"]), int(state["chosen_at"])
        self.count, self.seconds, self._told = int(state["count"]), float(state["seconds"]), False
        self.selection, held = None, state["selection"]
        if held is not None:
            arrays: dict[str, Any] = {name: _as_array(held[name]) for name in _ARRAYS}
            self.selection = Selection(**arrays, info=json.loads(held["info"]))
        self._record = None
        if state["record"] is not None:
            self._record = DynamicsRecorder(self.n)
            self._record.load_state_dict(state["record"])

    def _settings(self) -> dict[str, Any]:
        options = json.dumps(self.options, default=str, sort_keys=True)
        names = ("n", "k", "every", "warm_epochs", "seed")
        return {
            "method": self.method.name,
            "options": options,
            **{name: getattr(self, name) for name in names},
        }

    def _select(self, network: nn.Module, recorder: DynamicsRecorder | None) -> Selection:
        seed = mixed("reselection", self.seed, self.count)
        options = {name: value for name, value in self.options.items() if name not in needs.EXTRACTION}
        reading = {name: value for name, value in self.options.items() if name in needs.EXTRACTION}
        asked = {**self._common, **options, "seed": seed}
        name, given = self.method.name, self.method.needs
        with seeded("reselection", seed), _any_kernels():
            if given and "dynamics" not in given:
                if self.validation is not None:
                    asked["validation"] = _in_order(self.validation, reading)
                asked |= {"model": network, "dataset": _in_order(self.dataset, reading), **reading}
                return fastcore.select(name, labels=self._labels, **asked)
            if given:
                data: Any = self._watched(network, recorder, reading).dynamics
            else:
                self._read_labels(reading)
                data = torch.zeros(self.n, 1)  # which nobody looks at
            return fastcore.select(name, data, labels=self._labels, **asked)

    def _watched(
        self, network: nn.Module, recorder: DynamicsRecorder | None, reading: dict[str, Any]
    ) -> DynamicsRecorder:
        """The record of training with one epoch more, in which the network sees all rows."""
        if recorder is None:
            recorder = self._record = self._record or DynamicsRecorder(self.n)
        where = {name: self._common[name] for name in ("device", "progress")}
        source = _in_order(self.dataset, reading)
        signals = compute(network, source, ("logits", "labels"), **where, **reading)
        labels = signals.require("labels")
        recorder.update(torch.arange(self.n), signals.require("logits"), labels)
        recorder.end_epoch()
        if self._labels is None:
            self._labels = labels
        return recorder

    def _read_labels(self, reading: dict[str, Any]) -> None:
        """Reads the labels of the data set, once, for a method that looks at nothing else."""
        if self._labels is None and self._common["balance"] is not False:
            reading = {name: value for name, value in reading.items() if name in ("workers", "keys")}
            parts = [batch.labels for batch in items.batches(self.dataset, batch_size=1024, **reading)]
            labels: list[Tensor] = [part for part in parts if part is not None]
            self._labels = torch.cat(labels) if labels else None


@contextlib.contextmanager
def _any_kernels() -> Iterator[None]:
    """Lets a selection use kernels that have no deterministic form, which training may forbid.

    Its picks are the same whatever kernels run; the convolutions of the network stay as they are set.
    """
    strict, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        torch.use_deterministic_algorithms(False)
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warned)


def _as_array(value: Tensor | None) -> Any:
    return None if value is None else value.numpy()


def _in_order(dataset: Any, reading: dict[str, Any]) -> Any:
    """A data set as ``fastcore.signals`` reads it best."""
    if not isinstance(dataset, LabelledSet):
        return dataset
    return dataset.sequential(
        **{name: reading[name] for name in ("batch_size", "workers") if name in reading}
    )


def _warm(warm_start: Any, epochs: Any, fraction: float) -> int:
    """Epochs on all rows, of arguments that are checked here."""
    share = checks.number("warm_start", warm_start, "[0, 1)")
    if epochs is None and share > 0:
        raise ValueError(
            f"warm_start needs the epochs of the whole training, got warm_start={share} without epochs"
        )
    return 0 if epochs is None else warm_epochs(checks.whole("epochs", epochs, 1), fraction, share)


def _checked(method: Method, options: Mapping[str, Any], validation: Any) -> dict[str, Any]:
    """The options, checked now rather than at the first selection."""
    takes = [*method.options, *method.signal_options, *needs.EXTRACTION, "backend", "memory"]
    takes += ["metric", "gamma", "weights"] if method.metrics else []
    takes += ["signal"] if "similarity" in method.needs else []
    for name, value in options.items():
        if name not in takes:
            raise TypeError(f"options: {method.name} takes no {name}={value!r}; it takes {', '.join(takes)}")
    if options.get("epoch") is not None:
        raise ValueError(
            f"options: {method.name} looks at the network as it stands, not at a record: epoch must be None, "
            f"got {options['epoch']!r}"
        )
    if method.validation == "no" and validation is not None:
        raise ValueError(
            f"{method.name} takes no validation rows, got validation={type(validation).__name__}"
        )
    if method.validation == "required" and validation is None and options.get("split") is None:
        raise ValueError(f"{method.name} needs validation=, or options with a share of the rows: split=0.1")
    return dict(options)
