"""One training run: its steps, its epochs, and its state as a checkpoint holds it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastcore.environment import peak_bytes
from fastcore.signals import networks
from fastcore.signals.dynamics import DynamicsRecorder
from fastcore.train.config import TrainConfig
from fastcore.train.datasets import LabelledSet, TrainingBatch, TrainingBatches
from fastcore.train.reading import plain
from fastcore.train.training.checkpoints import Checkpoint, structure
from fastcore.train.training.evaluation import autocast, evaluate
from fastcore.train.training.monitors import Monitor
from fastcore.train.training.optimization import learning_rate, make_optimizer, training_loss
from fastcore.train.training.records import Ledger, TrainingResult
from fastcore.train.training.rows import RowChooser, Rows
from fastcore.train.training.surroundings import Interrupts, Randomness

_COUNTERS = ("epoch", "step", "steps", "count", "chosen")


class Run:
    """A training run and all of its state."""

    randomness: Randomness

    def __init__(
        self,
        network: nn.Module,
        dataset: LabelledSet,
        config: TrainConfig,
        test: LabelledSet | None,
        rows: Rows | None,
        subset: RowChooser | None,
        seed: int,
        device: torch.device,
        record: bool,
        workers: int,
    ) -> None:
        self._network, self._dataset, self._config = network, dataset, config
        self._test = None if test is None else test.to(device)
        self._rows, self._subset, self._seed, self._device = rows, subset, seed, device
        self._workers = workers
        self._optimizer = make_optimizer(network, config)
        self._parameters: list[Tensor] = self._optimizer.param_groups[0]["params"]
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "float16")
        recorder = DynamicsRecorder(len(dataset), config.epochs) if record and config.epochs else None
        self._ledger = Ledger(recorder)
        self._layout = torch.channels_last if config.channels_last else torch.contiguous_format
        if config.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward: Any = torch.compile(network) if config.compile else network
        self._epoch = self._step = self._steps = self._count = 0
        self._chosen = -1  # the epoch that rows were chosen for last
        self._seconds = dict.fromkeys(("training", "evaluation", "selection"), 0.0)
        self._history: list[dict[str, Any]] = []
        self._peak = 0
        self._check_rows()

    def identity(self) -> dict[str, Any]:
        """What makes this run another than others; the weights that it begins with play no part."""
        return {
            "train": plain(self._config),
            "seed": self._seed,
            "data": self._dataset.fingerprint,
            "test": None if self._test is None else self._test.fingerprint,
            "rows": None if self._rows is None else self._rows.fingerprint(),
            "subset": None if self._subset is None else type(self._subset).__name__,
            "record": self._ledger.recorder is not None,
            "network": structure(self._network),
            "device": self._device.type,
            "torch": str(torch.__version__),
        }

    def train(self, file: Checkpoint, interrupts: Interrupts, monitor: Monitor) -> None:
        """Trains from where it is to the end."""
        epochs = self._config.epochs
        if epochs == 0 and not self._history:
            self._end_epoch(monitor, None, None)
            file.save(self.state_dict())
        batches = None
        while self._epoch < epochs:
            if self._choose() or batches is None:
                batches = self._batches()
            monitor.begin(self._epoch, self._step, batches.steps)
            rate = self._train_epoch(batches, file, interrupts, monitor)
            loss = self._ledger.end_epoch()
            self._check_finite(rate)
            self._epoch, self._step = self._epoch + 1, 0
            self._end_epoch(monitor, rate, loss)
            if self._epoch == epochs or file.due or interrupts.noted:
                file.save(self.state_dict())
            if interrupts.noted:
                raise KeyboardInterrupt
        self._optimizer.zero_grad(set_to_none=True)

    def _train_epoch(
        self, batches: TrainingBatches, file: Checkpoint, interrupts: Interrupts, monitor: Monitor
    ) -> float:
        """The steps of an epoch that are left; the learning rate of the last."""
        epoch, rate = self._epoch, 0.0
        self._network.train()
        with self._timed("training"):
            for batch in _until(interrupts, batches.epoch(epoch, self._step)):
                rate = learning_rate(self._config, epoch, self._step, batches.steps)
                self.randomness.at(epoch, self._step)
                loss, logits = self._take_step(batch, rate)
                written = self._ledger.add((epoch, self._step, rate), batch.index, batch.labels, loss, logits)
                self._step, self._steps = self._step + 1, self._steps + 1
                self._count += len(batch.index)
                monitor.step(self._ledger if written else None)
            self._ledger.write()
        if self._step < batches.steps:
            file.save(self.state_dict())
            raise KeyboardInterrupt
        return rate

    def _take_step(self, batch: TrainingBatch, rate: float) -> tuple[Tensor, Tensor]:
        """Moves the weights; the loss and the logits before."""
        config, optimizer, scaler = self._config, self._optimizer, self._scaler
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        with autocast(self._device, config.amp):
            logits = networks.logits_of(self._forward, batch.images.contiguous(memory_format=self._layout))
        if config.amp is not None:
            logits = logits.float()
        loss = training_loss(logits, batch.labels, batch.weights, config.label_smoothing)
        scaler.scale(loss).backward()
        if config.clip_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self._parameters, config.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        return loss, logits

    def _choose(self) -> bool:
        """Asks the subset for the rows of this epoch, once; whether they are others."""
        if self._subset is None or self._chosen == self._epoch:
            return False
        self.randomness.at(self._epoch, -1)
        with self._timed("selection"):
            rows = self._subset.choose(self._epoch, self._network, self._ledger.recorder)
        self._chosen = self._epoch
        if rows is None:
            return False
        if not isinstance(rows, Rows):
            raise TypeError(f"choose of subset must return Rows or None, got {type(rows).__name__}")
        self._rows = rows.within(len(self._dataset))
        self._check_rows()
        return True

    def _check_rows(self) -> None:
        twice = None if self._rows is None or self._ledger.recorder is None else self._rows.repeated
        if twice is not None:
            raise ValueError(
                f"record=True records a row once an epoch, but row {twice} is in indices more than once"
            )

    def _batches(self) -> TrainingBatches:
        rows, config = self._rows, self._config
        return TrainingBatches(
            self._dataset,
            None if rows is None else rows.indices,
            None if rows is None else rows.weights,
            batch_size=config.batch_size,
            augment=config.augment,
            seed=self._seed,
            device=self._device,
            workers=self._workers,
        )

    def _end_epoch(self, monitor: Monitor, rate: float | None, loss: float | None) -> None:
        """Tests where it is time, and writes the line of history."""
        accuracy, done, config = None, self._epoch, self._config
        if self._test is not None and (done % config.evaluate_every == 0 or done == config.epochs):
            with self._timed("evaluation"):
                accuracy = evaluate(
                    self._network,
                    self._test,
                    batch_size=config.evaluation_batch_size,
                    device=self._device,
                    amp=config.amp,
                    workers=self._workers,
                )
        self._peak = max(self._peak, peak_bytes()[str(self._device)])
        line = {"epoch": done, "step": self._steps, "learning_rate": rate, "loss": loss, "accuracy": accuracy}
        self._history.append({**line, "seconds": self._seconds["training"]})
        monitor.epoch(self._history[-1])

    def _check_finite(self, rate: float) -> None:
        if not all(bool(each.isfinite().all()) for each in self._parameters):
            raise FloatingPointError(
                f"weights of the network are not finite after epoch {self._epoch + 1}, step {self._step}, at "
                f"learning rate {rate:.4g}: a lower one or clip_norm may help"
            )

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._seconds[what] += time.perf_counter() - begin

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on, for a checkpoint."""
        return {
            "ledger": self._ledger.state_dict(),
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "subset": None if self._subset is None else self._subset.state_dict(),
            "rows": None if self._rows is None or self._subset is None else self._rows.state_dict(),
            "history": self._history,
            "seconds": self._seconds,
            "peak": max(self._peak, peak_bytes()[str(self._device)]),
            **{name: getattr(self, f"_{name}") for name in _COUNTERS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what ``state_dict`` gave."""
        self._ledger.load_state_dict(state["ledger"])
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._subset is not None:
            self._subset.load_state_dict(state["subset"])
            self._rows = None if state["rows"] is None else Rows(**state["rows"])
        self._history, self._seconds, self._peak = state["history"], state["seconds"], state["peak"]
        for name in _COUNTERS:
            setattr(self, f"_{name}", state[name])

    def result(self) -> TrainingResult:
        """What came of it, at the end."""
        tested = [line for line in self._history if line["accuracy"] is not None]
        best = max(tested, key=lambda line: line["accuracy"], default=None)  # the first of equal ones
        recorder = self._ledger.recorder
        return TrainingResult(
            accuracy_last=tested[-1]["accuracy"] if tested else None,
            accuracy_best=best["accuracy"] if best else None,
            best_epoch=best["epoch"] if best else None,
            history=self._history,
            dynamics=None if recorder is None else recorder.dynamics,
            seconds=self._seconds["training"],
            evaluation_seconds=self._seconds["evaluation"],
            selection_seconds=self._seconds["selection"],
            peak_bytes=self._peak,
            steps=self._steps,
            rows=self._count,
        )


def _until(interrupts: Interrupts, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
    """The batches up to a Ctrl-C."""
    while not interrupts.noted:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError:
            # A terminal sends the Ctrl-C to loading processes too: that they are gone is no error then.
            if interrupts.noted:
                return
            raise
        yield batch
