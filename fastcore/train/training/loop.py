"""``fit``: trains a network on rows of a data set."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fastcore import checks
from fastcore.inputs import as_device
from fastcore.train.config import TrainConfig
from fastcore.train.datasets import LabelledSet
from fastcore.train.training.checkpoints import Checkpoint
from fastcore.train.training.monitors import Monitor
from fastcore.train.training.records import TrainingResult
from fastcore.train.training.rows import RowChooser, Rows
from fastcore.train.training.run import Run
from fastcore.train.training.surroundings import Interrupts, Randomness, kept_modes, kernels


def fit(
    network: nn.Module,
    dataset: LabelledSet,
    config: TrainConfig,
    *,
    test: LabelledSet | None = None,
    indices: Any = None,
    weights: Any = None,
    subset: RowChooser | None = None,
    seed: int = 0,
    device: Any = None,
    record: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    log_dir: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    workers: int = 0,
) -> TrainingResult:
    """Trains a network in place, on all rows of a data set or on some, perhaps weighted.

    A seed fixes order, augmentation and dropout; torch's own random state is as it was afterwards, as are the
    training modes of the network's parts. The same call repeats bit for bit on one machine, with one number of
    threads, when the network begins with the same weights. The network stays on the device it was trained on.

    Args:
        network: gives logits (b, C) for images (b, c, h, w), or a tuple, dict or object that holds them.
        dataset: rows to train on; ``fastcore.train.datasets.from_dataset`` makes one of any torch ``Dataset``.
        config: how to train.
        test: rows to test on, every ``config.evaluate_every`` epochs and after the last one.
        indices: (k,) row numbers to train on, such as those of a ``Selection``; None for all.
        weights: (k,) how much each row counts: the loss of a batch is Σ w ℓ / Σ w.
        subset: what chooses rows before every epoch, instead of ``indices`` and ``weights``; see ``RowChooser``.
            The learning rate goes by epochs, whatever the number of rows.
        seed: of all random choices.
        device: where to train; None means where the network is.
        record: whether to record what the network says of every row in each epoch, for methods that score by it.
        checkpoint: file that holds the state, written at the end of epochs and on Ctrl-C, which then raises
            KeyboardInterrupt at the next step; a second Ctrl-C does at once. The same call goes on from there bit
            for bit, whatever weights the network begins with, and after the end returns at once. None for none.
        checkpoint_seconds: least time between two checkpoints.
        log_dir: folder for TensorBoard.
        progress: True for a bar, False for none, None for one on a terminal when it takes long.
        workers: processes that read images which are not in memory.

    Raises:
        ValueError, TypeError: naming the argument, the value it got and what it takes; for a checkpoint of another
            run, saying what differs; and for a kernel that is not deterministic where ``config`` asks for it.
        FloatingPointError: when loss or weights are not finite any more, naming epoch, step and learning rate.
    """
    if not isinstance(config, TrainConfig):
        raise TypeError(f"config must be a TrainConfig, got {type(config).__name__}")
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, got {type(network).__name__}")
    for name, rows_of in (("dataset", dataset), ("test", test)):
        if not isinstance(rows_of, LabelledSet) and (name == "dataset" or rows_of is not None):
            kind = type(rows_of).__name__
            raise TypeError(f"{name} must be one of fastcore.train.datasets, got {kind}: see from_dataset")
    rows = Rows.of(indices, weights, len(dataset))
    if subset is not None and rows is not None:
        raise ValueError("subset chooses rows and weights: it takes neither indices nor weights beside it")
    seed = checks.whole("seed", seed, 0)
    checks.number("checkpoint_seconds", checkpoint_seconds, "[0, inf)")
    place = as_device(device) or next((each.device for each in network.parameters()), torch.device("cpu"))
    if config.amp == "float16" and place.type != "cuda":
        raise ValueError(f"train.amp='float16' needs a GPU, got device {str(place)!r}: use 'bfloat16'")
    network.to(place)
    run = Run(network, dataset, config, test, rows, subset, seed, place, record, workers)
    file = Checkpoint(checkpoint, run.identity(), checkpoint_seconds)
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_modes(network))
        stack.enter_context(kernels(place, config.deterministic))
        stack.enter_context(torch.enable_grad())
        run.randomness = stack.enter_context(Randomness(seed, place))
        interrupts = stack.enter_context(Interrupts(file.path is not None))
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place)
        state = file.load()
        if state is not None:
            run.load_state_dict(state)
        stack.enter_context(_named(place))
        with Monitor(config.epochs, log_dir, progress) as monitor:
            run.train(file, interrupts, monitor)
    return run.result()


@contextlib.contextmanager
def _named(device: torch.device) -> Iterator[None]:
    """Turns torch's error for a kernel that has no deterministic form into one that names our setting."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "deterministic" not in text:
            raise
        kernel = text.partition(" ")[0]
        raise ValueError(
            f"train.deterministic must be False here: {kernel} has no deterministic form on {device}"
        ) from error
