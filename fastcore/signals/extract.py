"""One pass of a network over a data set: embeddings, logits, labels and losses of every row."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastcore import checks
from fastcore.numerics import full_precision
from fastcore.progress import Progress
from fastcore.signals import items, networks, outputs, store
from fastcore.signals.bundle import Signals

QUANTITIES = ("embeddings", "logits", "labels", "losses")
_DTYPES = {"embeddings": "float32", "logits": "float32", "labels": "int64", "losses": "float32"}

# What the properties of Signals are made of may be asked for by their names.
_PARTS = {"probabilities": ("logits",), "gradients": ("embeddings", "logits", "labels")}


def compute(
    model: nn.Module,
    dataset: Any,
    quantities: Sequence[str] = ("embeddings", "logits", "labels"),
    *,
    layer: str | nn.Module | None = None,
    batch_size: int = 256,
    workers: int = 0,
    device: torch.device | str | None = None,
    amp: torch.dtype | None = None,
    keys: Sequence[Any] | None = None,
    path: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Signals:
    """What a network says of every row of a data set, in the order of the data set.

    The model runs in eval mode without gradients, in full float32 unless ``amp`` says otherwise, so the numbers
    do not depend on the batch size beyond rounding. It is left as it was: modes of all submodules, parameters,
    gradients, statistics, hooks, device. Cost: one pass over the data (and its first batch twice, to find the
    layer). Memory: one batch, and 4 (D + C) n bytes for the result, which ``path`` puts on disk.

    Args:
        model: gives logits (b, C): a tensor, a tuple that begins with it, or an object or dict with ``logits``.
        dataset: a torch Dataset or DataLoader, a tensor or array of inputs, a tuple (inputs, labels), or anything
            with ``len`` and ``[row]``; see ``fastcore.signals.items``. Random augmentation should be off: where
            rows are read by number, a few are read twice, and inputs that differ give a warning.
        quantities: of "embeddings", "logits", "labels" and "losses" (cross-entropy of each row); "probabilities"
            and "gradients" stand for what they are made of.
        layer: name or module whose input is the embedding. None finds the linear layer that makes the logits;
            of any other there are features, but no last-layer gradients.
        batch_size: rows at once; a DataLoader brings its own.
        workers: processes that load items.
        device: where the model runs; None means where it is. On another device a copy of it runs.
        amp: None, or ``torch.bfloat16`` or ``torch.float16`` for mixed precision.
        keys: names of input and label in items that are dicts, such as ("image", "label").
        path: a folder, or a file that ends in .safetensors, that the result is written to and memory-mapped from.
            The same call after an interruption goes on where it stopped, and after the end just reads the files.
        progress: True, False, or None for a bar when it takes long.

    Raises:
        ValueError, TypeError: for a model without such a layer, a data set that shuffles or
            has no labels where they are needed, labels outside 0 .. C - 1, outputs that are not finite (naming the
            row), and a path that holds signals of another model, data set or layer.
    """
    asked = _as_quantities(quantities)
    if not isinstance(path, str | os.PathLike | None):
        raise TypeError(f"path must be None, a folder or a .safetensors file, got {path!r}")
    model = networks.unwrapped(model)
    named = None if layer is None else networks.name_of(model, networks.named_layer(model, layer))
    checks.choice("amp", amp, (None, torch.float16, torch.bfloat16))
    n = items.count(dataset)
    model, place, dtype = networks.placed(model, device)
    settings: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "keys": keys}
    settings |= {"device": place, "dtype": dtype}
    with contextlib.ExitStack() as stack:
        stack.enter_context(full_precision())
        if amp is not None:
            stack.enter_context(torch.autocast(place.type, dtype=amp))
        stack.enter_context(networks.evaluating(model))
        batches = items.batches(dataset, **settings)
        # The first batch tells the layer and the widths, even where its rows are on disk already.
        batch = next(batches)
        tap = None
        if "embeddings" in asked:
            tap = stack.enter_context(_tap(model, named, batch.inputs, quantities))
        reader = _Reader(model, asked, tap)
        values = reader.read(batch)
        layout = {name: ((n, *part.shape[1:]), _DTYPES[name]) for name, part in values.items()}
        if path is None:
            sink = store.Memory(layout)
        else:
            row = store.first_row(batch.inputs)
            origin = {
                "model": store.fingerprint(model),
                "data set": [n, row],
                "layer": named,
                "amp": str(amp),
            }
            done = store.finished(Path(path), asked, origin)
            if done is not None:
                store.check_rows(Path(path), done, values)
                return Signals(**done)
            sink = store.Store(Path(path), layout, origin)
            if sink.done:
                sink.check_rows(values)
        with Progress(n, "signals", progress, unit="row") as bar:
            if sink.done == 0:
                sink.write(batch.rows, values)
            else:
                batches = items.batches(dataset, **settings, start=sink.done)
            bar.update(sink.done)
            for batch in batches:
                sink.write(batch.rows, reader.read(batch))
                bar.update(batch.size)
        return Signals(**sink.finish())


def _tap(model: nn.Module, named: str | None, inputs: Any, quantities: Sequence[str]) -> networks.Tap:
    """Reads the embeddings of the layer of that name, or of the one that makes the logits.

    Of another layer there are no last-layer gradients: an error where they were asked for by name, a warning
    where all that they are made of was.
    """
    if named is None:
        return networks.Tap(model, networks.last_linear(model, inputs))
    tap = networks.Tap(model, networks.named_layer(model, named))
    if "gradients" in quantities or set(_PARTS["gradients"]) <= set(quantities):
        with tap:
            logits, h = tap.run(inputs)
        if not networks.makes_logits(tap.layer, h, logits):
            message = (
                f"layer {named!r} does not make the logits of {type(model).__name__}: its input is an embedding, "
                "but last-layer gradients need the last layer, layer=None"
            )
            if "gradients" in quantities:
                raise ValueError(message)
            warnings.warn(message, UserWarning, stacklevel=3)
    return tap


class _Reader:
    """Runs the model on a batch and checks what comes out."""

    def __init__(self, model: nn.Module, asked: list[str], tap: networks.Tap | None) -> None:
        self._model, self._asked, self._tap = model, asked, tap
        self._width: dict[str, int] = {}

    def read(self, batch: items.Batch) -> dict[str, Tensor]:
        """The quantities that are asked for, a row for each of the batch."""
        found: dict[str, Tensor] = {}
        if self._asked != ["labels"]:
            if self._tap is not None:
                logits, found["embeddings"] = self._tap.run(batch.inputs)
            else:
                logits = networks.logits_of(self._model, batch.inputs)
            if {"logits", "losses"} & set(self._asked):
                found["logits"] = outputs.as_logits(self._model, logits, batch)
        for name, value in found.items():
            outputs.check_finite(name, value, batch.start)
        if {"labels", "losses"} & set(self._asked):
            found["labels"] = outputs.as_labels(
                batch, found["logits"].shape[1] if "logits" in found else None
            )
        if "losses" in self._asked:
            z = found["logits"].double()
            found["losses"] = functional.cross_entropy(z, found["labels"], reduction="none")
        return {name: found[name] for name in self._asked}


def _as_quantities(quantities: Sequence[str]) -> list[str]:
    """Fields of Signals, in their order."""
    if isinstance(quantities, str) or not isinstance(quantities, Sequence) or not quantities:
        raise TypeError(f"quantities must be a tuple of some of {', '.join(QUANTITIES)}, got {quantities!r}")
    for name in quantities:
        checks.choice("quantities", name, (*QUANTITIES, *_PARTS))
    wanted = {part for name in quantities for part in _PARTS.get(name, (name,))}
    return [name for name in QUANTITIES if name in wanted]
