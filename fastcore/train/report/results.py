"""Finished runs, as results files hold them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcore.train.experiment.results import read_results

_TEXTS = ("key", "experiment", "dataset", "network", "method", "method_name", "options", "config", "versions")
_NUMBERS = ("fraction", "k", "n", "seed", "accuracy_last", "accuracy_best", "epochs")
# Settings of an experiment that do not change what an accuracy means: two runs that differ in nothing else
# may stand in one mean.
_FREE = {
    "data": {"root", "download", "workers"},
    "selection": {"networks", "epochs"},
    "train": {"evaluation_batch_size"},
}


@dataclass(frozen=True)
class Result:
    """One finished run: a row of a results file.

    Attributes:
        key: what identifies the run by its content.
        experiment, dataset, network: names.
        method: what tables call the method; "full" for all rows.
        method_name: its name among the methods.
        options: its options, as JSON.
        fraction: share of the rows that were kept, in (0, 1].
        k, n: rows kept, of how many.
        seed: of the run.
        selection_network, selection_epochs: what selected; None where the method needs no network.
        accuracy_last, accuracy_best: in [0, 1].
        epochs: that the network was trained for.
        selection_seconds, pretrain_seconds, signal_seconds, training_seconds: 0 where there was nothing to do.
        device: that it ran on, in words.
        indices: file of the selection; None for all rows.
        config: the whole experiment, as plain values.
        versions: of what it ran with.
        git_commit: of the source, or None.
        finished: time in UTC, ISO.
    """

    key: str
    experiment: str
    dataset: str
    network: str
    method: str
    method_name: str
    options: str
    fraction: float
    k: int
    n: int
    seed: int
    selection_network: str | None
    selection_epochs: int | None
    accuracy_last: float
    accuracy_best: float
    epochs: int
    selection_seconds: float
    pretrain_seconds: float
    signal_seconds: float
    training_seconds: float
    device: str
    indices: Path | None
    config: dict[str, Any]
    versions: dict[str, Any]
    git_commit: str | None
    finished: str

    @property
    def settings(self) -> str:
        """How it was trained and on which rows, as JSON: what runs have in common that may be averaged."""
        held = {part: self.config.get(part, {}) for part in _FREE}
        kept = {part: {k: v for k, v in held[part].items() if k not in _FREE[part]} for part in _FREE}
        return json.dumps(kept, sort_keys=True)

    @property
    def complete(self) -> bool:
        """Whether it had the whole data set to choose from and to be tested on."""
        data = self.config.get("data", {})
        return data.get("rows") is None and data.get("test_rows") is None

    @property
    def whole(self) -> bool:
        """Whether it was trained on all rows."""
        return math.isclose(self.fraction, 1.0)


def read(sources: Iterable[str | Path]) -> list[Result]:
    """The finished runs of experiment folders and results files.

    A run that two sources hold counts once; of two runs that differ in nothing but when they ran, the later
    one counts. Raises OSError for a file that cannot be read, ValueError for one that is not a results file.
    """
    found: dict[tuple[Any, ...], Result] = {}
    for source in sources:
        for result in _read(Path(source)):
            place = (
                *(result.dataset, result.network, result.method, result.method_name, result.options),
                *(result.fraction, result.seed, result.selection_network, result.selection_epochs),
                result.settings,
            )
            if place not in found or found[place].finished <= result.finished:
                found[place] = result
    return sorted(found.values(), key=lambda each: (each.fraction, each.seed, each.finished, each.key))


def labelled(results: Sequence[Result]) -> list[tuple[str, Result]]:
    """Results with the label of their method, made longer where one label stands for several methods."""
    meanings: dict[str, set[tuple[str, str]]] = {}
    for each in results:
        meanings.setdefault(each.method, set()).add((each.method_name, each.options))
    return [(_label(each, meanings[each.method]), each) for each in results]


def _label(result: Result, meanings: set[tuple[str, str]]) -> str:
    if len(meanings) == 1:
        return result.method
    name = "" if result.method_name == result.method else f" ({result.method_name})"
    options = ", ".join(f"{key}={value}" for key, value in _mapping(result.options).items())
    return f"{result.method}{name} {options}".rstrip()


def _read(source: Path) -> list[Result]:
    rows = read_results(source)
    folder = source if source.is_dir() else source.parent
    if not rows:
        raise ValueError(f"{source} holds no finished run")
    planned = _planned(folder / "recipe.yaml")
    return [_result(source, number, row, planned) for number, row in enumerate(rows)]


def _planned(recipe: Path) -> dict[str, Any]:
    """What the recipe beside the results asks for now, which may be more than it did when a run began."""
    if not recipe.exists():
        return {}
    from fastcore.train import reading

    values = reading.parse(recipe.read_text(encoding="utf-8"), str(recipe))
    return {name: values[name] for name in ("seeds", "paper_table") if name in values}


def _result(path: Path, number: int, row: dict[str, Any], planned: dict[str, Any]) -> Result:
    def wrong(name: str, takes: str) -> ValueError:
        return ValueError(f"{path}: {name} of row {number} must be {takes}, got {row[name]!r}")

    for name in _TEXTS:
        if not isinstance(row[name], str):
            raise wrong(name, "a text")
    for name in _NUMBERS:
        if not isinstance(row[name], int | float) or not math.isfinite(row[name]):
            raise wrong(name, "a number")
    for name in ("accuracy_last", "accuracy_best"):
        if not 0 <= row[name] <= 1:
            raise wrong(name, "in [0, 1]")
    if not 0 < row["fraction"] <= 1:
        raise wrong("fraction", "in (0, 1]")
    mappings = {}
    for name in ("config", "versions"):
        try:
            mappings[name] = _mapping(row[name])
        except ValueError:
            raise wrong(name, "the JSON of a mapping") from None
    mappings["config"] |= planned
    times = {name: row[name] or 0.0 for name in row if name.endswith("_seconds")}
    texts = {name: row[name] or "" for name in ("device", "finished")}
    # The same fraction must be the same number, however it was computed.
    fraction = round(row["fraction"], 9)
    folder, file = path if path.is_dir() else path.parent, row["indices_file"]
    changed = {**times, **texts, **mappings, "fraction": fraction, "indices": file and folder / file}
    return Result(**{field.name: {**row, **changed}[field.name] for field in dataclasses.fields(Result)})


def _mapping(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return value
