"""``fastcore methods``."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """List the methods: what each picks, what it takes, what it costs and where it comes from."""
    from fastcore.registry import get_method, list_methods

    found = [get_method(name) for name in list_methods()]
    if as_json:
        hidden = {"function"}
        typer.echo(
            json.dumps([{k: v for k, v in vars(each).items() if k not in hidden} for each in found], indent=2)
        )
        return

    from rich.console import Console
    from rich.table import Table

    table = Table(show_lines=True)
    for title in ("method", "what it picks", "metrics and options"):
        table.add_column(title, overflow="fold")
    table.columns[0].no_wrap = True
    for each in found:
        takes = each.options | each.signal_options
        lines = [", ".join(each.metrics)] if each.metrics else []
        lines += [f"{name}={default}" for name, default in takes.items()]
        needs = ", ".join(each.needs).replace("_", " ") or "nothing"
        table.add_row(
            each.name, f"{each.summary}\n[dim]needs: {needs}; cost: {each.cost}[/]", "\n".join(lines)
        )
    Console(highlight=False).print(table)
