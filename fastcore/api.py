"""``select``: data and a budget in, a coreset out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcore import checks, distributed, inputs, needs, ops
from fastcore import memory as planner
from fastcore.budget import Partition, resolve_budget
from fastcore.environment import peak_bytes, versions
from fastcore.greedy.picks import Picks, Tally
from fastcore.numerics import full_precision
from fastcore.progress import Progress
from fastcore.registry import Context, Method, get_method, methods_taking
from fastcore.selection import Origin, Selection


@distributed.on_every_rank
def select(
    method: str,
    data: Any = None,
    k: int | None = None,
    *,
    fraction: float | None = None,
    labels: Any = None,
    balance: bool | None = None,
    model: Any = None,
    dataset: Any = None,
    validation: Any = None,
    signal: str | None = None,
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
    storage: str | None = None,
    progress: bool | None = None,
    group: Any = None,
    **options: Any,
) -> Selection:
    """Chooses the rows of ``data`` that stand for all of it, in the order of their worth.

    Args:
        method: a name of ``list_methods()``.
        data: what the method looks at. (n, d) features of any array kind, which are read as float32, or an
            (n, n) matrix when metric is "precomputed": entry [i, j] is how similar row j is to row i (how
            far, for k_center). (n, C) probabilities, or (n,) norms or distances, for methods that score rows
            by them. ``LastLayerGradients``; ``Signals`` of a network; ``Dynamics`` of a training run.
        k: number of picks, 1 to n.
        fraction: number of picks as a share of n in (0, 1]: ``fraction * n`` rounded half up, at least 1.
        labels: (n,) integers or strings. The picks are then shared between the classes in proportion to
            their sizes, by largest remainder, and each class is its own ground set. By default those of the
            data set or of the Signals, where there are any.
        balance: False to ignore the labels in the choice; True to insist on labels.
        model: a network, run over ``dataset`` (or ``data``) for just what the method needs; for grand, el2n
            and deepfool a list of networks too, over which norms are averaged.
        dataset: a torch ``Dataset`` or sequential ``DataLoader``, or (inputs, labels) tensors.
        validation: rows whose loss counts, for glister and gradmatch: LastLayerGradients, a pair of them and
            their labels, Signals, or with ``model`` a data set.
        signal: "embeddings" or "gradients", where a network gives both and rows are compared; by default
            what the method is defined on.
        metric: "cosine", "dot", "euclidean", "rbf" or "precomputed"; each method has its default.
        gamma: of rbf, exp(-gamma * distance^2); by default 1 / the mean squared distance.
        optimizer: of the submodular methods: "lazy" (exact, the default), "naive", "stochastic",
            "approximate_lazy" or "lazier_than_lazy".
        stop_at: stop early, with fewer than k picks, at this radius (k_center) or at this fraction of the
            full coverage (facility_location).
        preselected: rows that are in the coreset already: row numbers, which are not picked again, or rows
            outside the data: a 2-D array of features, of probabilities (contextual_diversity), or gradients.
        weights: "cluster" to count the rows that each pick represents; they sum to n.
        seed: of all random choices.
        device: "cpu" or "cuda"; by default where the data is. Features on the host that are more than two fifths
            of what is free on a GPU stay there and are streamed, by k_center, graph_cut (cosine, dot),
            facility_location and herding; the picks are the same.
        backend: "auto", "reference" (plain torch), "cpu" or "cuda" (native kernels); by default
            $FASTCORE_BACKEND, or "auto". The picks are the same.
        memory: bytes that may be used beside the data: tables take at most all of them, copies of the rows of
            classes half, tiles a quarter, and some tens of MB in any case. By default what is free. The picks are
            the same.
        storage: the type in which features are kept. By default float32 where a copy takes at most two fifths
            of what is free (and ``memory``), otherwise as they are given: in 16 or 8 bits, say, and converted a
            tile at a time. "given" and "float32" insist on one of the two; the picks are the same. "float16" and
            "bfloat16" round the features first, which may change the picks.
        progress: True for a bar, False for none, None for one when the work is long, on a terminal.
        group: "world" or a ``torch.distributed`` process group, when each of several processes holds some of the
            rows: all of them call ``select`` with their own rows (and labels) and get the same Selection, that of
            one process with all rows, those of rank 0 first. See docs/distributed.md.
        **options: of the method, such as ``start`` of k_center or ``keep`` of a score, and with ``model``
            those of ``signals.compute``: ``layer``, ``batch_size``, ``workers``, ``amp`` and ``keys``.

    Raises:
        ValueError, TypeError: naming the argument, the value it got and what it takes.

    The arrays passed are never written to. The result depends on the seed, not on the backend.
    """
    start, peaks = time.perf_counter(), peak_bytes()
    ranks: distributed.Ranks | None = group
    chosen = get_method(method)
    named = {"optimizer": optimizer, "stop_at": stop_at}
    options |= {name: value for name, value in named.items() if value is not None}
    extraction = {name: options.pop(name) for name in needs.EXTRACTION if name in options}
    if model is None and (extraction or dataset is not None):
        name = next(iter(extraction), "dataset")
        raise ValueError(
            f"{name} belongs to model=, got {name}={extraction.get(name, dataset)!r} without one"
        )
    options = _options(chosen, options)
    signal_options = {name: options.pop(name) for name in chosen.signal_options}
    metric = _metric(chosen, metric, gamma)
    where = inputs.as_device(device)
    checks.choice("weights", weights, (None, "cluster"))
    if weights is not None and not chosen.metrics:
        raise ValueError(f"weights='cluster' counts the rows nearest to each pick: {method} compares no rows")
    checks.choice("balance", balance, (None, True, False))
    checks.choice("progress", progress, (None, True, False))
    seed = checks.whole("seed", seed, 0)
    memory = None if memory is None else checks.whole("memory", memory, 1)
    checks.choice("storage", storage, needs.STORAGE)
    if ranks is not None and storage not in (None, "float32"):
        raise ValueError(f"storage={storage!r} is for one process: over ranks features are kept in float32")
    if ranks is not None:
        same = {
            "method": method,
            "k": k,
            "fraction": fraction,
            "labels": "none" if labels is None else "given",
        }
        same |= {"model": "none" if model is None else "given", "balance": balance, "signal": signal}
        same |= {
            "metric": metric,
            "gamma": gamma,
            "weights": weights,
            "seed": seed,
            **options,
            **signal_options,
        }
        same |= {"preselected": preselected, "validation": "none" if validation is None else "given"}
        ranks.agree({name: distributed.fingerprint(value) for name, value in same.items()})
        progress = progress if ranks.rank == 0 else False
    run = {"device": where, "progress": progress, **extraction}
    if model is not None:
        if dataset is not None and data is not None:
            raise ValueError("data and dataset are the same thing with model=: give one of them")
        rows = data if dataset is None else dataset
        data, found = needs.run(
            chosen, model, rows, signal, signal_options, run, labels is None and balance is not False
        )
        labels = found if labels is None else labels
    with _settings(backend), planner.plan(memory) as plan:
        if ranks is None:
            source = needs.Source(chosen, data, metric, where, signal, storage)
        else:
            plan.alone = False
            source = distributed.ShardedSource(ranks, chosen, data, metric, where, signal)
        plan.shares.clear()  # from here on, what is free beside the data
        n = source.n
        labelled = _labels(source, labels, balance)
        codes = None if labelled is None else labelled[0]
        sets = 1 if codes is None else int(codes.max()) + 1
        taken = needs.preselected_of(preselected, source, sets)
        taken_rows = taken if isinstance(taken, Tensor) and taken.ndim == 1 else None
        budget = resolve_budget(n, k, fraction, preselected=0 if taken_rows is None else len(taken_rows))
        if codes is None:
            partition = Partition.whole(n, budget)
        else:
            partition = Partition.by_label(codes, budget, preselected=taken_rows)
        held_out = needs.validation_of(chosen, validation, model, labelled, run)
        clusters = weights is not None or chosen.weights == "cluster"
        if ranks is not None and model is None:
            ranks.agree({"validation": None if held_out is None else distributed.fingerprint(held_out)})
        # A method that looks at no row needs no view, and no native library is built for it.
        looks = bool(chosen.needs) or clusters or backend is not None
        ran_on = ops.active_backend(source.device) if looks else "reference"
        measured = {} if model is not None else signal_options
        with Progress(budget, method, progress) as bar:
            tally = Tally(bar)

            def picked() -> Picks:
                tally.rewind()
                generator = torch.Generator(device="cpu").manual_seed(seed)
                context = Context(generator, seed, taken, memory, tally, held_out)
                return source.pick(partition, context, gamma, measured, options)

            picks = planner.retried(picked)
        indices, places = _in_order(picks)
        _check_count(chosen, indices, partition, stop_at)
        owners = None
        if clusters:
            owners = planner.retried(partial(source.owners, partition, indices, gamma))
        counted = _weights(picks, places, owners)
        info = {
            "method": method,
            "options": options | signal_options,
            "metric": metric,
            "gamma": gamma,
            "pairs": chosen.pairs,
            "signal": source.signal,
            "n": n,
            "k": len(indices),
            "budget": budget,
            "balanced": codes is not None,
            "preselected": 0 if taken is None else len(taken),
            "validation": 0 if held_out is None else held_out.gradients.n,
            "seed": seed,
            "device": str(source.device),
            "backend": ran_on,
            "stopped_early": len(indices) < budget,
            **picks.info,
            "memory": plan.facts(source.device),
            "seconds": time.perf_counter() - start,
            "peak_bytes": peak_bytes()[str(source.device)] - peaks.get(str(source.device), 0),
            "versions": versions(),
        }
        if ranks is not None:
            info = ranks.one_record(info)
    return Selection(
        indices=indices.numpy(),
        gains=None if chosen.order == "random" else picks.gains.cpu()[places].numpy(),
        scores=None if picks.scores is None else picks.scores.cpu().numpy(),
        weights=counted,
        info=info,
        _origin=Origin.of(data if ranks is None else [], codes, owners),
    )


def _options(method: Method, given: dict[str, Any]) -> dict[str, Any]:
    takes = method.options | method.signal_options
    for name, value in given.items():
        if name not in takes:
            others = methods_taking(name)
            where = f" ({', '.join(others)} {'does' if len(others) == 1 else 'do'})" if others else ""
            has = f"its options are {', '.join(takes)}" if takes else "it has no options"
            raise TypeError(f"{method.name} does not take {name}={value!r}{where}; {has}")
    return takes | given


def _metric(method: Method, metric: str | None, gamma: Any) -> str | None:
    if not method.metrics:
        for name, value in (("metric", metric), ("gamma", gamma)):
            if value is not None:
                raise ValueError(f"{method.name} compares no rows: it takes no {name}, got {name}={value!r}")
        return None
    chosen = method.metrics[0] if metric is None else metric
    checks.choice(f"metric of {method.name}", chosen, method.metrics)
    if gamma is not None:
        if chosen != "rbf":
            raise ValueError(f"gamma belongs to metric='rbf', got gamma={gamma!r} with metric={chosen!r}")
        checks.number("gamma", gamma, "(0, inf)")
    return chosen


def _labels(source: needs.Source, labels: Any, balance: bool | None) -> tuple[Tensor, np.ndarray] | None:
    """Class code of every row and the classes, or None for one ground set."""
    labels = source.labels if labels is None else labels
    if labels is None:
        if balance:
            raise ValueError("balance=True needs labels, got labels=None")
        return None
    codes, classes = source.codes(labels)
    return None if balance is False else (codes, classes)


def _in_order(picks: Picks) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Row numbers of all picks, the first of every ground set, then the second, and their places in ``picks``."""
    rows = picks.rows.cpu().T
    step, group = (rows >= 0).nonzero(as_tuple=True)
    return rows[step, group], (group, step)


def _weights(picks: Picks, places: tuple[Tensor, Tensor], owners: np.ndarray | None) -> np.ndarray | None:
    if owners is not None:
        return np.bincount(owners, minlength=len(places[0])).astype(np.float64)
    return None if picks.weights is None else picks.weights.cpu()[places].numpy()


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
        if torch.are_deterministic_algorithms_enabled():
            # The order of a sum decides no pick; on a GPU some operations have no deterministic form.
            warn = torch.is_deterministic_algorithms_warn_only_enabled()
            torch.use_deterministic_algorithms(False)
            stack.callback(torch.use_deterministic_algorithms, True, warn_only=warn)
        yield
