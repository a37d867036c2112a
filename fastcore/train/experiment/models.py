"""The networks that select: trained once, with what they say of every row, and shared by methods and processes."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fastcore import environment
from fastcore.files import write_atomic
from fastcore.signals import Dynamics, Signals, boundary_distances, compute, gradient_norms
from fastcore.signals import store as stored
from fastcore.train import networks
from fastcore.train.experiment.claims import claim
from fastcore.train.experiment.keys import digest
from fastcore.train.experiment.plan import SelectionModel
from fastcore.train.reading import plain
from fastcore.train.training import TrainingResult, fit

Result = TypeVar("Result")

_BATCH = 512
_DISTANCES_BATCH = 128


class BusyError(Exception):
    """Another process is at work on a network or its signals: there may be something else to do meanwhile."""


def resuming(checkpoint: Path, train: Callable[[], Result]) -> Result:
    """Trains on from a checkpoint; where it is of something else, such as of another fastcore, from the start."""
    resumed = checkpoint.exists()
    try:
        return train()
    except ValueError:
        if not resumed:
            raise
        checkpoint.unlink(missing_ok=True)
        return train()


class SelectionModels:
    """A folder of trained networks and of what they say of the rows of one data set, by content.

    What is asked for and not there is made, under a lock, and written whole or not at all; after a kill the
    training goes on where it was. Every part has a note of the seconds that it took, so that a run can tell what
    it would have cost by itself. All methods here raise ``BusyError`` where another process makes the same.

    Args:
        folder: the cache.
        dataset: the rows that networks are trained on and looked at.
        device: where that is done.
        workers: processes that read images.
    """

    def __init__(self, folder: Path, dataset: Any, device: torch.device, workers: int = 0) -> None:
        self._folder, self._dataset, self._device, self._workers = folder, dataset, device, workers

    def seconds(self, model: SelectionModel) -> float:
        """How long the training took."""
        return self._made(model, "model", lambda: self._train(model))

    def dynamics(self, model: SelectionModel) -> Dynamics:
        """The record of the training."""
        self.seconds(model)
        return Dynamics.load(self._path(model) / "dynamics.npz")

    def signals(self, model: SelectionModel) -> tuple[Signals, float]:
        """Embeddings, logits and labels of all rows, memory-mapped, and the seconds they took."""
        path = self._path(model) / "signals"
        quantities = ("embeddings", "logits", "labels")

        def make() -> None:
            compute(self._network(model), self._rows(_BATCH), quantities, **self._settings(), path=path)

        seconds = self._made(model, "signals", make)
        return Signals(**stored.load(path)), seconds

    def gradient_norms(self, model: SelectionModel) -> tuple[Tensor, float]:
        """(n,) lengths of the gradients by all parameters, and the seconds they took."""
        return self._values(model, "gradient_norms", gradient_norms, _BATCH, {})

    def boundary_distances(self, model: SelectionModel, **options: Any) -> tuple[Tensor, float]:
        """(n,) distances to the decision boundary, and the seconds they took."""
        return self._values(model, "boundary_distances", boundary_distances, _DISTANCES_BATCH, options)

    def _values(
        self,
        model: SelectionModel,
        name: str,
        measure: Callable[..., Tensor],
        batch_size: int,
        options: dict[str, Any],
    ) -> tuple[Tensor, float]:
        name = f"{name}-{digest(options)[:8]}" if options else name
        path = self._path(model) / f"{name}.npy"

        def make() -> None:
            network, settings = self._network(model), {**self._settings(), "batch_size": batch_size}
            buffer = io.BytesIO()
            np.save(buffer, measure(network, self._rows(batch_size), **options, **settings).numpy())
            write_atomic(path, buffer.getvalue())

        seconds = self._made(model, name, make)
        return torch.from_numpy(np.load(path)), seconds

    def _made(self, model: SelectionModel, name: str, make: Callable[[], None]) -> float:
        """The seconds that a part took, which is made where it is not there yet."""
        if name != "model":
            self.seconds(model)
        path = self._path(model)
        note = path / f"{name}.json"
        if not note.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = path.with_suffix(".lock")
            with claim(lock) as ours:
                if not ours:
                    raise BusyError
                if not note.exists():  # it may just have been made
                    start = time.perf_counter()
                    make()
                    if name != "model":
                        seconds = time.perf_counter() - start
                        write_atomic(note, json.dumps({"seconds": seconds}).encode())
                lock.unlink(missing_ok=True)
        return float(json.loads(note.read_text())["seconds"])

    def _train(self, model: SelectionModel) -> None:
        path = self._path(model)
        checkpoint, building = path.with_suffix(".pt"), path.with_suffix(".building")

        def train() -> tuple[nn.Module, TrainingResult]:
            network = self._fresh(model)
            result = fit(
                network,
                self._dataset,
                model.train,
                seed=model.seed_for("order"),
                device=self._device,
                record=model.train.epochs > 0,
                checkpoint=checkpoint,
                progress=False,
                workers=self._workers,
            )
            return network, result

        network, result = resuming(checkpoint, train)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        if result.dynamics is not None:
            result.dynamics.save(building / "dynamics.npz")
        buffer = io.BytesIO()
        torch.save({name: value.cpu() for name, value in network.state_dict().items()}, buffer)
        write_atomic(building / "weights.pt", buffer.getvalue())
        note = {**plain(model), "seconds": result.seconds, "versions": environment.versions()}
        write_atomic(building / "model.json", json.dumps(note, indent=1).encode())
        building.rename(path)
        checkpoint.unlink(missing_ok=True)

    def _network(self, model: SelectionModel) -> nn.Module:
        network = self._fresh(model)
        weights = torch.load(self._path(model) / "weights.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        return network.to(self._device)

    def _fresh(self, model: SelectionModel) -> nn.Module:
        shape, classes = self._dataset.shape, self._dataset.classes
        seed = model.seed_for("initialisation")
        return networks.build(model.network, shape=shape, classes=classes, seed=seed)

    def _rows(self, batch_size: int) -> Any:
        return self._dataset.sequential(batch_size, workers=self._workers)

    def _settings(self) -> dict[str, Any]:
        return {"device": self._device, "progress": False}

    def _path(self, model: SelectionModel) -> Path:
        return self._folder / model.key(self._dataset.fingerprint)
