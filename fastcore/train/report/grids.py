"""Tables as text: the accuracies, how far they lie from random, and whether the paper saw the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median

from fastcore.train.report import paper
from fastcore.train.report.agreement import Agreement, Verdict
from fastcore.train.report.statistics import LEVEL, Difference, Sample
from fastcore.train.report.tables import Row, Table, dataset_title, percent

ABOVE, BELOW, SAME = "▲", "▼", "="
_MARKS = {1: ABOVE, -1: BELOW}
_RULE = f"Student's t at the {percent(LEVEL)} level, runs with the same seed paired"


@dataclass(frozen=True)
class Line:
    """A line of a grid: its labels, its cells, and whether it holds the paper's numbers."""

    labels: tuple[str, ...]
    cells: tuple[str, ...]
    paper: bool = False


@dataclass(frozen=True)
class Grid:
    """A table as text that every format writes.

    Attributes:
        name: what its files are called.
        title: what it shows, in a few words.
        labels: headings of the labels of the lines.
        columns: headings of the cells.
        lines: from top to bottom.
        notes: sentences that say how to read it.
        remarks: what its references, such as [1], stand for.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def accuracy(table: Table, remarks: Mapping[str, str]) -> Grid:
    """Mean ± standard deviation of every cell; under a method, the numbers of the paper where it has any.

    ``remarks`` say by method where the code that the paper's numbers came from differs from the definition.
    """
    usual, decimals = _usual(table), _decimals(table)
    lines, published = [], set()
    for row in table.rows:
        cells = [_cell(cell.ours, cell.beside, decimals, usual) for cell in row.cells]
        lines.append(Line(_labels(table, row), tuple(cells)))
        if any(cell.paper for cell in row.cells):
            published.add(row.method)
            numbers = tuple(_published(cell.paper, decimals) for cell in row.cells)
            label = f"  paper{_reference(row.method, remarks)}"
            lines.append(Line((label, *[""] * (len(lines[-1].labels) - 1)), numbers, paper=True))
    notes = [f"Test accuracy in % {table.epoch}, {_meaning(usual)}. The paper reports the best test epoch."]
    counts = {cell.ours.n for row in table.rows for cell in row.cells if cell.ours}
    notes += [f"({n}): {n} {_seeds(n)} instead of {usual}." for n in sorted(counts - {usual})]
    if usual < table.seeds:
        notes.append(f"{table.seeds} seeds are planned.")
    notes += _marked(table) + _selected(table)
    if published & remarks.keys():
        notes.append(
            "The paper's numbers come from its published code; numbers in brackets: where that differs."
        )
    if published:
        epochs = sorted({run.epochs for run in table.results})
        if epochs != [paper.EPOCHS]:
            notes.append(f"The paper trains for {paper.EPOCHS} epochs, here it is {_either(epochs)}.")
    return Grid(
        name=_name("table", table),
        title=table.title,
        labels=_headings(table),
        columns=table.headings,
        lines=tuple(lines),
        notes=tuple(notes),
        remarks=referenced(remarks, published),
    )


def differences(table: Table) -> Grid | None:
    """Difference to uniform ± its standard error; None where nothing can be compared."""
    columns = [
        place for place, column in enumerate(table.columns) if not (column == 1 and _by_fraction(table))
    ]
    rows = [row for row in table.rows if any(row.cells[place].beside for place in columns)]
    if not rows:
        return None
    decimals = _decimals(table)
    lines = [
        Line(_labels(table, row), tuple(_difference(row.cells[place].beside, decimals) for place in columns))
        for row in rows
    ]
    note = "Difference to uniform in points, mean ± standard error, by pairs of runs with the same seed."
    return Grid(
        name=_name("table_difference", table),
        title=f"{table.title}: beside uniform",
        labels=_headings(table),
        columns=tuple(table.headings[place] for place in columns),
        lines=tuple(lines),
        notes=(note, *_marked(table)),
    )


def agreements(found: Agreement, remarks: Mapping[str, str]) -> Grid:
    """Whether every method lies above or below uniform where it does in the paper."""
    table = found.table
    lines = [
        Line(
            (f"{_labels(table, row)[0]}{_reference(row.method, remarks)}", *_labels(table, row)[1:]),
            (*map(_pair, verdicts), *_counts(found, verdicts)),
        )
        for row, verdicts in found.rows
    ]
    everything = [each for _, verdicts in found.rows for each in verdicts]
    lines.append(
        Line(
            ("all", *[""] * (len(_headings(table)) - 1)),
            (*[""] * len(found.fractions), *_counts(found, everything)),
        )
    )
    notes = [
        f"Ours / the paper's: {ABOVE} above uniform, {BELOW} below, {SAME} not told apart. Ours: {_RULE}; the "
        "paper's: 2 standard errors of the difference of two means. Counts: both say the same (agree), one says "
        "above and the other below (opposite), one of them cannot tell (open)."
    ]
    theirs = "table 2 (ImageNet" if table.dataset == "imagenet" else "table 1 (CIFAR-10"
    notes.append(
        f"The paper's order is that of {theirs}, resnet18, {paper.EPOCHS} epochs, best test epoch)."
        + ("" if found.same else f" Here it is {_here(table)}: only the sign is compared.")
    )
    return Grid(
        name=_name("table_agreement", table),
        title=f"{table.title}: order against uniform, here and in the paper",
        labels=_headings(table),
        columns=(*map(percent, found.fractions), "agree", "opposite", "open"),
        lines=tuple(lines),
        notes=tuple(notes),
        remarks=referenced(remarks, {row.method for row, _ in found.rows}),
    )


def _cell(sample: Sample | None, beside: Difference | None, decimals: int, usual: int) -> str:
    if sample is None:
        return ""
    spread = "" if sample.std is None else f" ± {sample.std:.{decimals}f}"
    mark = _MARKS.get((beside and beside.sign) or 0, "")
    count = f"({sample.n})" if sample.n != usual else ""
    return " ".join(filter(None, (f"{sample.mean:.{decimals}f}{spread}", mark, count)))


def _published(cell: paper.Published | None, decimals: int) -> str:
    if cell is None:
        return ""
    # No more digits than the paper has.
    mean, std = (min(f"{value:.{decimals}f}", str(value), key=len) for value in (cell.mean, cell.std))
    return f"{mean} ± {std}"


def _difference(beside: Difference | None, decimals: int) -> str:
    if beside is None:
        return ""
    spread = "" if beside.error is None else f" ± {beside.error:.{decimals}f}"
    mean = round(beside.mean, decimals) + 0.0  # no negative zero
    return f"{mean:+.{decimals}f}{spread} {_MARKS.get(beside.sign or 0, '')}".rstrip().replace("-", "−")


def _pair(verdict: Verdict) -> str:
    said = {1: ABOVE, -1: BELOW, 0: SAME}
    ours, theirs = ("" if each is None else said[each] for each in verdict)
    return f"{ours} / {theirs}".strip() if ours or theirs else ""


def _counts(found: Agreement, verdicts: list[Verdict]) -> tuple[str, ...]:
    counts = found.counts(verdicts)
    return tuple(str(each) if any(counts) else "" for each in counts)


def _decimals(table: Table) -> int:
    """One digit after the point, two where the usual spread of a column would read 0.0."""
    for place, column in enumerate(table.columns):
        samples = [row.cells[place].ours for row in table.rows]
        spreads = [sample.std for sample in samples if sample and sample.std]
        if spreads and median(spreads) < 0.05 and not (column == 1 and _by_fraction(table)):
            return 2
    return 1


def _usual(table: Table) -> int:
    """The number of seeds of most cells; the largest of several."""
    counts = Counter(cell.ours.n for row in table.rows for cell in row.cells if cell.ours)
    return max(counts, key=lambda n: (counts[n], n))


def _meaning(usual: int) -> str:
    return "of one seed" if usual == 1 else f"mean ± standard deviation over {usual} seeds"


def _marked(table: Table) -> list[str]:
    signs = {cell.beside.sign for row in table.rows for cell in row.cells if cell.beside} - {None}
    rule = f"{ABOVE} {BELOW} above, below uniform by more than chance explains: {_RULE}."
    return [rule] if signs else []


def _selected(table: Table) -> list[str]:
    """What selected, and where a number stands in several columns that it does not depend on."""
    notes = []
    runs = [run for run in table.results if run.selection_network]
    networks = sorted({str(run.selection_network) for run in runs})
    epochs = sorted({int(run.selection_epochs or 0) for run in runs})
    if table.layout == "epochs":
        notes.append(f"Columns: epochs that {_either(networks)} was trained for before it selected.")
    elif table.layout == "network":
        notes.append(
            f"Columns: the network that is trained. Networks that select were trained {_either(epochs)} epochs."
        )
    elif runs:
        notes.append(f"Selected by {_either(networks)} after {_either(epochs)} epochs.")
    if table.layout == "epochs" and any(row.selector is None for row in table.rows):
        notes.append("A method that needs no network has the same number in every column.")
    return notes


def _here(table: Table) -> str:
    networks, epochs = ({getattr(run, name) for run in table.results} for name in ("network", "epochs"))
    return f"{dataset_title(table.dataset)}, {_either(sorted(networks))}, {_either(sorted(epochs))} epochs"


def _labels(table: Table, row: Row) -> tuple[str, ...]:
    return (row.label, row.selector or "–") if len(table.selectors) > 1 else (row.label,)


def _headings(table: Table) -> tuple[str, ...]:
    return ("method", "selected on") if len(table.selectors) > 1 else ("method",)


def referenced(remarks: Mapping[str, str], methods: Collection[str] | None = None) -> tuple[str, ...]:
    """Remarks with their numbers: all of them, or those on some methods."""
    return tuple(
        f"[{number}] {method}: {text}."
        for number, (method, text) in enumerate(remarks.items(), 1)
        if methods is None or method in methods
    )


def _reference(method: str, remarks: Mapping[str, str]) -> str:
    return f" [{list(remarks).index(method) + 1}]" if method in remarks else ""


def _name(stem: str, table: Table) -> str:
    return f"{stem}_{table.name}" if table.name else stem


def _by_fraction(table: Table) -> bool:
    return table.layout == "fraction"


def _seeds(n: int) -> str:
    return "seed" if n == 1 else "seeds"


def _either(values: list[int] | list[str]) -> str:
    return " or ".join(map(str, values))
