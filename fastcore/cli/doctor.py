"""``fastcore doctor``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def command(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """Show what is on this machine, which backend is used, and what to do about what is missing."""
    from fastcore.doctor import report

    found: dict[str, Any] = report()
    if as_json:
        typer.echo(json.dumps(found, indent=2, default=str))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in found.items():
        table.add_row(name, _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return "\n".join(map(_text, value))
    return str(value)
