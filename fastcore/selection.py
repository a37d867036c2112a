"""The result of a selection."""

from __future__ import annotations

import io
import json
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler, Subset, SubsetRandomSampler

from fastcore import inputs
from fastcore.assignment import assign
from fastcore.budget import Partition
from fastcore.files import read_stamped, write_atomic
from fastcore.gradients import LastLayerGradients
from fastcore.numerics import full_precision
from fastcore.similarity import view

_FORMAT = 1


@dataclass(frozen=True)
class Origin:
    """What a selection was made from: the data, not kept alive, and what is known of it.

    Attributes:
        reference: gives the data, or None once it is gone; None for kinds that cannot be referred to weakly.
        codes: (n,) int64 class of every row in a balanced selection.
        owners: (n,) int64 position of the pick that represents each row, where it is known.
    """

    reference: Callable[[], Any] | None = None
    codes: Tensor | None = None
    owners: np.ndarray | None = None

    @classmethod
    def of(cls, data: Any, codes: Tensor | None, owners: np.ndarray | None) -> Origin:
        """The origin of a selection from ``data``."""
        try:
            return cls(weakref.ref(data), codes, owners)
        except TypeError:  # a list
            return cls(None, codes, owners)

    def data(self) -> Any:
        """The data, or None when it is gone."""
        return self.reference() if self.reference is not None else None


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """The rows that were chosen.

    ``np.asarray(selection)``, ``features[selection]`` and iteration give the indices.

    Attributes:
        indices: (k,) int64 row numbers, unique, in pick order. In a balanced selection the first pick of
            every class comes first, then the second of every class, so that a prefix stays balanced.
        gains: (k,) float64, what each pick was worth, in the units of the method; None for random picks.
        scores: (n,) float64, the score of every row, where the method scores rows.
        weights: (k,) float64, how much each pick counts, where the method or ``weights=`` gives them.
        info: how it was made: method, options, n, k, seed, device, backend, seconds, memory, peak_bytes, versions.
            memory says what was planned: bytes "free" on the device, the "limit" that was given, the bytes of a
            "tile" of rows and of a "batch" of classes, whether features were "streamed" from the host, and how
            many "retries" were made because memory ran out. Counts of work, such as "passes" and "evaluations",
            are of all that was done: what was repeated because memory ran out counts again. peak_bytes is by how
            much the peak memory of the process grew (resident memory on a CPU, memory allocated by torch on a
            GPU); 0 when the selection stayed below an earlier peak.
    """

    indices: np.ndarray
    gains: np.ndarray | None = None
    scores: np.ndarray | None = None
    weights: np.ndarray | None = None
    info: dict[str, Any] = field(default_factory=dict)
    _origin: Origin | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())

    def __getitem__(self, which: Any) -> Any:
        """Indices by position: an int for an int, an array for a slice; ``selection[:j]`` are the first j."""
        picked = self.indices[which]
        return picked if isinstance(picked, np.ndarray) else int(picked)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False and dtype is not None and np.dtype(dtype) != self.indices.dtype:
            raise ValueError(f"indices are {self.indices.dtype}: as {np.dtype(dtype)} they must be copied")
        return np.array(self.indices, dtype=dtype, copy=bool(copy) or None)

    def __repr__(self) -> str:
        method, n, seconds = (self.info.get(name) for name in ("method", "n", "seconds"))
        return f"Selection({method!r}, k={len(self)}, n={n}, seconds={seconds:.3g})"

    def assignments(self, features: Any = None, labels: Any = None) -> np.ndarray:
        """For every row the position in ``indices`` of the pick that represents it, (n,) int64.

        That is the most similar pick under the metric of the selection (the nearest where that is a
        distance), of the row's own class when the selection is balanced; the earlier of equal picks. A row
        of a class without picks goes to the best pick of all; preselected rows represent none. n·k·d time in
        float64, unless ``weights=`` needed the same.

        Without ``features`` it uses the data of the selection, which is not kept alive: after that is gone,
        and after ``load``, pass the features again, and the labels of a balanced selection.
        """
        origin, info = self._origin, self.info
        if info["metric"] is None:
            raise ValueError(f"{info['method']} compares no rows: it has no assignments")
        if features is None and origin is not None and origin.owners is not None:
            return np.array(origin.owners)
        data = features if features is not None or origin is None else origin.data()
        if data is None:
            raise ValueError("the features of this selection are gone: pass them, assignments(features)")
        with full_precision():
            # Signals hold what rows were compared by under its name.
            data = getattr(data, info.get("signal") or "", data)
            if isinstance(data, LastLayerGradients):
                table: Any = data
            elif info["metric"] == "precomputed":
                table = inputs.as_matrix(data, pairs=info["pairs"])
            else:
                table = inputs.as_features(data, name="features")
            n = len(table) if isinstance(table, LastLayerGradients) else table.shape[0]
            if n != info["n"]:
                raise ValueError(f"features must have the {info['n']} rows of the selection, got {n}")
            partition = Partition.whole(n, 0)
            if info["balanced"]:
                codes = origin.codes if origin is not None and labels is None else None
                if labels is not None:
                    codes, _ = inputs.as_labels(labels, n)
                if codes is None:
                    raise ValueError(
                        "this selection is balanced: pass its labels, assignments(features, labels)"
                    )
                partition = Partition.by_label(codes, 0)
            picks = torch.from_numpy(self.indices)
            return assign(
                view(table, info["metric"], info.get("gamma")), partition, picks, info["pairs"]
            ).numpy()

    def subset(self, dataset: Any) -> Subset[Any]:
        """The chosen items of a map-style ``dataset``, as a ``torch.utils.data.Subset`` in pick order."""
        if hasattr(dataset, "__len__") and len(dataset) != self.info.get("n", len(dataset)):
            raise ValueError(
                f"dataset must have the {self.info['n']} rows of the selection, got {len(dataset)}"
            )
        return Subset(dataset, self.indices.tolist())

    def sampler(self, shuffle: bool = True, generator: Any = None) -> Sampler[int]:
        """A sampler for a ``DataLoader`` over the whole data set that visits every pick once an epoch.

        The order is shuffled, by ``generator`` or torch's own, or pick order. Weights do not change how often
        a pick is visited: they belong in the loss.
        """
        indices = self.indices.tolist()
        return SubsetRandomSampler(indices, generator=generator) if shuffle else _InOrder(indices)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the selection to ``path`` as an .npz archive without pickles, whole or not at all.

        ``load`` and ``numpy.load`` read it. Raises OSError when it cannot be written.
        """
        held = {"gains": self.gains, "scores": self.scores, "weights": self.weights}
        arrays: dict[str, Any] = {name: array for name, array in held.items() if array is not None}
        buffer = io.BytesIO()
        info = json.dumps(self.info, default=_plain)
        arrays |= {
            "fastcore_selection": np.asarray(_FORMAT),
            "info": np.asarray(info),
            "indices": self.indices,
        }
        np.savez_compressed(buffer, **arrays)
        write_atomic(path, buffer.getvalue())

    def __getstate__(self) -> dict[str, Any]:
        # A copy, perhaps in another process, has no data to refer to.
        origin = None if self._origin is None else replace(self._origin, reference=None)
        return {**self.__dict__, "_origin": origin}


class _InOrder(Sampler[int]):
    def __init__(self, indices: list[int]) -> None:
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def load(path: str | os.PathLike[str]) -> Selection:
    """The selection that ``Selection.save`` wrote to ``path``.

    No pickle is loaded. Raises OSError when it cannot be read, ValueError when it is another kind of file.
    """
    arrays = read_stamped(path, "fastcore_selection", _FORMAT, "selection")
    try:
        info = json.loads(str(arrays.pop("info")))
        selection = Selection(**arrays, info=info)
        _check(selection)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is a damaged selection: {error}") from error
    return selection


def _plain(value: Any) -> Any:
    """What JSON can hold of an option."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _check(selection: Selection) -> None:
    indices, info = selection.indices, selection.info
    if not isinstance(info, dict) or not {"method", "n", "metric", "pairs", "balanced"} <= info.keys():
        raise ValueError("its info is incomplete")
    if indices.ndim != 1 or indices.dtype != np.int64 or len(np.unique(indices)) != len(indices):
        raise ValueError("its indices are not unique row numbers")
    if len(indices) and not 0 <= indices.min() <= indices.max() < info["n"]:
        raise ValueError(f"its indices are not rows of {info['n']}")
    for name, length in (("gains", len(indices)), ("weights", len(indices)), ("scores", info["n"])):
        array = getattr(selection, name)
        if array is not None and array.shape != (length,):
            raise ValueError(f"its {name} have shape {array.shape}, not ({length},)")
