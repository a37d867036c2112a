"""The data of a selection over ranks: every rank has some of the rows, and all come to the same picks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcore import inputs, similarity
from fastcore.arrays import as_tensor, is_scipy_sparse
from fastcore.budget import Partition
from fastcore.distributed.classes import Classes
from fastcore.distributed.communication import Ranks
from fastcore.distributed.matrix import MatrixRows
from fastcore.distributed.owners import owners_in_matrix, owners_of
from fastcore.distributed.parameters import parameter_of, ridge_of
from fastcore.distributed.shards import Shards
from fastcore.distributed.sparse import of_first_rank, whole_matrix
from fastcore.distributed.view import VIEWS
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.gradient_ascent import held_out
from fastcore.greedy.picks import Picks
from fastcore.greedy.ranking import ranked
from fastcore.needs.source import Source, check_alike
from fastcore.registry import Context, Method, Validation
from fastcore.signals.bundle import Signals

_SAMPLED = ("stochastic", "lazier_than_lazy")


class ShardedSource(Source):
    """The data of one rank, and where it lies among that of all.

    A rank without rows passes an array, gradients or Signals of 0 rows; one row of zeros stands for them in
    tensors that must have one. Of a matrix over all rows every rank has its rows; a sparse one is gathered.

    Attributes:
        count: rows of this rank.
        sparse: whether `held` is a sparse matrix, which all ranks have all of.
    """

    whole = False

    def __init__(
        self, ranks: Ranks, method: Method, data: Any, metric: str | None, device: Any, signal: str | None
    ) -> None:
        self.ranks = ranks
        count, padded = _padded(method, data)
        super().__init__(method, padded, metric, device, signal)
        self.labels = data.labels if isinstance(data, Signals) else None
        matrix = self.held if metric == "precomputed" and isinstance(self.held, Tensor) else None
        self.count = super().n if count is None else count
        # Tensors of one collective must be served by one backend of the group: otherwise ranks wait for ever.
        ranks.agree({"data": _kind(padded) if self.count else None, "device": self.device.type})
        self.shards = Shards(ranks, self.count)
        if self.shards.n == 0:
            raise ValueError("data must not be empty, got no row on any rank")
        if matrix is not None and matrix.shape[1] != self.shards.n:
            raise ValueError(
                f"metric='precomputed' needs rows of a square {method.pairs} matrix on every rank, got "
                f"{self.shards.n} rows of width {matrix.shape[1]} in all"
            )
        sparse = matrix is not None and self.count > 0 and matrix.layout != torch.strided
        self.sparse = metric == "precomputed" and any(ranks.exchange(sparse))
        if self.sparse:
            self.held = whole_matrix(self.shards, self.held)

    @property
    def n(self) -> int:
        """Number of rows of all ranks."""
        return self.shards.n if hasattr(self, "shards") else super().n

    def codes(self, labels: Any) -> tuple[Tensor, np.ndarray]:
        """Class codes (n,) of the rows of all ranks, and the classes, from the labels of this one."""
        codes, classes = inputs.as_labels(labels, self.count)
        kind = {"U": "str", "S": "bytes", "O": "str", "b": "bool"}.get(classes.dtype.kind, "int")
        self.ranks.agree({"the kind of labels": kind if self.count else None})
        mine = [value.decode() if isinstance(value, bytes) else value for value in classes.tolist()]
        every = np.asarray(sorted(set().union(*self.ranks.exchange(mine))))
        numbers = torch.from_numpy(np.searchsorted(every, np.asarray(mine, every.dtype)))
        own = numbers[codes] if self.count else codes
        every = every.astype(classes.dtype) if kind == "bytes" else every
        return self.ranks.gather_rows(own, self.shards.counts), every

    def pick(
        self,
        partition: Partition,
        context: Context,
        gamma: float | None,
        measured: dict[str, Any],
        options: dict[str, Any],
    ) -> Picks:
        """The picks of the method over the rows of all ranks."""
        method = self.method
        if self.sparse:
            return of_first_rank(self.ranks, super().pick(partition, context, gamma, measured, options))
        self._check(partition, options)
        if not method.needs:
            picks: Picks = method.function(partition, context=context, **options)
            return picks
        given = [self.meet(need, gamma, measured) for need in method.needs]
        if context.validation is not None:
            check_alike("validation", context.validation.gradients, given[0])
        if "rows" in method.sharded:
            alone = Partition.whole(max(self.count, 1), 1)
            apart = replace(context, preselected=None, generator=torch.Generator("cpu"))
            scores = method.function(*given, alone, context=apart, **options).scores[: self.count]
            return self._ranked(scores, self.shards.counts, partition, context, options)
        if partition.sets == 1:
            if "similarity" in method.needs:
                given[0].parameter = parameter_of(self.shards, given[0], gamma)
            view = VIEWS[method.needs[0]](self.shards, given[0])
            whole: Picks = method.function(view, *given[1:], partition, context=context, **options)
            return whole
        return self._by_class(given, partition, context, gamma, options)

    def owners(self, partition: Partition, indices: Tensor, gamma: float | None) -> np.ndarray:
        """For every row of all ranks the position of the pick that represents it, (n,) int64."""
        if self.sparse:
            found = torch.from_numpy(super().owners(partition, indices, gamma))
            return self.ranks.from_rank(0, found).numpy()
        table = self.table()
        if self.metric == "precomputed":
            view = MatrixRows(self.shards, table)
            return owners_in_matrix(self.shards, view, partition, indices, self.method.pairs)
        return owners_of(self.shards, table, self.metric or "euclidean", partition, indices)

    def meet(self, need: str, gamma: float | None, options: dict[str, Any]) -> Any:
        """The positional argument that stands for a need."""
        if need == "similarity" and self.metric == "precomputed" and not self.sparse:
            return MatrixRows(self.shards, self.table())
        return super().meet(need, gamma, options)

    def _check(self, partition: Partition, options: dict[str, Any]) -> None:
        """Raises ValueError for what cannot be spread over ranks."""
        name, optimizer = self.method.name, options.get("optimizer", "lazy")
        if optimizer in _SAMPLED and partition.sets > 1:
            raise ValueError(
                f"optimizer={optimizer!r} draws rows class after class: over ranks it takes one ground set"
            )
        if partition.sets > 1 or not self.method.needs or "rows" in self.method.sharded:
            return
        if self.method.needs[0] in self.method.sharded:
            return
        if self.metric in self.method.sharded:
            return
        how = f" with metric={self.metric!r}" if self.metric else ""
        raise ValueError(
            f"{name}{how} over one ground set cannot be spread over ranks: pass labels=, which spreads the "
            "classes, or select in one process"
        )

    def _by_class(
        self,
        given: list[Any],
        partition: Partition,
        context: Context,
        gamma: float | None,
        options: dict[str, Any],
    ) -> Picks:
        """Picks of every ground set by the rank that holds all of it."""
        method, classes = self.method, Classes(self.shards, partition)
        moved: list[Any] = []
        for need, value in zip(method.needs, given, strict=True):
            rows: Any = self.table() if need == "similarity" else value
            rows = classes.move(rows[: self.count])
            if self.metric == "precomputed":
                rows = rows[:, classes.rows.to(rows.device)]
            if need == "similarity":
                parameter = value.parameter = parameter_of(self.shards, value, gamma)
                if "ridge" in options and options["ridge"] is None:
                    # By default a share of the mean over all rows, also those of other ranks.
                    options = options | {"ridge": ridge_of(self.shards, value)}
                if len(classes.rows):
                    rows = similarity.view(rows, value.metric, parameter or None)
                    rows.parameter = parameter
            moved.append(rows)
        busy = int(classes.partition.budgets.sum()) > 0 or (method.order == "score" and len(classes.rows) > 0)
        own = replace(context, preselected=classes.preselected(context.preselected))
        split = options.get("split") if method.validation != "no" else None
        if split is not None and context.validation is None:
            # From all rows, as in one process: a rank would draw others from its own.
            drawn, sets = held_out(partition, split, context.preselected, context.generator)
            mine = torch.isin(drawn, classes.rows)
            own = replace(own, held_out=(torch.searchsorted(classes.rows, drawn[mine]), sets[mine]))
        picks = method.function(*moved, classes.partition, context=own, **options) if busy else None
        if method.order == "score":
            scores = torch.zeros(0, dtype=torch.float64) if picks is None else picks.scores.cpu()
            counts = torch.bincount(classes.owners, partition.sizes.double(), self.ranks.size).long().tolist()
            places = self.ranks.gather_rows(classes.rows, counts)
            return self._ranked(scores, counts, partition, context, options, places)
        return classes.gather(picks, method.weights == "own", context.preselected)

    def _ranked(
        self,
        scores: Tensor,
        counts: list[int],
        partition: Partition,
        context: Context,
        options: dict[str, Any],
        places: Tensor | None = None,
    ) -> Picks:
        """Picks by the scores of all ranks, one after the other; `places` are the rows that they belong to."""
        every = self.ranks.gather_rows(scores.to("cpu", torch.float64), counts)
        if places is not None:
            every = torch.empty_like(every).scatter_(0, places, every)
        assert self.method.hard is not None
        return ranked(
            every,
            partition,
            hard=self.method.hard,
            keep=options["keep"],
            ties=options["ties"],
            preselected=context.preselected,
            generator=context.generator,
        )


def fingerprint(value: Any) -> str:
    """What tells arrays, gradients, signals and tuples of them apart; plain values as they are printed."""
    if isinstance(value, LastLayerGradients):
        value = (value.delta, value.h)
    elif isinstance(value, Validation):
        value = (value.gradients.delta, value.gradients.h, value.groups)
    elif isinstance(value, Signals):
        value = tuple(getattr(value, name) for name in ("embeddings", "logits", "labels", "losses"))
    if isinstance(value, tuple):
        return " ".join(fingerprint(part) for part in value)
    if isinstance(value, Tensor | np.ndarray | list):
        array = as_tensor(value, "preselected").cpu().contiguous()
        code = hashlib.sha256(array.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()[:12]
        return f"an array of shape {tuple(array.shape)} and checksum {code}"
    return str(value)


def _kind(data: Any) -> str:
    if isinstance(data, LastLayerGradients):
        return f"gradients of {data.classes} classes and width {data.width}"
    if isinstance(data, Signals):
        held = (
            f"{n} {tuple(getattr(data, n).shape[1:])}" for n in vars(data) if getattr(data, n) is not None
        )
        return f"signals {', '.join(held)}"
    if hasattr(data, "error_norms"):
        return "dynamics"
    if is_scipy_sparse(data) or (isinstance(data, Tensor) and data.layout != torch.strided):
        return f"sparse {str(data.dtype).removeprefix('torch.')} of width {data.shape[1]}"
    table = as_tensor(data, "data")
    dtype = str(table.dtype).removeprefix("torch.")
    return f"{dtype} of width {table.shape[1]}" if table.ndim == 2 else f"{dtype} of shape (rows,)"


def _padded(method: Method, data: Any) -> tuple[int | None, Any]:
    """The number of rows where it is 0, and data with a row."""
    if isinstance(data, LastLayerGradients):
        if len(data):
            return None, data
        one = torch.zeros(1, data.classes, device=data.device), torch.zeros(1, data.width, device=data.device)
        return 0, LastLayerGradients(*one)
    if isinstance(data, Signals):
        if len(data):
            return None, data
        held = {name: value for name, value in vars(data).items() if value is not None}
        return 0, Signals(**{name: value.new_zeros(1, *value.shape[1:]) for name, value in held.items()})
    shape = getattr(data, "shape", None)
    if shape is None or len(shape) == 0 or shape[0] != 0 or 0 in shape[1:]:
        return None, data
    device = data.device if isinstance(data, Tensor) else None
    row = torch.zeros(1, *shape[1:], device=device)
    if method.needs[:1] == ("probabilities",):
        row[..., 0] = 1.0
    return 0, row
