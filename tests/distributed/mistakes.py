"""Calls that must fail on every rank: what each rank passes, and what all of them are told."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

import fastcore
from fastcore.registry import method

ROWS = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
CODES = [0, 1] * 15
GRADIENTS = fastcore.LastLayerGradients(ROWS, ROWS)


class Elsewhere(fastcore.LastLayerGradients):
    """Gradients that say that they are on another kind of device."""

    @property
    def device(self) -> torch.device:
        return torch.device("meta")


NAN = np.where(np.arange(30)[:, None] == 7, np.nan, ROWS)


def _same(**settings: Any) -> Any:
    return lambda rank, size: {"method": "k_center", "data": ROWS, "k": 3, **settings}


def _on_last(**settings: Any) -> Any:
    """What only the last rank passes."""
    return lambda rank, size: _same(**(settings if rank == size - 1 else {}))(rank, size)


def _matrix(columns: int | None = None, sign: int = 1, **settings: Any) -> Any:
    """30 rows on every rank of a matrix over all rows."""

    def given(rank: int, size: int) -> dict[str, Any]:
        matrix = sign * np.ones((30, columns or 30 * size), np.float32)
        return _same(**{"data": matrix, "metric": "precomputed", **settings})(rank, size)

    return given


def _dense(size: int, value: float = 1.0) -> dict[str, Any]:
    return {"method": "graph_cut", "data": value * torch.eye(30, 30 * size), "metric": "precomputed"}


def _sparse(size: int, value: float = 1.0) -> dict[str, Any]:
    given = _dense(size)
    return given | {"data": value * given["data"].to_sparse()}


@functools.cache
def _apart() -> str:
    """A method that says nothing of ranks."""

    @method("apart")
    def apart(view: Any, partition: Any, *, context: Any) -> Any:
        raise AssertionError("called")

    return "apart"


MISTAKES = {
    "other method": _on_last(method="herding"),
    "other k": _on_last(k=4),
    "fraction": _on_last(k=None, fraction=0.5),
    "other seed": _on_last(seed=1),
    "other start": _on_last(start=3),
    "other metric": _on_last(metric="cosine"),
    "other width": _on_last(data=ROWS[:, :3]),
    "other dtype": _on_last(data=ROWS.astype(np.float64)),
    "other device": lambda rank, size: _same(data=Elsewhere(ROWS, ROWS) if rank == size - 1 else GRADIENTS)(
        rank, size
    ),
    "labels on one": _on_last(labels=[0] * 30),
    "kinds of labels": lambda rank, size: _same(labels=[0] * 30 if rank else ["a"] * 30)(rank, size),
    "other preselected": _on_last(preselected=[1]),
    "other validation": lambda rank, size: _same(
        method="gradmatch", data=GRADIENTS, labels=CODES, validation=(GRADIENTS[rank:], CODES[rank:])
    )(rank, size),
    "narrow validation": _same(
        method="gradmatch",
        data=GRADIENTS,
        labels=CODES,
        validation=(fastcore.LastLayerGradients(ROWS[:, :3], ROWS), CODES),
    ),
    "narrow validation without labels": _same(
        method="glister", data=GRADIENTS, validation=fastcore.LastLayerGradients(ROWS[:, :3], ROWS)
    ),
    "validation of no softmax": _same(method="glister", data=GRADIENTS, validation=GRADIENTS),
    "large split": _same(method="glister", data=GRADIENTS, split=0.99),
    "large split of a class": _same(method="glister", data=GRADIENTS, labels=CODES, split=0.99),
    "split and validation": _same(method="glister", data=GRADIENTS, split=0.2, validation=GRADIENTS),
    "nan": _on_last(data=NAN),
    "bad option": _on_last(beta=0.5),
    "short labels": lambda rank, size: _same(labels=[0] * (30 - rank // (size - 1)))(rank, size),
    "k too large": _same(k=1000),
    "no rows": _same(data=ROWS[:0]),
    "unknown method": _same(method="kcenter"),
    "bad start": _same(start=1000),
    "no memory for gradmatch": _same(method="gradmatch", data=GRADIENTS, memory=100),
    "gradients for herding": _same(method="herding", data=GRADIENTS),
    "method of one process": lambda rank, size: _same(method=_apart())(rank, size),
    "sampled": _same(method="graph_cut", optimizer="stochastic", labels=list(range(15)) * 2),
    "not all columns": _matrix(columns=30),
    "not all columns of a sparse matrix": _matrix(method="graph_cut", data=torch.eye(30).to_sparse()),
    "sparse on one": lambda rank, size: _same(**_sparse(size) if rank == size - 1 else _dense(size))(
        rank, size
    ),
    "sparse nan": lambda rank, size: _same(**_sparse(size, np.nan if rank == size - 1 else 1.0))(rank, size),
    "sparse distances": _matrix(data=torch.eye(30).to_sparse()),
    "mean of a matrix": _matrix(start="mean"),
    "negative distance": lambda rank, size: _matrix(sign=-1 if rank == size - 1 else 1)(rank, size),
    "beside a matrix": _matrix(preselected=ROWS),
}
