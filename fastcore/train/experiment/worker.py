"""A process that makes the runs of an experiment, one after the other, beside any number of others."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from fastcore import selection as selections
from fastcore.files import write_atomic
from fastcore.selection import Selection
from fastcore.train import networks, reading
from fastcore.train.config import ExperimentConfig
from fastcore.train.datasets import Splits
from fastcore.train.experiment import record
from fastcore.train.experiment.claims import Claims
from fastcore.train.experiment.keys import digest
from fastcore.train.experiment.layout import Layout
from fastcore.train.experiment.models import BusyError, SelectionModels, resuming
from fastcore.train.experiment.plan import FULL, Run, needs_record
from fastcore.train.experiment.results import Results, as_json
from fastcore.train.experiment.selecting import Material, choose, material
from fastcore.train.reselection import Reselection
from fastcore.train.training import TrainingResult, fit

_POLL_SECONDS = 1.0
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def fingerprint(splits: Splits) -> str:
    """The data of an experiment as one name, by content."""
    return digest({"train": splits.train.fingerprint, "test": splits.test.fingerprint})


class Worker:
    """Takes runs that nobody has taken, in their order, until all are done.

    Processes need no word from each other: what is done is in the results, and what is being done is locked by
    who does it, for as long as it lives. That is all the coordination there is to independent runs: nothing is
    summed over processes, so no collective operations, and no process waits for the slowest.

    Args:
        config: the experiment.
        splits: its data.
        runs: what there is to do, by key.
        layout: where the files are.
        device: where networks run.
        session: name of the command that this process is a part of.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        splits: Splits,
        runs: Mapping[str, Run],
        layout: Layout,
        device: torch.device,
        session: str,
    ) -> None:
        self._config, self._runs, self._layout, self._device = config, runs, layout, device
        self._train, self._test = splits.train.to(device), splits.test.to(device)
        self._data = fingerprint(splits)
        self._results = Results(layout.results, layout.results_lock)
        self._claims = Claims(layout.locks, session)
        self._models = SelectionModels(layout.models, self._train, device, config.data.workers)

    def work(self, finished: Callable[[], None] = lambda: None) -> None:
        """Makes runs until there is nothing left to do, for this process or for others; then all have ended.

        A run that fails is reported and left. ``finished`` is called now and then, at the latest after every
        run. Raises KeyboardInterrupt, and OSError where nothing can be written or read any more.
        """
        while pending := [key for key in self._runs if not self._ended(key)]:
            if not any(self._attempt(key) for key in pending):
                time.sleep(_POLL_SECONDS)
            finished()

    def _ended(self, key: str) -> bool:
        return key in self._results.rows() or self._claims.failed(key)

    def _attempt(self, key: str) -> bool:
        """Makes a run, unless another process has it or makes a network that it needs; says whether it did."""
        with self._claims.take(key) as ours:
            if not ours:
                return False
            if self._ended(key):
                return True
            if self._claims.given_up(key):
                self._fail(key, "processes that make it die", "")
                return True
            self._claims.begin(key)
            try:
                self._make(key, self._runs[key])
            except BusyError:
                self._claims.end(key)
                return False
            except KeyboardInterrupt:
                self._claims.end(key)
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
                    self._claims.end(key)
                    raise
                self._fail(key, str(error) or type(error).__name__, traceback.format_exc())
            else:
                self._claims.end(key, done=True)
            finally:
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()  # other processes may share the GPU
            return True

    def _fail(self, key: str, reason: str, details: str) -> None:
        file = self._layout.failures / f"{key}.txt"
        file.parent.mkdir(exist_ok=True)
        write_atomic(file, f"{self._runs[key]}\n{reason}\n\n{details}".encode())
        self._claims.fail(key)
        line = " ".join(reason.split())
        print(f"fastcore: failed: {self._runs[key]}: {line} ({file})", file=sys.stderr, flush=True)

    def _make(self, key: str, run: Run) -> None:
        made = (
            None
            if run.method == FULL or run.reselect_every
            else material(run, self._models, len(self._train))
        )
        record.forget_peak(self._device)
        selection = None if made is None else self._select(run, made)
        peak = record.peak_bytes(self._device)  # training counts anew on a GPU
        checkpoint = self._layout.checkpoints / f"{key}.pt"
        result, selection = resuming(checkpoint, lambda: self._fit(run, selection, checkpoint))
        row = self._row(key, run, made, selection, result)
        self._results.append({**row, "peak_bytes": max(peak, record.peak_bytes(self._device))})
        checkpoint.unlink(missing_ok=True)
        (self._layout.failures / f"{key}.txt").unlink(missing_ok=True)

    def _select(self, run: Run, made: Material) -> Selection:
        """The selection of a run, from its file where there is one."""
        with contextlib.suppress(OSError, ValueError):
            return selections.load(self._path(run))
        selection = choose(run, made, self._train.labels, self._device)
        self._keep(run, selection)
        return selection

    def _keep(self, run: Run, selection: Selection) -> None:
        """Writes a selection without its scores: they are the same for all fractions, and larger than all else."""
        dataclasses.replace(selection, scores=None).save(self._path(run))

    def _fit(
        self, run: Run, selection: Selection | None, checkpoint: Path
    ) -> tuple[TrainingResult, Selection | None]:
        """Trains a fresh network on the rows of a run; with the selection, or the last of several."""
        shape, classes, seed = self._train.shape, self._train.classes, run.seed_for("initialisation")
        network = networks.build(run.network, shape=shape, classes=classes, seed=seed)
        subset = self._reselection(run) if run.reselect_every and run.method != FULL else None
        result = fit(
            network,
            self._train,
            run.train,
            test=self._test,
            indices=None if selection is None else torch.from_numpy(selection.indices.copy()),
            weights=None if selection is None or selection.weights is None else selection.weights,
            subset=subset,
            record=subset is not None and needs_record(run.method, run.options),
            seed=run.seed_for("order"),
            device=self._device,
            checkpoint=checkpoint,
            progress=False,
            workers=self._config.data.workers,
        )
        if subset is not None:
            selection = subset.selection
            if selection is not None:
                self._keep(run, selection)
        return result, selection

    def _reselection(self, run: Run) -> Reselection:
        return Reselection(
            run.method,
            self._train,
            every=run.reselect_every or 1,
            fraction=run.fraction,
            warm_start=run.warm_start,
            epochs=run.train.epochs,
            balance=run.balance,
            seed=run.seed_for("selection"),
            options={**run.options, "workers": self._config.data.workers},
            device=self._device,
            progress=False,
        )

    def _path(self, run: Run) -> Path:
        return self._layout.selections / f"{run.selection_key(self._data)}.npz"

    def _row(
        self,
        key: str,
        run: Run,
        made: Material | None,
        selection: Selection | None,
        result: TrainingResult,
    ) -> dict[str, object]:
        model = run.models[0] if run.models else None
        n = len(self._train)
        selecting = (
            result.selection_seconds if made is None or selection is None else selection.info["seconds"]
        )
        return {
            "key": key,
            "experiment": self._config.name,
            "dataset": self._config.data.name,
            "network": run.network,
            "method": run.label,
            "method_name": run.method,
            "options": as_json(run.options),
            "fraction": run.fraction,
            "k": n if selection is None else len(selection),
            "n": n,
            "seed": run.seed,
            "selection_network": model and model.network,
            "selection_epochs": model and model.train.epochs,
            "accuracy_last": result.accuracy_last,
            "accuracy_best": result.accuracy_best,
            "best_epoch": result.best_epoch,
            "epochs": run.train.epochs,
            "selection_seconds": selecting,
            "pretrain_seconds": 0.0 if made is None else made.pretrain_seconds,
            "signal_seconds": 0.0 if made is None else made.signal_seconds,
            "training_seconds": result.seconds,
            "evaluation_seconds": result.evaluation_seconds,
            "device": record.device_name(self._device),
            "indices_file": None
            if selection is None
            else str(self._path(run).relative_to(self._layout.output)),
            "config": as_json(reading.plain(self._config)),
            "versions": as_json(record.versions()),
            "git_commit": record.git_commit(),
            "finished": record.now(),
            "history": as_json(
                [[each["epoch"], each["accuracy"]] for each in result.history if each["accuracy"] is not None]
            ),
        }
