"""``fastcore report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders of experiments, or files of results.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to; by default FOLDER/report.")
    ] = None,
    accuracy: Annotated[
        str, typer.Option(help="Of the 'last' epoch, or of the 'best', as the paper.")
    ] = "last",
    formats: Annotated[
        str, typer.Option("--format", help="What to make, with commas between.")
    ] = "terminal,markdown,latex,csv",
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set, where it is not where the experiment found it."),
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(help="For the pictures of time and of images; by default near 0.01.")
    ] = None,
    picks: Annotated[
        int, typer.Option(help="Also a contact sheet of every method, with so many images a class.")
    ] = 0,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Whether to make pictures.")
    ] = True,
    picture_kinds: Annotated[
        str, typer.Option("--picture-format", help="png, svg, pdf, with commas between.")
    ] = "png",
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Show what came out of experiments: tables, plots, selected images, the paper's numbers beside them."""
    from fastcore.train.report import report

    first = folders[0] if folders[0].is_dir() else folders[0].parent
    folder = output or first / "report"
    made = report(
        folders,
        folder,
        accuracy=accuracy,
        formats=_listed(formats),
        fraction=fraction,
        pictures=pictures,
        picks=picks,
        kinds=_listed(picture_kinds),
        root=root,
    )
    if as_json:
        typer.echo(made.as_json())
        return

    from rich.console import Console

    console = Console(highlight=False)
    if "terminal" in made.formats:
        for line in made.terminal(console.width):
            console.print(line)
        console.print()
    for name in made.files():
        console.print(str(folder / name), soft_wrap=True, markup=False)


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]
