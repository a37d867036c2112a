"""``fastcore experiment``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fastcore.train.config import ExperimentConfig
    from fastcore.train.experiment import Run

_SHOWN = ("key", "method", "fraction", "seed", "network", "accuracy_last", "accuracy_best")


def command(
    recipe: Annotated[
        str | None, typer.Argument(help="A YAML file, or a recipe of the package; none lists those.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting over the recipe, such as train.epochs=20; repeatable."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the files of the data set.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch files that are missing.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; by default GPUs.")] = None,
    processes: Annotated[int, typer.Option(help="Processes that share the runs.")] = 1,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for networks that select, which experiments may share.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Add to a folder of another recipe.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the runs, and make none.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Train networks on the coresets of many methods, fractions and seeds: a row of results for each.

    What is finished is not made again: the same command goes on after an interruption, and more methods,
    fractions or seeds cost only themselves. On several GPUs: torchrun --nproc-per-node N -m fastcore experiment.
    """
    from fastcore.train import reading

    if recipe is None:
        typer.echo(json.dumps(reading.recipes()) if as_json else "\n".join(reading.recipes()))
        return
    over = [*(settings or [])]
    over += [f"data.root={json.dumps(str(root))}"] if root is not None else []
    over += ["data.download=true"] if download else []
    config = reading.load(recipe, over)
    if dry_run:
        _show_plan(config, as_json)
        return
    if output is None:
        raise ValueError("--output must name the folder of the results")

    from fastcore.train.experiment import processes as several
    from fastcore.train.experiment import run

    try:
        path = run(config, output, cache=cache, device=device, processes=processes, force=force)
    except KeyboardInterrupt:
        if several.rank() == 0:
            print("fastcore: interrupted; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(several.INTERRUPTED) from None
    if several.rank() == 0:
        _show_end(path, as_json)


def _show_end(path: Path, as_json: bool) -> None:
    from fastcore.train.experiment import read_results

    rows = read_results(path)
    if as_json:
        shown = [{name: row[name] for name in _SHOWN} for row in rows]
        typer.echo(json.dumps({"results": str(path), "runs": shown}))
    else:
        typer.echo(f"{len(rows)} runs: {path}")


def _show_plan(config: ExperimentConfig, as_json: bool) -> None:
    """The runs of an experiment, counted by method and by what selects."""
    from fastcore.train.experiment import left_out, plan

    runs = plan(config)
    if as_json:
        typer.echo(json.dumps([_described(run) for run in runs]))
        return

    from rich.console import Console
    from rich.table import Table

    counts: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        counts.setdefault((run.label, run.network, run.selector), []).append(run)
    console, table = Console(highlight=False), Table()
    for title in ("method", "network", "selected by", "fractions", "seeds", "runs"):
        table.add_column(title, justify="right" if title == "runs" else "left")
    for (label, network, selector), members in counts.items():
        fractions = ", ".join(f"{each:.4g}" for each in sorted({run.fraction for run in members}))
        seeds = ", ".join(str(each) for each in sorted({run.seed for run in members}))
        table.add_row(label, network, selector, fractions, seeds, str(len(members)))
    console.print(table)
    models = {model for run in runs for model in run.models}
    console.print(f"{config.name}: {len(runs)} runs; {len(models)} networks are trained to select")
    for line in left_out(config):
        console.print(line)


def _described(run: Run) -> dict[str, Any]:
    names = ("label", "method", "options", "fraction", "seed", "network", "selector")
    return {name: getattr(run, name) for name in names}
