"""The pictures of a report, and why one was left out."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from typing import Any

from fastcore import figures
from fastcore.train import reading
from fastcore.train.config import DataConfig
from fastcore.train.report import accuracy_plot, contact_sheet, time_plot
from fastcore.train.report.tables import Table


class Pictures:
    """Makes the pictures of tables.

    Args:
        kinds: of files.
        picks: images of each class in the contact sheet of every single method; 0 for no such sheets.
        splits: the data set, or None to load it.
        root: where its files are, or None for where the experiment found them.

    Attributes:
        left_out: a line for every picture that could not be made.
    """

    def __init__(
        self, kinds: tuple[str, ...], picks: int, splits: Any, root: str | os.PathLike[str] | None
    ) -> None:
        self.kinds, self.picks, self.root = kinds, picks, root
        self.left_out: list[str] = []
        self._splits: dict[str, Any] = {}
        self._given = splits

    def of(self, table: Table, fraction: float | None) -> dict[str, bytes]:
        """Files by their names. Raises ImportError where a library is missing."""
        files = {}
        for name, figure in self._figures(table, fraction):
            stem = f"{name}_{table.name}" if table.name else name
            for kind, content in figures.drawn(figure, self.kinds).items():
                files[f"{stem}.{kind}"] = content
        return files

    def _figures(self, table: Table, fraction: float | None) -> Iterator[tuple[str, Any]]:
        curves = accuracy_plot.plot(table)
        if curves is not None:
            yield "accuracy", curves
        else:
            self.left_out.append(f"{table.title}: no plot of accuracy, it takes two columns of numbers")
        if fraction is None:
            return
        if table.layout == "fraction":
            yield "time", time_plot.plot(table, fraction)
        chosen = contact_sheet.picks(table, fraction)
        if chosen is None:
            self.left_out.append(f"{table.title}: no contact sheet, there are no files of selections")
            return
        try:
            train = self._train(table)
            yield "contact_sheet", contact_sheet.plot(table, chosen, train)
            for label, _, _ in chosen.runs if self.picks else ():
                sheet = contact_sheet.plot_method(table, chosen, train, label, self.picks)
                yield f"contact_sheet_{re.sub('[^A-Za-z0-9]+', '_', label)}", sheet
        except (OSError, ValueError, TypeError, ImportError) as error:
            self.left_out.append(f"{table.title}: no contact sheet, {error}")

    def _train(self, table: Table) -> Any:
        """The rows that the runs of a table selected from."""
        if self._given is not None:
            return self._given.train
        config = reading.build(DataConfig, table.results[0].config.get("data", {}))
        config = dataclasses.replace(config, root=str(self.root or config.root), download=False)
        place = repr(config)
        if place not in self._splits:
            from fastcore.train import datasets

            self._splits[place] = datasets.load(config)
        return self._splits[place].train
