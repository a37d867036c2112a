"""The folders of an experiment: what is where, and which recipe they belong to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcore.files import write_atomic
from fastcore.train import reading
from fastcore.train.config import ExperimentConfig
from fastcore.train.experiment.results import FILE

# What may differ between two calls for one folder: more of the same experiment, or where things are.
_FREE = {
    "": {"networks", "methods", "fractions", "seeds", "paper_table"},
    "data": {"root", "download", "workers"},
    "selection": {"networks", "epochs"},
    "train": {"evaluation_batch_size"},
}


@dataclass(frozen=True)
class Layout:
    """Where the files of an experiment are.

    Attributes:
        output: the folder of the results.
        cache: the folder of the networks that select, which experiments may share.
    """

    output: Path
    cache: Path

    @property
    def recipe(self) -> Path:
        """The experiment, with all its settings."""
        return self.output / "recipe.yaml"

    @property
    def results(self) -> Path:
        """The finished runs."""
        return self.output / FILE

    @property
    def selections(self) -> Path:
        """The chosen rows."""
        return self.output / "selections"

    @property
    def checkpoints(self) -> Path:
        """Trainings that have not ended."""
        return self.output / "checkpoints"

    @property
    def locks(self) -> Path:
        """Who works on what."""
        return self.output / "locks"

    @property
    def results_lock(self) -> Path:
        """What is locked while a row is added to the results."""
        return self.locks / "results.lock"

    @property
    def failures(self) -> Path:
        """Why runs failed."""
        return self.output / "failures"

    @property
    def models(self) -> Path:
        """Networks that select, and what they say of every row."""
        return self.cache / "models"

    def prepare(self, config: ExperimentConfig, force: bool = False) -> None:
        """Makes the folders and writes the recipe.

        Methods, fractions, seeds and networks may be others than before: runs are added, and none is lost.
        Raises ValueError where something else differs from the recipe that is there, unless ``force``, and
        OSError where the folder cannot be written to.
        """
        for folder in (self.output, self.selections, self.checkpoints, self.locks, self.models):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(error.errno, f"cannot make the folder {folder}: {error.strerror}") from error
        if not force and self.recipe.exists():
            self._check(config)
        write_atomic(self.recipe, reading.dump(config).encode())

    def _check(self, config: ExperimentConfig) -> None:
        there, wanted = (_fixed(each) for each in (reading.load(self.recipe), config))
        for name, value in wanted.items():
            if there[name] != value:
                raise ValueError(
                    f"{self.output} holds an experiment with {name}={there[name]!r}, not {value!r}: give this one "
                    "another folder, or --force to have both in this one"
                )


def _fixed(config: ExperimentConfig) -> dict[str, Any]:
    """The settings that all runs of a folder have in common."""
    fixed: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in _FREE[""]:
            continue
        if not dataclasses.is_dataclass(value):
            fixed[name] = value
            continue
        for inner, each in vars(value).items():
            if inner not in _FREE[name]:
                fixed[f"{name}.{inner}"] = reading.plain(each)
    return fixed
