"""The demonstration: coresets of handwritten digits beside rows drawn at random."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from fastcore.demo.experiment import FULL, QUICK, Result, load_digits, measure, reading
from fastcore.files import write_atomic

_NEEDED = ("sklearn", "matplotlib", "rich")


def run(output: Path, quick: bool = False) -> int:
    """Chooses coresets of scikit-learn's digits and shows what a classifier makes of them.

    Prints a table and a reading of it, and writes ``accuracy.png``, ``digits.png`` and ``results.csv`` to the
    folder ``output``. ``quick`` takes two sizes instead of five. Returns the exit status: 0, or 1 after a
    one-line message when a library is missing or the folder cannot be written.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        advice = 'pip install "fastcore-coreset[demo]"'
        print(f"fastcore demo: needs {names}; install what it needs with: {advice}", file=sys.stderr)
        return 1
    try:
        output.mkdir(parents=True, exist_ok=True)
        _demonstrate(output, quick)
    except OSError as error:
        print(f"fastcore demo: {output}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _demonstrate(output: Path, quick: bool) -> None:
    from rich.console import Console

    from fastcore.demo import figures

    console = Console(highlight=False)
    digits = load_digits()
    console.print(
        "\n[bold]Which rows are worth keeping?[/]\n"
        f"There are {len(digits.train)} handwritten digits to choose from and {len(digits.test)} to test on. "
        "A method picks k of them, as many from each class; a nearest-neighbour classifier sees only those.\n"
    )
    results, everything = measure(digits, QUICK if quick else FULL)
    console.print(figures.table(results, everything))
    files = {
        "accuracy.png": figures.accuracy(results, everything),
        "digits.png": figures.contact_sheet(digits),
        "results.csv": Result.csv(results).encode(),
    }
    for name, content in files.items():
        write_atomic(output / name, content)
    console.print()
    for sentence in reading(results, everything, len(digits.train)):
        console.print(sentence)
    console.print()
    for name in files:
        console.print(str(output / name), soft_wrap=True)
