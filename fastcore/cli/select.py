"""``fastcore select``."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastcore.cli.files import check_writable, naming
from fastcore.cli.shares import place_in, share_of

if TYPE_CHECKING:
    from fastcore.selection import Selection

_SHOWN = 10
_ENDINGS = (".npz", ".npy", ".txt", ".csv", ".json")


def command(
    method: Annotated[str, typer.Argument(help="A name that `fastcore methods` lists.")],
    file: Annotated[
        Path,
        typer.Argument(
            help="What the method needs: .npy, .npz, .pt, .safetensors or .parquet; several arrays (delta and h; "
            "embeddings, logits, labels) by their names in one .npz or .safetensors file, or the .npz of a record."
        ),
    ],
    k: Annotated[int | None, typer.Option("-k", help="Number of rows to pick.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Share of the rows to pick, instead of -k.")] = None,
    key: Annotated[str | None, typer.Option("--key", "--column", help="The array or column of FILE.")] = None,
    labels: Annotated[Path | None, typer.Option(help="File of labels, for a balanced selection.")] = None,
    labels_key: Annotated[str | None, typer.Option(help="The array or column of the labels file.")] = None,
    preselected: Annotated[
        Path | None, typer.Option(help="File of rows that are in the coreset already.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help=f"Where to write: {', '.join(_ENDINGS)}.")] = None,
    metric: Annotated[str | None, typer.Option(help="cosine, dot, euclidean, rbf or precomputed.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Of the submodular methods.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="'cluster' counts the rows each pick represents.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    backend: Annotated[str | None, typer.Option(help="auto, reference, cpu or cuda.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="How features are kept: given, float32, or rounded to float16 or bfloat16."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="'world' under torchrun: each process reads its share of the rows, the first one writes."
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the method, name=value; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the selection as JSON.")] = False,
) -> None:
    """Choose rows of FILE and print them, or write them to --out.

    An .npz file holds the whole selection, .npy and .txt row numbers, .csv and .json gains and weights too.
    """
    named: dict[str, Any] = {
        "fraction": fraction,
        "metric": metric,
        "optimizer": optimizer,
        "weights": weights,
        "seed": seed,
        "device": device,
        "backend": backend,
        "storage": storage,
        "group": group,
    }
    options = _options(option or [], {"method", "data", "k", "labels", "preselected", *named})
    if out is not None:
        check_writable("--out", out, _ENDINGS)

    from fastcore.api import select

    rank, ranks = place_in(group)
    selection = select(
        method,
        share_of(_material(method, file, key), rank, ranks),
        k,
        labels=None if labels is None else share_of(_read(labels, labels_key), rank, ranks),
        preselected=None if preselected is None else _read(preselected, None),
        **named,
        **options,
    )
    if rank > 0:
        return
    if out is not None:
        _write(selection, out)
    if as_json:
        typer.echo(_as_json(selection))
    elif out is not None:
        typer.echo(
            f"{len(selection)} of {selection.info['n']} rows, {selection.info['seconds']:.2f} s: {out}"
        )
    else:
        _show(selection)


def _material(method: str, file: Path, key: str | None) -> Any:
    """What the method needs: one array, or gradients, signals or a record of training by the names in the file."""
    from fastcore.registry import get_method

    needs = get_method(method).needs
    if "dynamics" in needs:
        from fastcore.signals import Dynamics

        return Dynamics.load(file)
    names = _names(file)
    if key is None and {"delta", "h"} <= names:
        from fastcore.gradients import LastLayerGradients

        return LastLayerGradients(_read(file, "delta"), _read(file, "h"))
    held = names & {"embeddings", "logits", "labels", "losses"}
    if key is None and held & {"embeddings", "logits"}:
        from fastcore.signals import Signals

        return Signals(**{name: _read(file, name) for name in held})
    return _read(file, key)


def _names(path: Path) -> set[str]:
    from fastcore.files import array_names

    with naming(path):
        return array_names(path)


def _read(path: Path, key: str | None) -> Any:
    from fastcore.files import read_array

    with naming(path):
        return read_array(path, key)


def _options(given: list[str], taken: set[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--option must be name=value, got {text!r}")
        if name in taken:
            raise ValueError(f"--option {name}: it has an option of its own, --{name}")
        if name in options:
            raise ValueError(f"--option {name} is given twice")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _write(selection: Selection, path: Path) -> None:
    import numpy as np

    from fastcore.files import write_atomic

    buffer, ending = io.BytesIO(), path.suffix.lower()
    if ending == ".npz":
        selection.save(path)
        return
    if ending == ".npy":
        np.save(buffer, selection.indices)
    elif ending == ".txt":
        buffer.write("".join(f"{row}\n" for row in selection).encode())
    elif ending == ".csv":
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["row", *_columns(selection)])
        writer.writerows(zip(selection, *_columns(selection).values(), strict=True))
        buffer.write(table.getvalue().encode())
    else:
        buffer.write(_as_json(selection).encode())
    write_atomic(path, buffer.getvalue())


def _columns(selection: Selection) -> dict[str, list[float]]:
    """What is known of each pick beside its row number."""
    held = {"gain": selection.gains, "weight": selection.weights}
    return {name: array.tolist() for name, array in held.items() if array is not None}


def _as_json(selection: Selection) -> str:
    # JSON has no infinity, which is the gain of a first k-center pick.
    columns = {
        f"{name}s": [value if math.isfinite(value) else None for value in values]
        for name, values in _columns(selection).items()
    }
    return json.dumps({"indices": list(selection), **columns, "info": selection.info}, default=str)


def _show(selection: Selection) -> None:
    from rich.console import Console
    from rich.table import Table

    info = selection.info
    console, table = Console(highlight=False), Table()
    console.print(f"{info['method']}: {len(selection)} of {info['n']} rows, {info['seconds']:.2f} s")
    columns = _columns(selection)
    for name in ("pick", "row", *columns):
        table.add_column(name, justify="right")
    picks = list(zip(selection, *columns.values(), strict=True))
    for place, (row, *values) in enumerate(picks[:_SHOWN], 1):
        table.add_row(str(place), str(row), *(f"{value:.6g}" for value in values))
    console.print(table)
    if len(picks) > _SHOWN:
        console.print(f"and {len(picks) - _SHOWN} more; --out FILE or --json for all")
