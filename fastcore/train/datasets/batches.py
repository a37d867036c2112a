"""Batches to train on: shuffled, augmented, and the same whenever training goes on from a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastcore import checks
from fastcore.train.datasets.base import LabelledSet, Moment, unchanged
from fastcore.train.datasets.images import ImageSet
from fastcore.train.datasets.seeds import generator


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """The rows of one step.

    Attributes:
        index: (b,) int64 on the CPU, row numbers of the data set.
        images: (b, c, h, w) float32 on the device.
        labels: (b,) int64 on the device.
        weights: (b,) float32 on the device, or None where rows have none.
    """

    index: Tensor
    images: Tensor
    labels: Tensor
    weights: Tensor | None


class TrainingBatches:
    """Batches of a data set, or of some of its rows, in a new order each epoch.

    Order and augmentation depend on (seed, epoch, step) alone, so training can go on at any step, bit for bit.
    A last batch of one row, which batch normalisation cannot take, is joined to the batch before it.

    Args:
        dataset: a data set of ``fastcore.train.datasets``. Images in memory that are on another device are moved
            here (only those of ``indices``): move them once with ``.to`` to share them between trainings.
        indices: (k,) row numbers of the data set; None for all rows.
        weights: (k,) finite, not negative, aligned with the rows; None for none.
        batch_size: rows in a step.
        augment: whether images are augmented, as the data set says.
        seed: what order and augmentation depend on.
        device: where batches are made.
        workers: processes that read images which are not in memory; None for as many as the data set says.

    Raises ValueError and TypeError that name the argument.
    """

    def __init__(
        self,
        dataset: LabelledSet,
        indices: Any = None,
        weights: Any = None,
        *,
        batch_size: int,
        augment: bool = True,
        seed: int = 0,
        device: torch.device | str = "cpu",
        workers: int | None = None,
    ) -> None:
        if not isinstance(dataset, LabelledSet):
            kind = type(dataset).__name__
            raise TypeError(f"dataset must be one of fastcore.train.datasets, got {kind}: see from_dataset")
        self._dataset, self._augment = dataset, bool(augment)
        self._seed, self._device = checks.whole("seed", seed, 0), torch.device(device)
        self._workers = dataset.workers_for(workers)
        self._rows = as_rows(indices, len(dataset))
        self._weights = _as_weights(weights, len(self._rows), self._device)
        self._labels = dataset.labels[self._rows].to(self._device)
        self._bounds = _bounds(len(self._rows), checks.whole("batch_size", batch_size, 1))
        self._loader: DataLoader[Any] | None = None
        self._requests = _Requests()
        self._source: ImageSet | None = None  # the images in memory, and where in them our rows are
        if isinstance(dataset, ImageSet):
            here = dataset.images.device == torch.empty(0, device=self._device).device
            whole = here or indices is None
            self._source = dataset.to(self._device) if whole else dataset.take(self._rows).to(self._device)
            self._places = (self._rows if whole else torch.arange(len(self._rows))).to(self._device)

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        return len(self._bounds)

    def epoch(self, number: int, first_step: int = 0) -> Iterator[TrainingBatch]:
        """The batches of an epoch, counted from 0, from a step on."""
        number = checks.whole("number", number, 0)
        if checks.whole("first_step", first_step, 0) > self.steps:
            raise ValueError(
                f"first_step must be at most the {self.steps} steps of an epoch, got {first_step}"
            )
        order = torch.randperm(len(self._rows), generator=generator("order", self._seed, number))
        # Positions among our rows, on the CPU and, copied once an epoch, on the device.
        shares, local = (
            [each[start:stop] for start, stop in self._bounds[first_step:]]
            for each in (order, order.to(self._device))
        )
        if self._source is None:
            read = self._read(shares, number, first_step)
        else:
            read = self._resident(self._source, local, number, first_step)
        for positions, places, images in zip(shares, local, read):
            weights = None if self._weights is None else self._weights[places]
            yield TrainingBatch(self._rows[positions], images, self._labels[places], weights)

    def _resident(
        self, source: ImageSet, shares: list[Tensor], epoch: int, first_step: int
    ) -> Iterator[Tensor]:
        """Images of each share of our rows, from memory."""
        for step, positions in enumerate(shares, first_step):
            moment = Moment(self._seed, epoch, step) if self._augment else None
            yield source.normalised(source.read(self._places[positions], moment))

    def _read(self, shares: list[Tensor], epoch: int, first_step: int) -> Iterator[Tensor]:
        """Images of each share of our rows, read by workers, which stay for the next epoch."""
        if self._loader is None:
            self._loader = DataLoader(
                _Reader(self._dataset),
                batch_sampler=self._requests,
                num_workers=self._workers,
                persistent_workers=self._workers > 0,
                collate_fn=unchanged,
                pin_memory=self._device.type == "cuda",
                generator=torch.Generator(),
            )
        self._requests.pending = [
            (self._rows[positions].tolist(), Moment(self._seed, epoch, step) if self._augment else None)
            for step, positions in enumerate(shares, first_step)
        ]
        for images in self._loader:
            if isinstance(images, Exception):
                # Its workers end now: held by a traceback until later, each would be waited for in vain.
                self._loader = None
                try:
                    raise images
                finally:
                    del images
            yield self._dataset.normalised(images.to(self._device, non_blocking=True))


class _Requests:
    """What workers are asked for: rows and moment of each batch of an epoch."""

    def __init__(self) -> None:
        self.pending: list[tuple[list[int], Moment | None]] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pending)

    def __len__(self) -> int:
        return len(self.pending)


class _Reader(Dataset[Any]):
    """Reads whole batches. Errors come back as they are: a worker would wrap them in its traceback."""

    def __init__(self, dataset: LabelledSet) -> None:
        self._dataset = dataset

    def __getitems__(self, request: tuple[list[int], Moment | None]) -> Any:
        try:
            return self._dataset.read(*request)
        except (ValueError, TypeError, OSError) as error:
            return error


def as_rows(indices: Any, n: int) -> Tensor:
    """Row numbers as (k,) int64 on the CPU; all n for None. Raises ValueError and TypeError for others."""
    if indices is None:
        return torch.arange(n)
    rows = _as_tensor(indices)
    if rows.ndim != 1 or len(rows) == 0:
        raise ValueError(f"indices must be a list of row numbers, got shape {tuple(rows.shape)}")
    if rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
        raise TypeError(f"indices must be integers, got {rows.dtype}")
    rows = rows.to(torch.int64)
    outside = rows[(rows < 0) | (rows >= n)]
    if len(outside):
        raise ValueError(f"indices must be in 0 .. {n - 1}, got {int(outside[0])}")
    return rows


def _as_weights(weights: Any, k: int, device: torch.device) -> Tensor | None:
    if weights is None:
        return None
    tensor = _as_tensor(weights).to(torch.float32)
    if tensor.shape != (k,):
        raise ValueError(f"weights must have shape ({k},), one a row, got {tuple(tensor.shape)}")
    wrong = tensor[~(tensor.isfinite() & (tensor >= 0))]
    if len(wrong):
        raise ValueError(f"weights must be finite and not negative, got {float(wrong[0])}")
    return tensor.to(device)


def _as_tensor(values: Any) -> Tensor:
    return values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))


def _bounds(k: int, batch_size: int) -> list[tuple[int, int]]:
    """First and last position of each batch."""
    starts = list(range(0, k, batch_size))
    if k % batch_size == 1 and len(starts) > 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], k]))
