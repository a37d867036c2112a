"""``fastcore demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    output: Annotated[Path, typer.Option(help="Folder for what it makes.")] = Path("demo-output"),
    quick: Annotated[bool, typer.Option(help="A shorter run.")] = False,
) -> None:
    """Choose coresets of handwritten digits and show what a classifier learns from them."""
    from fastcore.demo import run

    status = run(output, quick)
    if status:
        raise typer.Exit(status)
