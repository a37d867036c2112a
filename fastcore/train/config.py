"""What an experiment is: frozen settings with a docstring per field, checked when they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastcore import checks
from fastcore.registry import get_method


@dataclass(frozen=True)
class DataConfig:
    """Which data set, and where its files are."""

    name: str = "cifar10"
    """A name of ``fastcore.train.datasets.names()``, or ``package.module:function`` of your own."""

    root: str = "data"
    """Folder of the standard files of the data set."""

    download: bool = False
    """Whether files that are missing may be fetched, through torchvision where it is installed."""

    rows: int | None = None
    """Training rows to use, the first of every class in equal shares; None for all. For small trials."""

    test_rows: int | None = None
    """Test rows to use, likewise."""

    workers: int = 4
    """Processes that read images, for data sets that do not live in memory."""

    def __post_init__(self) -> None:
        _text("data.name", self.name)
        _text("data.root", self.root)
        _flag("data.download", self.download)
        for name in ("rows", "test_rows"):
            if getattr(self, name) is not None:
                checks.whole(f"data.{name}", getattr(self, name), 1)
        checks.whole("data.workers", self.workers, 0)


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained. The defaults are the protocol of the DeepCore paper on CIFAR-10."""

    epochs: int = 200
    """Passes over the training rows; 0 leaves the network as it was initialised."""

    batch_size: int = 128
    """Rows in a step. The last batch of an epoch may be smaller."""

    optimizer: str = "sgd"
    """"sgd" or "adamw"."""

    learning_rate: float = 0.1
    """Learning rate at its highest."""

    momentum: float = 0.9
    """Momentum of SGD."""

    nesterov: bool = True
    """Whether the momentum of SGD is Nesterov's."""

    weight_decay: float = 5e-4
    """Weight decay of all parameters: in the gradient for SGD, decoupled for AdamW."""

    schedule: str = "cosine"
    """"cosine" (per step, down to ``final_learning_rate``), "step" or "constant"."""

    final_learning_rate: float = 1e-4
    """Learning rate of the cosine at the end of the last step."""

    milestones: tuple[float, ...] = (0.5, 0.75)
    """When "step" multiplies the learning rate by ``decay``, as shares of the training in (0, 1)."""

    decay: float = 0.1
    """What "step" multiplies by."""

    warmup_epochs: float = 0.0
    """Epochs in which the learning rate rises linearly from 0, before the schedule."""

    augment: bool = True
    """Whether training images are augmented: crop and flip as the data set says."""

    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""

    clip_norm: float | None = None
    """Largest norm of the gradient; None for no limit."""

    amp: str | None = None
    """Mixed precision: "bfloat16", "float16" (with loss scaling), or None for float32."""

    channels_last: bool = False
    """Whether images and weights are laid out with channels last, which tensor cores like."""

    compile: bool = False
    """Whether the network goes through ``torch.compile``."""

    deterministic: bool = True
    """Whether only deterministic kernels run, so that a seed repeats bit for bit on one machine."""

    evaluate_every: int = 1
    """Epochs between two tests; the last epoch is always tested. "best" is the best of those tested."""

    evaluation_batch_size: int = 1024
    """Rows at once when testing."""

    def __post_init__(self) -> None:
        checks.whole("train.epochs", self.epochs, 0)
        for name in ("batch_size", "evaluate_every", "evaluation_batch_size"):
            checks.whole(f"train.{name}", getattr(self, name), 1)
        checks.choice("train.optimizer", self.optimizer, ("sgd", "adamw"))
        checks.choice("train.schedule", self.schedule, ("cosine", "step", "constant"))
        checks.choice("train.amp", self.amp, (None, "bfloat16", "float16"))
        checks.number("train.learning_rate", self.learning_rate, "(0, inf)")
        for name in ("final_learning_rate", "weight_decay", "warmup_epochs"):
            checks.number(f"train.{name}", getattr(self, name), "[0, inf)")
        for name in ("momentum", "label_smoothing"):
            checks.number(f"train.{name}", getattr(self, name), "[0, 1)")
        checks.number("train.decay", self.decay, "(0, 1]")
        _several("train.milestones", self.milestones, int | float, "numbers")
        for share in self.milestones:
            checks.number("train.milestones", share, "(0, 1)")
        if self.schedule == "cosine" and self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"train.final_learning_rate must be at most train.learning_rate={self.learning_rate} under "
                f"schedule 'cosine', got {self.final_learning_rate}"
            )
        if self.clip_norm is not None:
            checks.number("train.clip_norm", self.clip_norm, "(0, inf)")
        for name in ("nesterov", "augment", "channels_last", "compile", "deterministic"):
            _flag(f"train.{name}", getattr(self, name))


@dataclass(frozen=True)
class MethodConfig:
    """A selection method of an experiment, with its options."""

    name: str
    """A name of ``fastcore.list_methods()``."""

    label: str = ""
    """What tables call it, unique in an experiment; by default its name."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of ``fastcore.select``, such as ``metric``, ``signal``, ``keep`` or ``lam``."""

    runs: int | None = None
    """Networks that the method averages over, where it takes several; None for ``selection.runs``."""

    def __post_init__(self) -> None:
        get_method(self.name)
        if self.runs is not None:
            checks.whole(f"methods: runs of {self.name}", self.runs, 1)
        if not self.label:
            object.__setattr__(self, "label", self.name)


@dataclass(frozen=True)
class SelectionConfig:
    """What selects: a network trained on all rows, for a few epochs, perhaps another one than is trained later."""

    networks: tuple[str, ...] = ()
    """Networks that select (Selection via Proxy, cross-architecture); empty for the one that is trained."""

    epochs: tuple[int, ...] = (10,)
    """Epochs that they are trained for on all rows; several are compared."""

    runs: int = 1
    """Networks over which methods that take several average (grand, el2n, deepfool), each with its own seed."""

    balance: bool = True
    """Whether every class gets its share of the picks."""

    train: Mapping[str, Any] = field(
        default_factory=lambda: {"augment": False}, metadata={"part_of": TrainConfig}
    )
    """Where their training differs from ``train`` of the experiment."""

    reselect_every: int | None = None
    """Epochs between two selections while training, by the network that is trained; None selects once, before."""

    warm_start: float = 0.0
    """With ``reselect_every``: share of the cost spent on all rows before the first selection."""

    def __post_init__(self) -> None:
        _several("selection.networks", self.networks, str, "texts")
        _several("selection.epochs", self.epochs, int, "integers")
        if not self.epochs:
            raise ValueError("selection.epochs must name at least one number of epochs, got none")
        for epochs in self.epochs:
            checks.whole("selection.epochs", epochs, 0)
        if "epochs" in self.train:
            raise ValueError(
                f"selection.train must not set epochs, got {self.train['epochs']!r}: selection.epochs does"
            )
        checks.whole("selection.runs", self.runs, 1)
        _flag("selection.balance", self.balance)
        checks.number("selection.warm_start", self.warm_start, "[0, 1)")
        if self.reselect_every is not None:
            checks.whole("selection.reselect_every", self.reselect_every, 1)
        elif self.warm_start > 0:
            raise ValueError(
                f"selection.warm_start={self.warm_start} needs selection.reselect_every, got None"
            )


@dataclass(frozen=True)
class ExperimentConfig:
    """All of an experiment: every method at every fraction, for every seed, with every network."""

    name: str
    """What tables and folders call it."""

    data: DataConfig = field(default_factory=DataConfig)
    """The data set."""

    networks: tuple[str, ...] = ("resnet18",)
    """Networks that are trained on the coresets: names of ``fastcore.train.networks.names()``, or
    ``package.module:function`` of your own."""

    methods: tuple[MethodConfig, ...] = (MethodConfig("uniform"),)
    """What is compared."""

    fractions: tuple[float, ...] = (0.01,)
    """Shares of the training rows that are kept, in (0, 1]; 1 trains on all of them, once for all methods."""

    seeds: tuple[int, ...] = (0,)
    """A seed changes initialisation, selection and order; each is a run of its own."""

    train: TrainConfig = field(default_factory=TrainConfig)
    """How networks are trained on the coresets."""

    selection: SelectionConfig = field(default_factory=SelectionConfig)
    """What the coresets are selected by."""

    paper_table: str | None = None
    """Table of the DeepCore paper that the results stand beside: a name of ``fastcore.train.report.TABLES``;
    only where data set and network are the paper's."""

    def __post_init__(self) -> None:
        _text("name", self.name)
        _several("networks", self.networks, str, "texts")
        _several("methods", self.methods, MethodConfig, "MethodConfigs")
        _several("fractions", self.fractions, int | float, "numbers")
        _several("seeds", self.seeds, int, "integers")
        for name in ("networks", "methods", "fractions", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty, got []")
        for fraction in self.fractions:
            checks.number("fractions", fraction, "(0, 1]")
        for seed in self.seeds:
            checks.whole("seeds", seed, 0)
        compared = {
            "networks": self.networks,
            "methods": tuple(method.label for method in self.methods),
            "fractions": self.fractions,
            "seeds": self.seeds,
            "selection.networks": self.selection.networks,
            "selection.epochs": self.selection.epochs,
        }
        for name, values in compared.items():
            twice = [each for each in values if values.count(each) > 1]
            if twice:
                raise ValueError(f"{name} must differ, got {twice[0]} twice")
        self.selection_train(self.selection.epochs[0])

    def selection_train(self, epochs: int) -> TrainConfig:
        """How a network that selects is trained for a number of epochs."""
        unknown = sorted(set(self.selection.train) - {each.name for each in dataclasses.fields(TrainConfig)})
        if unknown:
            raise TypeError(f"selection.train has no field {unknown[0]!r}: it takes the fields of train")
        try:
            return dataclasses.replace(self.train, **{**self.selection.train, "epochs": epochs})
        except (ValueError, TypeError) as error:
            raise type(error)(f"selection.{error}") from None


def _several(name: str, values: Any, kind: Any, words: str) -> None:
    """A tuple of a kind; a text would be taken for its letters."""
    if not isinstance(values, tuple) or not all(isinstance(each, kind) for each in values):
        raise TypeError(f"{name} must be a tuple of {words}, got {values!r}")


def _flag(name: str, value: Any) -> None:
    checks.choice(name, value, (False, True))


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} must be a text, got {value!r}")
