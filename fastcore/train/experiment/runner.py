"""``run``: an experiment from its recipe to its results, by as many processes as there are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from fastcore import checks
from fastcore.train.config import ExperimentConfig
from fastcore.train.datasets import Splits, load
from fastcore.train.experiment import processes as several
from fastcore.train.experiment.claims import Claims, waiting
from fastcore.train.experiment.layout import Layout
from fastcore.train.experiment.plan import left_out, plan
from fastcore.train.experiment.progress import Reporter
from fastcore.train.experiment.results import Results
from fastcore.train.experiment.worker import Worker, fingerprint


class IncompleteError(RuntimeError):
    """Some runs of an experiment failed; the others are done."""


def run(
    config: ExperimentConfig,
    output: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    processes: int = 1,
    progress: bool | None = None,
    force: bool = False,
    splits: Splits | None = None,
) -> Path:
    """Makes all runs of an experiment that are not made yet; returns the file of results, a row for each.

    Runs that are in the file are not made again, so the same call after an interruption, a kill or a crash goes
    on where it was, inside a training too, and more methods, fractions, seeds or networks cost only themselves.
    What a run is known by is a hash of all that determines its result: data, method and options, fraction, seed,
    networks, training.

    Any number of processes, on any number of machines with one file system, may work on one folder at a time:
    ``processes`` of one call, several calls, or those of torchrun, each of which takes its GPU. Runs are
    independent, so each process takes the next one that nobody has, under a file lock. Results do not depend on
    how many there are, up to the last bits where the number of threads of a process differs.

    Args:
        config: the experiment.
        output: its folder.
        cache: folder for networks that select and for what they say of every row, which experiments may share;
            by default ``cache`` in the output folder.
        device: where networks run; by default a GPU where there is one, every process the next one.
        processes: how many to start here, which share the threads of this one.
        progress: False for no line on standard error for each finished run.
        force: whether the folder may hold runs of another recipe, trained in another way.
        splits: the data, where it was loaded before; one process only.

    Raises:
        ValueError, TypeError: for a configuration that cannot be run, before anything is.
        OSError: for files that cannot be read or written. What was finished stays, whole.
        IncompleteError: at the end, when runs failed; ``failures`` in the output folder says why.
        KeyboardInterrupt: when interrupted, once the state of training is saved.
    """
    processes = checks.whole("processes", processes, 1)
    checks.choice("progress", progress, (None, True, False))
    if processes > 1 and several.launched():
        raise ValueError(f"processes must be 1 under torchrun, which starts them, got {processes}")
    if processes > 1 and splits is not None:
        raise ValueError(f"processes must be 1 with splits=, got {processes}: name a function in data.name")
    output = Path(output)
    layout = Layout(output, output / "cache" if cache is None else Path(cache))
    runs, first = plan(config), several.rank() == 0
    layout.prepare(config, force)
    show = progress is not False and first
    if show:
        for line in left_out(config):
            print(line, file=sys.stderr)
    with several.terminated_like_interrupted():
        splits = splits or _loaded(config, layout)
        by_key = {each.key(fingerprint(splits)): each for each in runs}
        results = Results(layout.results, layout.results_lock)
        if first and layout.results.exists():
            results.relabel({key: each.label for key, each in by_key.items()})
        count = int(os.environ.get("WORLD_SIZE", 1)) if several.launched() else processes
        reporter = Reporter(by_key, results, count, show)
        session = several.session()
        if len(reporter.done()) == len(by_key):
            return layout.results
        if processes == 1:
            place = several.pick_device(device)
            Worker(config, splits, by_key, layout, place, session).work(reporter.update)
        else:
            del splits
            claims = Claims(layout.locks, session)

            def died(process: int, reason: str) -> None:
                was = [str(by_key[key]) for key in claims.begun_by(process) if key in by_key]
                what = f" while it made {', '.join(was)}" if was else ""
                print(f"fastcore: process {process} {reason}{what}", file=sys.stderr, flush=True)

            arguments = (config, layout, device, session)
            several.run_in_processes(processes, _work, arguments, watch=reporter.update, died=died)
        reporter.update()
    missing = len(by_key) - len(reporter.done())
    if missing and first:
        why = f" ({layout.failures} says why)" if layout.failures.exists() else ""
        raise IncompleteError(f"{missing} of {len(by_key)} runs are not done{why}: the same command goes on")
    return layout.results


def _work(number: int, config: ExperimentConfig, layout: Layout, device: str | None, session: str) -> None:
    """What each process does."""
    splits = _loaded(config, layout)
    runs = {each.key(fingerprint(splits)): each for each in plan(config)}
    Worker(config, splits, runs, layout, several.pick_device(device, number), session).work()


def _loaded(config: ExperimentConfig, layout: Layout) -> Splits:
    """The data; where it may have to be downloaded, one process at a time."""
    if not config.data.download:
        return load(config.data)
    with waiting(layout.locks / "download.lock"):
        return load(config.data)
