"""Every shape that a data set may have gives the same rows in the same order; what has no order is refused."""

from __future__ import annotations

from collections import UserDict

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from fastcore.signals import items
from tests.signals.networks import Items, data

X, Y = data()
N = len(X)


class Stream(IterableDataset):
    def __init__(self, n: int = N, length: int = N) -> None:
        self.n, self.length = n, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        return ((X[row % N], Y[row % N]) for row in range(self.n))


class Columns(list):
    """Like a Hugging Face data set: a batch of rows is fetched at once."""

    def __getitems__(self, rows):
        self.fetched = rows
        return [self[row] for row in rows]


def keep_two(parts):
    return torch.stack([part[0] for part in parts]), torch.tensor([part[1] for part in parts])


def pairs(make, **settings):
    return Items(make), settings


LABELLED = {
    "tuple": pairs(lambda x, y, row: (x, y)),
    "list item": pairs(lambda x, y, row: [x, y]),
    "extra": pairs(lambda x, y, row: (x, y, f"{row}.jpg", object())),
    "label tensor": pairs(lambda x, y, row: (x, torch.tensor(y))),
    "label (1,)": pairs(lambda x, y, row: (x, torch.tensor([y]))),
    "label numpy": pairs(lambda x, y, row: (x, np.int32(y))),
    "label float": pairs(lambda x, y, row: (x, float(y))),
    "numpy input": pairs(lambda x, y, row: (x.numpy(), y)),
    "list input": pairs(lambda x, y, row: (x.tolist(), y)),
    "dict": pairs(lambda x, y, row: {"label": y, "x": x, "name": "a"}),
    "image dict": pairs(lambda x, y, row: {"img": x, "target": y}),
    "mapping": pairs(lambda x, y, row: UserDict(pixel_values=x, labels=y)),
    "keys": pairs(lambda x, y, row: {"a": x, "b": y, "x": x + 1, "y": 0}, keys=("a", "b")),
    "number keys": pairs(lambda x, y, row: (row, x, 0, y), keys=(1, 3)),
    "TensorDataset": (TensorDataset(X, Y), {}),
    "TensorDataset, extra": (TensorDataset(X, Y, X), {}),
    "tensors": ((X, Y), {}),
    "list of tensors": ([X, Y], {}),
    "arrays": ((X.numpy(), Y.numpy()), {}),
    "float64": ((X.double().numpy(), Y.tolist()), {"dtype": torch.float32}),
    "dict of tensors": ({"x": X, "y": Y}, {}),
    "list": ([(X[i], Y[i]) for i in range(N)], {}),
    "getitems": (Columns({"image": X[i].tolist(), "label": int(Y[i])} for i in range(N)), {}),
    "workers": (*pairs(lambda x, y, row: (x, y))[:1], {"workers": 2}),
    "loader": (DataLoader(TensorDataset(X, Y), batch_size=5), {}),
    "loader of dicts": (DataLoader([{"x": X[i], "y": Y[i]} for i in range(N)], batch_size=5), {}),
    "loader, collate": (DataLoader(TensorDataset(X, Y), batch_size=5, collate_fn=keep_two), {}),
    "loader, batch_sampler": (
        DataLoader(TensorDataset(X, Y), batch_sampler=BatchSampler(SequentialSampler(X), 5, False)),
        {},
    ),
    "loader, range": (DataLoader(TensorDataset(X, Y), batch_size=5, sampler=range(N)), {}),
    "stream": (Stream(), {}),
    "loader of stream": (DataLoader(Stream(), batch_size=5), {}),
}


@pytest.mark.parametrize("start", [0, 8, N - 1, N])
@pytest.mark.parametrize("kind", LABELLED)
def test_every_shape_gives_the_same_rows(kind, start):
    dataset, settings = LABELLED[kind]
    assert items.count(dataset) == N
    found = list(items.batches(dataset, batch_size=7, start=start, **settings))
    row = start
    for batch in found:
        assert batch.rows == slice(row, row + batch.size)
        # Lists of Python numbers are float64 until the model's dtype is known.
        assert torch.equal(batch.inputs.float(), X[batch.rows]) and torch.equal(batch.labels, Y[batch.rows])
        assert batch.labels.dtype == torch.int64
        row += batch.size
    assert row == N


@pytest.mark.parametrize(
    "dataset",
    [
        X,
        X.numpy(),
        (X,),
        TensorDataset(X),
        Items(lambda x, y, row: x),
        Items(lambda x, y, row: x.numpy()),
        Items(lambda x, y, row: (x,)),
        Items(lambda x, y, row: {"image": x}),
        DataLoader(Items(lambda x, y, row: x), batch_size=4),
        Subset(Items(lambda x, y, row: x), range(N)),
    ],
)
def test_bare_inputs_have_no_labels(dataset):
    for batch in items.batches(dataset, batch_size=10):
        assert batch.labels is None and torch.equal(batch.inputs, X[batch.rows])


def test_inputs_are_passed_as_they_are():
    image = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8)
    (batch,) = items.batches((image, [0, 1, 0, 1]))
    assert batch.inputs.dtype == torch.uint8 and torch.equal(batch.inputs, image)
    (batch,) = items.batches(X.double(), dtype=None)
    assert batch.inputs.dtype == torch.float64
    (batch,) = items.batches(X.half(), dtype=torch.float32)
    assert batch.inputs.dtype == torch.float16


def test_nested_inputs_stay_nested():
    text = Items(lambda x, y, row: {"input_ids": [row, 1], "attention_mask": [1, 1], "labels": y})
    batch = next(items.batches(text, batch_size=3))
    assert list(batch.inputs) == ["input_ids", "attention_mask"] and batch.size == 3
    assert batch.inputs["input_ids"].tolist() == [[0, 1], [1, 1], [2, 1]]
    named = Items(lambda x, y, row: {"a": x, "b": x + 1, "c": y})
    batch = next(items.batches(named, batch_size=3, keys=(("a", "b"), "c")))
    assert torch.equal(batch.inputs["b"], X[:3] + 1) and torch.equal(batch.labels, Y[:3])
    batch = next(items.batches(named, batch_size=3, keys=("a", None)))
    assert batch.labels is None
    two = Items(lambda x, y, row: ((x, {"z": x + 1}), y))
    batch = next(items.batches(two, batch_size=3))
    assert isinstance(batch.inputs, tuple) and torch.equal(batch.inputs[1]["z"], X[:3] + 1)


def test_a_random_order_is_refused():
    pair = TensorDataset(X, Y)
    for loader in (
        DataLoader(pair, shuffle=True),
        DataLoader(pair, sampler=SubsetRandomSampler(range(N))),
        DataLoader(pair, sampler=range(N - 1, -1, -1)),
        DataLoader(pair, batch_sampler=BatchSampler(RandomSampler(pair), 5, False)),
    ):
        with pytest.raises(ValueError, match="DataLoader that shuffles"):
            items.count(loader)
    with pytest.raises(ValueError, match="drop_last"):
        items.count(DataLoader(pair, batch_size=5, drop_last=True))
    with pytest.raises(ValueError, match="drop_last"):
        items.count(DataLoader(pair, batch_sampler=BatchSampler(SequentialSampler(pair), 5, True)))
    with pytest.raises(ValueError, match="no batch size"):
        items.count(DataLoader(pair, batch_size=None))
    with pytest.raises(ValueError, match="2 workers"):
        items.count(DataLoader(Stream(), num_workers=2))


class Restless(Items):
    """Something is random whenever a row is read."""

    def __init__(self, what: str) -> None:
        super().__init__(lambda x, y, row: (x, y))
        self.what = what

    def __getitem__(self, row: int):
        x, y = super().__getitem__(int(torch.randint(N, ())) if self.what == "order" else row)
        if self.what == "flip" and torch.rand(()) < 0.5:
            x = x.flip(2)
        return x + 0.01 * torch.randn(()) if self.what == "noise" else x, (
            y if self.what != "labels" else int(torch.randint(9, ()))
        )


@pytest.mark.parametrize("read", ["alone", "loader", "workers", "resumed"])
@pytest.mark.parametrize("what", ["order", "labels", "flip", "noise"])
def test_rows_that_are_others_when_read_again_are_noticed(what, read):
    dataset, settings = Restless(what), {}
    if read == "loader":
        dataset = DataLoader(dataset, batch_size=9)
    elif read == "workers":
        settings = {"workers": 1}
    elif read == "resumed":
        settings = {"start": 5}
    if what in ("order", "labels"):
        with pytest.raises(ValueError, match="dataset must keep its rows in place, got labels that differ"):
            list(items.batches(dataset, **settings))
    else:
        with pytest.warns(UserWarning, match="without random augmentation"):
            list(items.batches(dataset, **settings))


def padded(parts):
    """To the longest of the batch."""
    return torch.nn.utils.rnn.pad_sequence([part[0] for part in parts], batch_first=True), torch.tensor(
        [part[1] for part in parts]
    )


def test_rows_that_are_the_same_when_read_again_are_not(recwarn):
    rows = [(torch.full((3 + row % 11,), float(row)), row % 3) for row in range(N)]
    batches = items.batches(DataLoader(rows, batch_size=N, collate_fn=padded))
    assert next(batches).inputs.shape == (N, 13)

    class Together(Items):
        """Many rows are made by one product, whose rounding depends on how many they are."""

        def __getitems__(self, rows):
            return [(self.x[row] * (1 + 1e-6 * len(rows)), int(self.y[row])) for row in rows]

    assert sum(batch.size for batch in items.batches(Together(None), batch_size=16)) == N
    missing = [(torch.full((4,), torch.nan if row == 2 else 1.0), 0) for row in range(N)]
    assert sum(batch.size for batch in items.batches(missing)) == N  # another check names what is not finite
    assert [str(each.message) for each in recwarn] == []


def none_of_three(parts):
    return keep_two(parts[:3])


@pytest.mark.parametrize(
    ("dataset", "gave"),
    [
        (Stream(N - 1), f"only {N - 1}"),
        (Stream(N + 1), f"{N + 1} rows or more"),
        (DataLoader(TensorDataset(X, Y), batch_size=5, collate_fn=none_of_three), "only"),
    ],
)
def test_rows_that_are_missing_are_noticed(dataset, gave):
    with pytest.raises(ValueError, match=f"length of {N}, but gave {gave}"):
        list(items.batches(dataset))


@pytest.mark.parametrize(
    ("dataset", "keys", "error", "message"),
    [
        (3, None, TypeError, "dataset must be a torch Dataset or DataLoader, .* got int"),
        ("train", None, TypeError, "got str"),
        ([], None, ValueError, "must not be empty"),
        (X[:0], None, ValueError, "must not be empty"),
        ((X, Y[:-1]), None, ValueError, f"as many labels as inputs, got {N} and {N - 1}"),
        ((X, "no"), None, TypeError, "got str among them"),
        (Items(lambda x, y, row: {"a": x}), None, ValueError, "no input among the keys 'a'"),
        (Items(lambda x, y, row: {"a": x}), ("a", "b"), ValueError, "keys must be among 'a', got 'b'"),
        (Items(lambda x, y, row: (x, y)), ("a", "b"), TypeError, "need items that are dicts, got tuple"),
        (Items(lambda x, y, row: (x, y)), (0, 2), ValueError, "got 2 parts at row 0"),
        (Items(lambda x, y, row: (x, y)), "ab", ValueError, "must be a pair"),
        (Items(lambda x, y, row: (object(), y)), None, TypeError, "got object at row 0: give the data set"),
        (
            Items(lambda x, y, row: (x[:, : 6 - row // 9], y)),
            None,
            ValueError,
            "5, 6\\) at row 9: pad or crop",
        ),
        (Items(lambda x, y, row: (x, "cat" if row == 9 else y)), None, TypeError, "got .*cat.* at row 9"),
        (Items(lambda x, y, row: (x, y + (row == 9) / 2)), None, ValueError, "whole class numbers, .* row 9"),
        (Items(lambda x, y, row: (x, y) if row != 9 else x), None, ValueError, "row 9 has none"),
        ((X, torch.zeros(N, 5)), None, ValueError, "one class number a row, got shape \\(37, 5\\)"),
    ],
)
def test_what_is_not_understood_is_named(dataset, keys, error, message):
    with pytest.raises(error, match=message):
        list(items.batches(dataset, keys=keys, batch_size=256))


def test_a_data_set_without_length_is_named():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(TypeError, match="must have a length, got Endless"):
        items.count(Endless())


def test_reading_draws_no_random_numbers():
    before = torch.get_rng_state()
    list(items.batches(Items(lambda x, y, row: (x, y))))
    assert torch.equal(before, torch.get_rng_state())


def test_a_read_only_array_gives_no_warning(recwarn):
    array, labels = X.numpy().copy(), Y.numpy().copy()
    array.setflags(write=False)
    labels.setflags(write=False)
    list(items.batches((array, labels)))
    assert [str(each.message) for each in recwarn] == []
