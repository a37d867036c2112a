"""Results as tables of means: which rows and columns there are, and what stands in a cell."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastcore import checks
from fastcore.train.report import paper
from fastcore.train.report.results import Result, labelled
from fastcore.train.report.statistics import Difference, Sample, difference

FULL = "full"
_DATASETS = {
    "mnist": "MNIST",
    "qmnist": "QMNIST",
    "fashion_mnist": "Fashion-MNIST",
    "svhn": "SVHN",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny-ImageNet",
    "imagenet": "ImageNet",
    "digits": "Digits",
}


@dataclass(frozen=True)
class Cell:
    """What is known of a method in one place; None where it was not measured, or the paper has no number.

    Attributes:
        ours: the accuracies.
        beside: how far they lie above those of uniform in the same place.
        paper: what the paper reports.
        results: the runs.
    """

    ours: Sample | None = None
    beside: Difference | None = None
    paper: paper.Published | None = None
    results: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of a table: a method, with the network that selected for it.

    Attributes:
        label: what tables call the method.
        method: its name.
        selector: the network that selected; None where the method needs none.
        cells: one for every column.
    """

    label: str
    method: str
    selector: str | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Accuracies of methods on one data set, trained alike.

    Attributes:
        name: what its files are called; empty for the only table.
        title: what it shows.
        dataset: its name.
        layout: what a column is: a "fraction", a "network" that is trained, or the "epochs" of selection.
        columns: the fractions, networks or numbers of epochs.
        rows: uniform first, then in the order of the paper.
        accuracy: "last" or "best".
        seeds: how many were planned.
    """

    name: str
    title: str
    dataset: str
    layout: str
    columns: tuple[Any, ...]
    rows: tuple[Row, ...]
    accuracy: str
    seeds: int

    @property
    def results(self) -> list[Result]:
        """The runs behind the cells, each once."""
        return list(
            {run.key: run for row in self.rows for cell in row.cells for run in cell.results}.values()
        )

    @property
    def epoch(self) -> str:
        """When the accuracies were measured, in words."""
        return "after the last epoch" if self.accuracy == "last" else "of the best test epoch"

    @property
    def selectors(self) -> list[str]:
        """The networks that selected."""
        return sorted({row.selector for row in self.rows if row.selector})

    @property
    def headings(self) -> tuple[str, ...]:
        """What the columns are called."""
        if self.layout == "fraction":
            return tuple(FULL if fraction == 1 else percent(fraction) for fraction in self.columns)
        return tuple(map(str, self.columns))


def percent(fraction: float) -> str:
    """A fraction as a percentage, such as "0.1 %"."""
    return f"{100 * fraction:.6g} %"


def dataset_title(name: str) -> str:
    """What a data set is called in a sentence."""
    return _DATASETS.get(name, name)


def tables(results: Sequence[Result], accuracy: str = "last") -> list[Table]:
    """All tables of some results. ``accuracy`` is "last" or "best"; raises ValueError for another."""
    checks.choice("accuracy", accuracy, ("last", "best"))
    groups: dict[tuple[str, str], list[tuple[str, Result]]] = {}
    for label, result in labelled(results):
        groups.setdefault((result.dataset, result.settings), []).append((label, result))
    found: list[Table] = []
    for dataset, settings in sorted(groups):
        others = [other for name, other in groups if name == dataset and other != settings]
        suffix = "".join(f", {each}" for each in _differing(settings, others))
        found += _Group(groups[dataset, settings], accuracy, suffix).tables()
    return _named(found)


class _Group:
    """Results on one data set that were trained alike."""

    def __init__(self, results: list[tuple[str, Result]], accuracy: str, suffix: str) -> None:
        self.accuracy, self.suffix = accuracy, suffix
        # Where a run stands: network, network that selected, its epochs, label, fraction.
        self.runs: dict[tuple[Any, ...], list[Result]] = {}
        for label, run in results:
            place = (run.network, run.selection_network, run.selection_epochs, label, run.fraction)
            self.runs.setdefault(place, []).append(run)
        first = results[0][1]
        self.dataset, self.complete = first.dataset, first.complete
        self.seeds = max(len(run.config.get("seeds", ())) for _, run in results)
        self.paper_table = next(
            (run.config["paper_table"] for _, run in results if run.config.get("paper_table")), None
        )
        self.labels = _ranked((label, FULL if run.whole else run.method_name) for label, run in results)
        self.uniform = next((label for label, method in self.labels if method == "uniform"), None)
        self.networks = _listed((run.network for _, run in results), first.config.get("networks", ()))

    def tables(self) -> Iterator[Table]:
        lengths = _listed(epochs for _, _, epochs, *_ in self.runs if epochs is not None)
        parts = _listed(fraction for *_, fraction in self.runs if fraction < 1)
        crossed = any(selector not in (None, network) for network, selector, *_ in self.runs)
        epochs = lengths[0] if lengths else None
        if len(lengths) > 1:
            for network, fraction in itertools.product(self.networks, parts):
                yield self._table("epochs", lengths, network=network, fraction=fraction)
        elif crossed and len(self.networks) > 1:
            for fraction in parts:
                yield self._table("network", self.networks, epochs=epochs, fraction=fraction)
        else:
            for network in self.networks:
                fractions = _listed(fraction for name, *_, fraction in self.runs if name == network)
                yield self._table("fraction", fractions, network=network, epochs=epochs)

    def _table(self, layout: str, columns: Sequence[Any], **fixed: Any) -> Table:
        places = [{**fixed, layout: column} for column in columns]
        rows = []
        for label, method in self.labels:
            if method == FULL and layout == "fraction" and len(self.labels) > 1:
                continue  # it is a column
            for selector in self._selectors(label, {place["network"] for place in places}):
                cells = tuple(self._cell(label, method, selector, **place) for place in places)
                if any(cell.ours for cell in cells):
                    rows.append(Row(label, method, selector, cells))
        network = fixed.get("network", "several networks")
        name, title = (
            f"{self.dataset}_{network}".replace(" ", "_"),
            f"{dataset_title(self.dataset)}, {network}",
        )
        if "fraction" in fixed:
            title += f", {percent(fixed['fraction'])} of the rows"
            name += f"_{100 * fixed['fraction']:.6g}".replace(".", "p")
        name = re.sub(r"[^\w-]+", "_", name)
        return Table(
            name=name,
            title=title + self.suffix,
            dataset=self.dataset,
            layout=layout,
            columns=tuple(columns),
            rows=tuple(rows),
            accuracy=self.accuracy,
            seeds=self.seeds,
        )

    def _selectors(self, label: str, networks: set[str]) -> Sequence[str | None]:
        """Networks that selected for a method; [None] when it needs none."""
        found = {name for network, name, _, each, _ in self.runs if each == label and network in networks}
        return _listed(found - {None}, self.networks) or [None]

    def _cell(
        self, label: str, method: str, selector: str | None, network: str, epochs: int, fraction: float
    ) -> Cell:
        if method == FULL or fraction == 1:
            # All rows are the same rows for every method, but only the paper's methods have a number there.
            method = "uniform" if method in (FULL, *paper.methods()) else method
            label, selector, fraction = FULL, None, 1.0
        runs = self._runs(network, selector, epochs, label, fraction)
        ours, uniform = (
            self._sample(runs),
            self._sample(self._runs(network, None, None, self.uniform, fraction)),
        )
        compared = label not in (FULL, self.uniform)
        return Cell(
            ours,
            difference(ours, uniform) if compared and ours and uniform else None,
            self._published(method, selector, network, epochs, fraction),
            tuple(runs),
        )

    def _published(
        self, method: str, selector: str | None, network: str, epochs: int | None, fraction: float
    ) -> paper.Published | None:
        if not self.complete:
            return None
        chosen: tuple[str | None, int | None] = (
            selector or network,
            paper.SELECTION_EPOCHS if epochs is None else epochs,
        )
        if method == "uniform":
            chosen = (None, None)
        return paper.published((self.dataset, network, *chosen, method, fraction), self.paper_table)

    def _runs(
        self, network: str, selector: str | None, epochs: int | None, label: str | None, fraction: float
    ) -> list[Result]:
        return self.runs.get((network, selector, epochs if selector else None, label, fraction), [])

    def _sample(self, runs: list[Result]) -> Sample | None:
        values = {run.seed: 100 * getattr(run, f"accuracy_{self.accuracy}") for run in runs}
        return Sample(values) if values else None


def _ranked(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of label and method: uniform first, then in the paper's order, then the others, then full."""
    order = paper.methods()

    def place(pair: tuple[str, str]) -> tuple[int, str, bool, str]:
        label, method = pair
        last = len(order) + (label == FULL)
        # The plain form of a method comes before its variants.
        return (order.index(method) if method in order else last, method, label != method, label)

    return sorted(set(pairs), key=place)


def _listed(values: Iterable[Any], wanted: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Distinct values: those that are wanted in their order, then the others, sorted."""
    order = list(wanted)
    return tuple(
        sorted(set(values), key=lambda each: (order.index(each) if each in order else len(order), each))
    )


def _differing(settings: str, others: list[str]) -> list[str]:
    """The settings that others on the same data set do not share, as ``train.epochs=20``."""
    mine, found = json.loads(settings), []
    for part, fields in mine.items():
        for name, value in fields.items():
            if any(json.loads(other).get(part, {}).get(name) != value for other in others):
                found.append(f"{part}.{name}={json.dumps(value)}")
    return found


def _named(found: list[Table]) -> list[Table]:
    """Tables with names that differ; the only one needs none."""
    if len(found) == 1:
        return [replace(found[0], name="")]
    counts: dict[str, int] = {}
    named = []
    for each in found:
        counts[each.name] = counts.get(each.name, 0) + 1
        suffix = f"_{counts[each.name]}" if counts[each.name] > 1 else ""
        named.append(replace(each, name=each.name + suffix))
    return named
