"""``select``: data and a budget in, a coreset out."""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

import fastcore
from fastcore import checks, inputs, ops, similarity
from fastcore.assignment import assign
from fastcore.budget import Partition, resolve_budget
from fastcore.greedy.picks import Picks
from fastcore.numerics import full_precision
from fastcore.progress import Progress
from fastcore.registry import Context, Method, get_method, methods_taking
from fastcore.selection import Origin, Selection


def select(
    method: str,
    data: Any = None,
    k: int | None = None,
    *,
    fraction: float | None = None,
    labels: Any = None,
    balance: bool | None = None,
    metric: str | None = None,
    gamma: float | None = None,
    optimizer: str | None = None,
    stop_at: float | None = None,
    preselected: Any = None,
    weights: str | None = None,
    seed: int = 0,
    device: Any = None,
    backend: str | None = None,
    memory: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Selection:
    """Chooses the rows of ``data`` that stand for all of it, in the order of their worth.

    Args:
        method: a name of ``list_methods()``.
        data: (n, d) features of any array kind, which are read as float32, or an (n, n) matrix when metric
            is "precomputed": entry [i, j] is how similar row j is to row i (how far, for k_center).
        k: number of picks, 1 to n.
        fraction: number of picks as a share of n in (0, 1]: ``fraction * n`` rounded half up, at least 1.
        labels: (n,) integers or strings. The picks are then shared between the classes in proportion to
            their sizes, by largest remainder, and each class is its own ground set.
        balance: False to ignore the labels in the choice; True to insist on labels.
        metric: "cosine", "dot", "euclidean", "rbf" or "precomputed"; each method has its default.
        gamma: of rbf, exp(-gamma * distance^2); by default 1 / the mean squared distance.
        optimizer: of the submodular methods: "lazy" (exact, the default), "naive", "stochastic",
            "approximate_lazy" or "lazier_than_lazy".
        stop_at: stop early, with fewer than k picks, at this radius (k_center) or at this fraction of the
            full coverage (facility_location).
        preselected: rows that are in the coreset already: row numbers, which are not picked again, or a
            2-D array of features of rows outside the data.
        weights: "cluster" to count the rows that each pick represents; they sum to n.
        seed: of all random choices.
        device: "cpu" or "cuda"; by default where the data is.
        backend: "auto", "reference" (plain torch), "cpu" or "cuda" (native kernels); by default
            $FASTCORE_BACKEND, or "auto". The picks are the same.
        memory: bytes that may be used beside the data.
        progress: True for a bar, False for none, None for one when the work is long, on a terminal.
        **options: of the method: ``start`` of k_center, ``lam`` of graph_cut, ``ridge`` of log_det, and
            ``epsilon`` and ``beta`` of the approximate optimizers.

    Raises:
        ValueError, TypeError: naming the argument, the value it got and what it takes.

    The arrays passed are never written to. The result depends on the seed, not on the backend.
    """
    start, peaks = time.perf_counter(), _peaks()
    chosen = get_method(method)
    named = {"optimizer": optimizer, "stop_at": stop_at}
    options = _options(chosen, options | {name: value for name, value in named.items() if value is not None})
    metric = _metric(chosen, metric, gamma)
    where = inputs.as_device(device)
    checks.choice("weights", weights, (None, "cluster"))
    checks.choice("balance", balance, (None, True, False))
    checks.choice("progress", progress, (None, True, False))
    seed = checks.whole("seed", seed, 0)
    memory = None if memory is None else checks.whole("memory", memory, 1)
    with _settings(backend):
        table = _table(chosen, data, metric, where)
        n = table.shape[0]
        codes = _codes(labels, balance, n)
        sets = 1 if codes is None else int(codes.max()) + 1
        taken = inputs.as_preselected(preselected, table, metric, sets)
        taken_rows = taken if taken is not None and taken.ndim == 1 else None
        budget = resolve_budget(n, k, fraction, preselected=0 if taken_rows is None else len(taken_rows))
        if codes is None:
            partition = Partition.whole(n, budget)
        else:
            partition = Partition.by_label(codes, budget, preselected=taken_rows)
        # A method that looks at no feature needs no view, and no native library is built for it.
        looks = chosen.needs != "nothing" or weights is not None
        ran_on = ops.active_backend(table.device) if looks or backend is not None else "reference"
        view: Any = similarity.view(table, metric, gamma) if looks else None
        with Progress(budget, method, progress) as bar:
            generator = torch.Generator(device="cpu").manual_seed(seed)
            context = Context(generator, seed, taken, memory, bar)
            picks = chosen.function(view, partition, context=context, **options)
        indices, gains = _in_order(picks)
        _check_count(chosen, indices, partition, stop_at)
        owners = assign(view, partition, indices, chosen.pairs).numpy() if weights else None
        info = {
            "method": method,
            "options": options,
            "metric": metric,
            "gamma": gamma,
            "pairs": chosen.pairs,
            "n": n,
            "k": len(indices),
            "budget": budget,
            "balanced": codes is not None,
            "preselected": 0 if taken is None else len(taken),
            "seed": seed,
            "device": str(table.device),
            "backend": ran_on,
            "stopped_early": len(indices) < budget,
            **picks.info,
            "seconds": time.perf_counter() - start,
            "peak_bytes": _peaks()[str(table.device)] - peaks.get(str(table.device), 0),
            "versions": _versions(),
        }
    return Selection(
        indices=indices.numpy(),
        gains=None if chosen.order == "random" else gains.numpy(),
        weights=None if owners is None else np.bincount(owners, minlength=len(indices)).astype(np.float64),
        info=info,
        _origin=Origin.of(data, codes, owners),
    )


def _options(method: Method, given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if name not in method.options:
            others = methods_taking(name)
            where = f" ({', '.join(others)} {'does' if len(others) == 1 else 'do'})" if others else ""
            takes = f"its options are {', '.join(method.options)}" if method.options else "it has no options"
            raise TypeError(f"{method.name} does not take {name}={value!r}{where}; {takes}")
    return method.options | given


def _metric(method: Method, metric: str | None, gamma: Any) -> str:
    chosen = method.metrics[0] if metric is None else metric
    checks.choice(f"metric of {method.name}", chosen, method.metrics)
    if gamma is not None:
        if chosen != "rbf":
            raise ValueError(f"gamma belongs to metric='rbf', got gamma={gamma!r} with metric={chosen!r}")
        checks.number("gamma", gamma, "(0, inf)")
    return chosen


def _table(method: Method, data: Any, metric: str, device: torch.device | None) -> Tensor:
    if metric != "precomputed":
        return inputs.as_features(data, device)
    table = inputs.as_matrix(data, device, method.pairs)
    if table.layout != torch.strided and not method.sparse:
        raise TypeError(
            f"{method.name} needs a dense matrix, got a sparse one: use data.toarray() or to_dense()"
        )
    return table


def _codes(labels: Any, balance: bool | None, n: int) -> Tensor | None:
    """Class of every row, or None for one ground set."""
    if labels is None:
        if balance:
            raise ValueError("balance=True needs labels, got labels=None")
        return None
    codes, _ = inputs.as_labels(labels, n)
    return None if balance is False else codes


def _in_order(picks: Picks) -> tuple[Tensor, Tensor]:
    """Row numbers and gains of all picks: the first of every ground set, then the second, and so on."""
    rows, gains = picks.rows.cpu().T.reshape(-1), picks.gains.cpu().T.reshape(-1)
    return rows[rows >= 0], gains[rows >= 0]


def _check_count(method: Method, indices: Tensor, partition: Partition, stop_at: float | None) -> None:
    budget = int(partition.budgets.sum())
    if len(indices) != budget and stop_at is None or len(indices) > budget:
        raise RuntimeError(f"{method.name} made {len(indices)} picks for a budget of {budget}")


@contextlib.contextmanager
def _settings(backend: str | None) -> Iterator[None]:
    """Runs a block on a backend, in plain float32 and with torch's own defaults, whatever the user set."""
    with contextlib.ExitStack() as stack:
        if backend is not None:
            stack.enter_context(ops.use_backend(backend))
        stack.enter_context(full_precision())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        dtype = torch.get_default_dtype()
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield


def _peaks() -> dict[str, int]:
    """Peak bytes so far by device: resident in this process for the CPU, allocated by torch for a GPU."""
    peaks = {"cpu": _peak_resident()}
    if torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            peaks[f"cuda:{index}"] = torch.cuda.max_memory_allocated(index)
    return peaks


def _peak_resident() -> int:
    # On Linux getrusage starts from the peak of the process that started this one; the status file does not.
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return 0


def _versions() -> dict[str, str]:
    return {
        "fastcore": fastcore.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
