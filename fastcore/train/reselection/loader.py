"""Re-selection for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from fastcore import checks
from fastcore.selection import Selection
from fastcore.signals import DynamicsRecorder, items
from fastcore.signals.tensors import as_labels, is_array, mapped, moved, size_of, stacked
from fastcore.train.datasets.seeds import generator
from fastcore.train.reselection.engine import Reselection


class Batch(NamedTuple):
    """The rows of one step.

    Attributes:
        index: (b,) int64 row numbers of the data set.
        inputs: what the model takes, on the CPU: a tensor, or nested tensors; see ``fastcore.signals.items``.
        labels: (b,) int64, or None where the data set has none.
        weights: (b,) float32 with mean 1 over all rows chosen; ones where the method gives no weights.
    """

    index: Tensor  # type: ignore[assignment]
    inputs: Any
    labels: Tensor | None
    weights: Tensor


class ReselectingLoader:
    """Batches of the rows that a network in training chooses anew every few epochs.

    Goes where a ``DataLoader`` of training data goes, in a loop of one's own or of a framework:

        loader = ReselectingLoader(train, network, "graph_cut", fraction=0.1, every=10)
        for epoch in range(epochs):
            for index, inputs, labels, weights in loader:
                losses = cross_entropy(network(inputs), labels, reduction="none")
                (weights * losses).mean().backward()
                ...

    Every ``for`` is an epoch. Where a selection is due it is made as the epoch begins, by the network as it
    stands then. Weights have mean 1 over the chosen rows, so that the mean of ``weights * losses`` keeps the size
    of a mean loss, and a learning rate its meaning. Rows come in another order each epoch, which depends on the
    seed and the epoch alone. A last batch of one row, which batch normalisation cannot take, is joined to the one
    before it. For one process: under data parallelism every rank would select for itself.

    Args:
        dataset: a torch ``Dataset``, or anything with ``len`` and ``[row]``, or (inputs, labels); items by the
            rules of ``fastcore.signals.items``. What is trained on: random augmentation is welcome.
        model: the network that is trained.
        method: a name of ``fastcore.list_methods()``.
        every: epochs from one selection to the next.
        k, fraction: rows to choose, as in ``fastcore.select``.
        warm_start: share of the cost of training that is spent on all rows first; needs ``epochs``.
        epochs: epochs of the whole training.
        batch_size: rows in a step.
        workers: processes that load items, for training and for selections.
        seed: of the order and of all selections.
        keys: names of input and label in items that are dicts, such as ("image", "label").
        plain: the same rows without augmentation, to select from; by default ``dataset``.
        labels, balance, validation, options, device, progress: as in ``Reselection``.
        recorder: the record of training, for forgetting: the loop calls its ``update`` and ``end_epoch``. Without
            one, the only epochs of the record are the passes over all rows before each selection.

    Raises ValueError and TypeError that name the argument.
    """

    def __init__(
        self,
        dataset: Any,
        model: nn.Module,
        method: str,
        *,
        every: int,
        k: int | None = None,
        fraction: float | None = None,
        warm_start: float = 0.0,
        epochs: int | None = None,
        batch_size: int = 128,
        workers: int = 0,
        seed: int = 0,
        keys: Sequence[Any] | None = None,
        plain: Any = None,
        labels: Any = None,
        balance: bool | None = None,
        validation: Any = None,
        options: Mapping[str, Any] | None = None,
        device: Any = None,
        progress: bool | None = None,
        recorder: DynamicsRecorder | None = None,
    ) -> None:
        if isinstance(dataset, DataLoader | IterableDataset):
            kind = type(dataset).__name__
            raise TypeError(
                f"dataset must have rows that can be picked out, got {kind}: pass the data set itself"
            )
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self.dataset, self.model, self.recorder = dataset, model, recorder
        self.batch_size = checks.whole("batch_size", batch_size, 1)
        self.num_workers = checks.whole("workers", workers, 0)
        reading = {"workers": self.num_workers, "keys": keys}
        self._engine = Reselection(
            method,
            dataset if plain is None else plain,
            every=every,
            k=k,
            fraction=fraction,
            warm_start=warm_start,
            epochs=epochs,
            labels=labels,
            balance=balance,
            validation=validation,
            seed=seed,
            options=reading | dict(options or {}),
            device=device,
            progress=progress,
        )
        self._rows = _Rows(dataset, keys)
        if items.count(dataset) != self._engine.n:
            raise ValueError(
                f"plain must have the {items.count(dataset)} rows of dataset, got {self._engine.n}"
            )
        self._started = 0  # epochs, the one that is under way among them
        self._under_way = False

    def __repr__(self) -> str:
        return f"ReselectingLoader({self._engine!r}, batch_size={self.batch_size})"

    @property
    def epoch(self) -> int:
        """The epoch that is under way, or else the next one, from 0."""
        return self._started - self._under_way

    @property
    def selection(self) -> Selection | None:
        """The present selection; None while training is on all rows."""
        return self._engine.selection

    @property
    def count(self) -> int:
        """Selections so far."""
        return self._engine.count

    @property
    def warm_epochs(self) -> int:
        """Epochs on all rows at the start."""
        return self._engine.warm_epochs

    def __len__(self) -> int:
        """Batches of the epoch that is under way, or else of the next one."""
        if not self._under_way and self._engine.is_due(self.epoch):
            return len(_shares(self._engine.k, self.batch_size))
        return len(_shares(len(self._engine.rows()), self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch."""
        # It begins when its first batch is asked for: frameworks make iterators that they do not use.
        epoch = self._started
        self._engine.choose(epoch, self.model, self.recorder)
        self._started, self._under_way = epoch + 1, True
        chosen = self._engine.rows()
        weights = torch.ones(len(chosen)) if chosen.weights is None else chosen.weights
        order = torch.randperm(len(chosen), generator=generator("order", self._engine.seed, epoch))
        shares = [order[share] for share in _shares(len(chosen), self.batch_size)]
        loader: DataLoader[Any] = DataLoader(
            self._rows,
            batch_sampler=[chosen.indices[places].tolist() for places in shares],
            num_workers=self.num_workers,
            collate_fn=_unchanged,
            generator=generator("workers", self._engine.seed, epoch),
        )
        for number, (places, (inputs, labels)) in enumerate(zip(shares, loader, strict=True), 1):
            if number == len(shares) and self._started == epoch + 1:
                self._under_way = False  # a framework may not ask for more than the last batch
            yield Batch(chosen.indices[places], inputs, labels, weights[places])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on at the start of the epoch that is under way, or of the next one."""
        return {"epoch": self.epoch, "engine": self._engine.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what ``state_dict`` gave. Raises ValueError, naming the setting, where it had others."""
        self._engine.load_state_dict(state["engine"])
        self._started, self._under_way = int(state["epoch"]), False


class _Rows(Dataset[Any]):
    """Reads the rows of a batch by the rules of ``fastcore.signals.items``."""

    def __init__(self, dataset: Any, keys: Sequence[Any] | None) -> None:
        self._dataset, self._keys = items.opened(dataset), items.as_keys(keys)

    def __getitems__(self, rows: list[int]) -> tuple[Any, Tensor | None]:
        dataset = self._dataset
        if items.is_columns(dataset):
            inputs, labels = (dataset, None) if is_array(dataset) else items.split(dataset, self._keys)
            inputs = mapped(lambda part: part[rows], inputs)
            labels = None if labels is None else labels[rows]
        else:
            fetch = getattr(dataset, "__getitems__", None)
            found = fetch(rows) if fetch else [dataset[row] for row in rows]
            pairs = [items.split(item, self._keys, row) for item, row in zip(found, rows, strict=True)]
            inputs = stacked([each for each, _ in pairs], rows[0])
            labels = None if pairs[0][1] is None else [label for _, label in pairs]
        inputs = moved(inputs, rows[0], "cpu", None)
        return inputs, as_labels(labels, size_of(inputs), rows[0], "cpu")


def _shares(k: int, batch_size: int) -> list[slice]:
    """Places of each batch."""
    starts = list(range(0, k, batch_size))
    if k % batch_size == 1 and len(starts) > 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], k], strict=True)]


def _unchanged(batch: Any) -> Any:
    return batch
