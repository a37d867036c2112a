"""``fastcore train``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastcore.cli.files import check_writable, naming

if TYPE_CHECKING:
    from torch import nn

    from fastcore.train.training import TrainingResult

_ENDINGS = (".pt", ".safetensors")


def command(
    data: Annotated[str, typer.Argument(help="A data set, such as fashion_mnist or cifar10.")],
    root: Annotated[Path, typer.Option(help="Folder of its files.")] = Path("data"),
    network: Annotated[
        str, typer.Option(help="A network, or package.module:function of your own.")
    ] = "resnet18",
    coreset: Annotated[
        Path | None,
        typer.Option(help="Rows to train on, with their weights: .npz of `fastcore select --out`."),
    ] = None,
    indices: Annotated[Path | None, typer.Option(help="Rows to train on: a file of row numbers.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="How to train, field=value such as epochs=20; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first weights and of all random choices.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; by default cuda where there is one.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Use the first training rows only, in equal shares.")
    ] = None,
    test_rows: Annotated[int | None, typer.Option(help="Use the first test rows only.")] = None,
    download: Annotated[bool, typer.Option(help="Fetch files that are missing.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that read images from files.")] = 4,
    out: Annotated[Path | None, typer.Option(help=f"Where the weights go: {', '.join(_ENDINGS)}.")] = None,
    record: Annotated[Path | None, typer.Option(help="Where the record of training goes, .npz.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File that holds the state: the same command goes on after Ctrl-C.")
    ] = None,
    log_dir: Annotated[Path | None, typer.Option(help="Folder for TensorBoard.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network on a data set, or on a coreset of it, and test it."""
    if coreset is not None and indices is not None:
        raise ValueError("--coreset and --indices both name rows: give one of them")
    for name, path, endings in (("--out", out, _ENDINGS), ("--record", record, (".npz",))):
        if path is not None:
            check_writable(name, path, endings)

    import torch

    from fastcore.train import networks
    from fastcore.train.config import DataConfig, TrainConfig
    from fastcore.train.datasets import load
    from fastcore.train.reading import apply, build, plain
    from fastcore.train.training import fit

    values: dict[str, Any] = {}
    for text in settings or []:
        apply(values, text.removeprefix("train."))
    config = build(TrainConfig, values, "train")
    splits = load(DataConfig(data, str(root), download, rows, test_rows, workers))
    chosen = _rows(coreset, indices, len(splits.train))
    model = networks.build(network, shape=splits.train.shape, classes=splits.train.classes, seed=seed)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    result = fit(
        model,
        splits.train,
        config,
        test=splits.test,
        seed=seed,
        device=device,
        record=record is not None,
        checkpoint=checkpoint,
        log_dir=log_dir,
        workers=workers,
        **chosen,
    )
    if out is not None:
        _save(model, out)
    if record is not None and result.dynamics is not None:
        result.dynamics.save(record)
    count = len(chosen["indices"]) if chosen else len(splits.train)
    run = {"data": splits.train.name, "network": network, "rows": count, "seed": seed, "device": device}
    if as_json:
        shown = {name: value for name, value in vars(result).items() if name not in ("dynamics", "rows")}
        rate = {"images_per_second": _rate(result), "train": plain(config)}
        typer.echo(json.dumps({**run, **shown, **rate}))
    else:
        _show(run, result)


def _rows(coreset: Path | None, indices: Path | None, n: int) -> dict[str, Any]:
    """Indices and weights that a file holds, as arguments of ``fit``."""
    import fastcore
    from fastcore.files import read_array

    path = coreset or indices
    if path is None:
        return {}
    with naming(path):
        if coreset is None:
            return {"indices": read_array(path)}
        selection = fastcore.load(path)
    if selection.info["n"] != n:
        raise ValueError(f"{path} selects from {selection.info['n']} rows, but there are {n} to train on")
    return {"indices": selection.indices, "weights": selection.weights}


def _save(model: nn.Module, path: Path) -> None:
    import torch

    from fastcore.files import write_atomic

    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import save

        write_atomic(path, save(weights))
        return
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    write_atomic(path, buffer.getvalue())


def _rate(result: TrainingResult) -> float | None:
    return result.rows / result.seconds if result.seconds else None


def _show(run: dict[str, Any], result: TrainingResult) -> None:
    from rich.console import Console
    from rich.table import Table

    rate = _rate(result)
    cells = {
        "rows": f"{run['rows']}",
        "epochs": f"{result.history[-1]['epoch']}",
        "accuracy": f"{result.accuracy_last:.2%}",
        "best": f"{result.accuracy_best:.2%} (epoch {result.best_epoch})",
        "seconds": f"{result.seconds:.1f}",
        "images/s": "" if rate is None else f"{rate:.0f}",
    }
    table = Table(title=f"{run['network']} on {run['data']}, seed {run['seed']}, {run['device']}")
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    Console(highlight=False).print(table)
