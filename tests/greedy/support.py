"""One way to call every engine, and the oracle that belongs to each call."""

from __future__ import annotations

import inspect
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastcore.budget import Partition
from fastcore.greedy.facility_location import facility_location
from fastcore.greedy.farthest_first import farthest_first
from fastcore.greedy.graph_cut import graph_cut
from fastcore.greedy.herding import herding
from fastcore.greedy.log_det import log_det
from fastcore.greedy.picks import Picks
from fastcore.similarity import Similarity, view
from tests import oracle
from tests.greedy.judge import Judgement

ENGINES: dict[str, Callable[..., Picks]] = {
    "k_center": farthest_first,
    "facility_location": facility_location,
    "graph_cut": graph_cut,
    "log_det": log_det,
    "herding": herding,
}
METHODS = list(ENGINES)

PAIRS = [
    ("k_center", "euclidean"),
    ("k_center", "cosine"),
    ("facility_location", "cosine"),
    ("facility_location", "dot"),
    ("facility_location", "euclidean"),
    ("facility_location", "rbf"),
    ("graph_cut", "cosine"),
    ("graph_cut", "dot"),
    ("graph_cut", "euclidean"),
    ("graph_cut", "rbf"),
    ("log_det", "cosine"),
    ("log_det", "dot"),
    ("log_det", "rbf"),
    ("herding", "euclidean"),
    ("herding", "cosine"),
]
"""Every method with each of its metrics on features."""

DEFAULT_METRIC = {"k_center": "euclidean", "herding": "euclidean"}


def random_rows(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 6) float32 rows: "integer" and "duplicates" have ties, all other kinds have none."""
    x = rng.standard_normal((n, 6)).astype(np.float32)
    if kind == "integer":
        x = rng.integers(-2, 3, (n, 6)).astype(np.float32)
    if kind == "duplicates":
        x = x[rng.integers(0, n // 4, n)]
    return x


def view_of(data: Any, metric: str, gamma: float | None = None) -> Similarity:
    """The view an engine gets: of features, of a dense matrix, or of a scipy sparse matrix."""
    if isinstance(data, np.ndarray):
        return view(torch.from_numpy(np.ascontiguousarray(data, np.float32)), metric, gamma)
    coo = data.tocoo()
    places = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.from_numpy(coo.data)
    return view(torch.sparse_coo_tensor(places, values, coo.shape, check_invariants=True), metric)


def run(
    method: str,
    data: Any,
    k: int,
    *,
    metric: str | None = None,
    partition: Partition | None = None,
    gamma: float | None = None,
    **options: Any,
) -> Picks:
    """The picks of an engine. k-center starts at row 0 unless told; row numbers may be given as lists."""
    metric = metric or DEFAULT_METRIC.get(method, "cosine")
    engine = ENGINES[method]
    if method == "k_center":
        options.setdefault("start", 0)
    if options.get("preselected") is not None:
        options["preselected"] = torch.as_tensor(options["preselected"])
    assert set(options) <= set(inspect.signature(engine).parameters), f"{method} lacks one of {set(options)}"
    partition = partition or Partition.whole(data.shape[0], k)
    return engine(view_of(data, metric, gamma), partition, **options)


_recent: dict[tuple[int, str, float | None], np.ndarray] = {}


def similarity_of(features: np.ndarray, metric: str, gamma: float | None) -> np.ndarray:
    """The oracle's similarity; that of the last large data set under each metric is kept."""
    if len(features) < 1000:
        return oracle.similarity(features, metric, gamma=gamma)
    key = zlib.crc32(features), metric, gamma
    if key not in _recent:
        for old in [old for old in _recent if old[0] != key[0]]:
            del _recent[old]
        _recent[key] = oracle.similarity(features, metric, gamma=gamma)
    return _recent[key]


def rows_of(picks: Picks, ground_set: int = 0) -> list[int]:
    """Row numbers picked from one ground set, without the padding."""
    rows = picks.rows[ground_set].tolist()
    count = next((t for t, row in enumerate(rows) if row < 0), len(rows))
    assert all(row < 0 for row in rows[count:]), f"a pick after the padding: {rows}"
    assert len(set(rows[:count])) == count, f"a row picked twice: {rows[:count]}"
    return rows[:count]


def gains_of(picks: Picks, ground_set: int = 0) -> np.ndarray:
    """Gains of one ground set, without the padding."""
    return picks.gains[ground_set, : len(rows_of(picks, ground_set))].numpy()


def problem_of(
    method: str, data: np.ndarray, metric: str | None = None, gamma: float | None = None, **options: Any
) -> oracle.Problem:
    """The oracle of the same run, with `preselected` (rows or features), `lam` and `ridge` of the engine."""
    metric = metric or DEFAULT_METRIC.get(method, "cosine")
    options = {key: value for key, value in options.items() if key in ("preselected", "lam", "ridge")}
    fixed = options.pop("preselected", None)
    external = None
    if fixed is not None:
        if np.ndim(fixed) == 2:
            external = np.asarray(fixed, np.float64)
        else:
            options["preselected"] = [int(row) for row in fixed]
    if method == "k_center":
        return oracle.KCenter(data, metric, external=external, **options)
    if method == "herding":
        scaled = oracle.unit_rows if metric == "cosine" else (lambda rows: rows)
        return oracle.Herding(
            scaled(data), external=None if external is None else scaled(external), **options
        )
    if metric == "precomputed":
        s = np.asarray(data, np.float64)
    else:
        s = similarity_of(data, metric, gamma)
        if external is not None:
            cross = oracle.similarity(data, metric, external, gamma)
            if method != "log_det":
                options["external"] = cross
            else:
                both = np.concatenate([data, external])
                known = {"rbf": lambda: gamma or oracle.default_gamma(data)}.get(metric, lambda: None)()
                options["external"] = (
                    cross,
                    oracle.similarity(both, metric, gamma=known)[len(data) :, len(data) :],
                )
    classes = {
        "facility_location": oracle.FacilityLocation,
        "graph_cut": oracle.GraphCut,
        "log_det": oracle.LogDet,
    }
    return classes[method](s, **options)


def check(
    method: str,
    data: np.ndarray,
    k: int,
    label: str = "",
    *,
    metric: str | None = None,
    gap: float = 1e-9,
    share: float = 1.0,
    every: int = 1,
    **options: Any,
) -> Picks:
    """Runs the engine and judges every pick, given its own prefix, and every gain; returns the picks."""
    picks = run(method, data, k, metric=metric, **options)
    rows, gains = rows_of(picks), gains_of(picks)
    label = f"{method}/{metric} {label} {data.shape} k={k}"
    assert len(rows) == k, f"{label}: {len(rows)} picks"
    options = {key: value for key, value in options.items() if key != "block"}
    first_is_free = method == "k_center" and options.get("preselected") is None
    problem = problem_of(method, data, metric, **options)
    judgement = Judgement(problem, rows, skip=int(first_is_free), every=every)
    judgement.check(label, gap, share)
    if first_is_free:
        assert gains[0] == np.inf, f"{label}: gain of the first pick is {gains[0]}"
    check_gains(gains[judgement.steps], judgement.gains, label, problem.size)
    return picks


def check_gains(got: Any, expected: Any, label: str, size: float) -> None:
    """Gains agree to 1e-7 of each, 1e-9 of the largest or 1e-12 of `size`; infinities are the same."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    finite = np.isfinite(expected)
    assert (got[~finite] == expected[~finite]).all(), f"{label}: gains {got[~finite]} for {expected[~finite]}"
    if not finite.any():
        return
    got, expected = got[finite], expected[finite]
    error = np.abs(got - expected) - (1e-7 * np.abs(expected) + 1e-9 * np.abs(expected).max() + 1e-12 * size)
    worst = int(error.argmax())
    assert error[worst] <= 0, f"{label}: gain {worst} is {got[worst]!r}, expected {expected[worst]!r}"


class Watch(TorchDispatchMode):
    """Records what torch is asked for in a block: how many calls, the largest result, and waits for the device.

    Attributes:
        calls: the number of calls.
        largest: bytes of the largest tensor that was made.
        waits: calls that would make the host wait for a GPU: a number read, or rows taken by a mask.
        sorts: shapes that were sorted.
        numbers: how many numbers each operation made, by its name, such as "log".
        named: how often each operation was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.largest, self.waits = 0, 0, 0
        self.sorts: list[tuple[int, ...]] = []
        self.numbers: Counter[str] = Counter()
        self.named: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = str(function)
        self.calls += 1
        self.named[name.split(".")[1]] += 1
        masks = [a for arg in args for a in (arg if isinstance(arg, list | tuple) else [arg])]
        by_mask = any(torch.is_tensor(a) and a.dtype == torch.bool for a in masks)
        reads = "_local_scalar_dense" in name or "nonzero" in name
        self.waits += reads or ("index" in name and by_mask)
        if "sort" in name:
            self.sorts.append(tuple(args[0].shape))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if torch.is_tensor(tensor):
                self.numbers[name.split(".")[1]] += tensor.numel()
            if torch.is_tensor(tensor) and "view" not in name and "expand" not in name:
                self.largest = max(self.largest, tensor.numel() * tensor.element_size())
        return out
