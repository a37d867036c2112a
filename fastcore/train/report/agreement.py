"""Whether a method lies above or below random where it does in the paper."""

from __future__ import annotations

from dataclasses import dataclass

from fastcore.train.report import paper
from fastcore.train.report.tables import Row, Table

# 1 above, -1 below, 0 not told apart, None not known: ours, then the paper's.
Verdict = tuple[int | None, int | None]


@dataclass(frozen=True)
class Agreement:
    """The order of methods against uniform, here and in the paper.

    Attributes:
        table: ours.
        fractions: that both have.
        rows: rows of the table with what is said at each fraction.
        same: whether data set, network and epochs are the paper's.
    """

    table: Table
    fractions: tuple[float, ...]
    rows: tuple[tuple[Row, list[Verdict]], ...]
    same: bool

    @staticmethod
    def counts(verdicts: list[Verdict]) -> tuple[int, int, int]:
        """How often both say the same, how often the opposite, how often only one of them says anything."""
        both = [(ours, theirs) for ours, theirs in verdicts if ours is not None and theirs is not None]
        same, opposite = sum(a == b for a, b in both), sum(a * b == -1 for a, b in both)
        return same, opposite, len(both) - same - opposite


def agreement(table: Table) -> Agreement | None:
    """The order of a table by fractions beside that of the paper at the same fractions; None where none is."""
    if table.layout != "fraction":
        return None
    published = paper.order(table.dataset)
    measured = {fraction for method, fraction in published if method == "uniform" and fraction < 1}
    places = [place for place, fraction in enumerate(table.columns) if fraction in measured]
    rows = [row for row in table.rows if any(row.cells[place].beside for place in places)]
    if not rows:
        return None
    found = []
    for row in rows:
        verdicts: list[Verdict] = []
        for place in places:
            beside, fraction = row.cells[place].beside, table.columns[place]
            theirs, random = published.get((row.method, fraction)), published["uniform", fraction]
            apart = None if theirs is None else theirs.above(random).sign
            verdicts.append((None if beside is None else beside.sign, apart))
        found.append((row, verdicts))
    same = table.dataset in ("cifar10", "imagenet") and all(
        run.network == "resnet18"
        and run.epochs == paper.EPOCHS
        and not run.config.get("data", {}).get("rows")
        for run in table.results
    )
    return Agreement(table, tuple(table.columns[place] for place in places), tuple(found), same)
