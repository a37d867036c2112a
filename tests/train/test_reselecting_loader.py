"""The loader for a training loop of one's own: any data set, the rows that are due, and where it goes on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import fastcore
from fastcore.signals import DynamicsRecorder
from fastcore.train.reselection import ReselectingLoader

N, CLASSES = 90, 3
LABELS = torch.arange(N) % CLASSES
# Row i holds i, so that a batch shows whether inputs, labels and row numbers belong together.
INPUTS = torch.cat(
    [torch.arange(N).float()[:, None], torch.randn(N, 4, generator=torch.Generator().manual_seed(0))], 1
)


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, CLASSES))


class Pairs(Dataset):
    """Items (x, y), and a file name that no batch can hold."""

    def __len__(self):
        return N

    def __getitem__(self, row):
        return INPUTS[row].numpy(), int(LABELS[row]), f"{row}.png"


class Dicts(Pairs):
    def __getitem__(self, row):
        return {"picture": INPUTS[row], "kind": np.int64(LABELS[row]), "file": f"{row}.png"}


class Tokens(Pairs):
    def __getitem__(self, row):
        return {"input_ids": INPUTS[row], "attention_mask": torch.ones(5), "labels": int(LABELS[row])}


class Reads(nn.Module):
    """Takes the keywords of tokenised text."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, input_ids, attention_mask):
        return self.inner(input_ids * attention_mask)


DATASETS = {
    "tuples": (Pairs(), None),
    "dicts": (Dicts(), ("picture", "kind")),
    "tensors": (TensorDataset(INPUTS, LABELS), None),
    "columns": ((INPUTS, LABELS), None),
    "arrays": ((INPUTS.numpy(), LABELS.tolist()), None),
    "a list": ([(INPUTS[row], LABELS[row]) for row in range(N)], None),
}


def loader(dataset="tensors", method="margin", model=None, **settings):
    data, keys = DATASETS[dataset]
    settings = {"every": 2, "k": 12, "batch_size": 5, "keys": keys} | settings
    return ReselectingLoader(data, model or network(), method, **settings)


def check_rows(batches):
    """Row numbers of an epoch, after seeing that inputs, labels and rows belong together."""
    for index, inputs, labels, weights in batches:
        assert torch.equal(inputs, INPUTS[index]) and torch.equal(labels, LABELS[index])
        assert index.dtype == labels.dtype == torch.int64 and weights.dtype == torch.float32
        assert len(weights) == len(index)
    return torch.cat([batch.index for batch in batches]).tolist()


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_epoch_gives_every_chosen_row_once(dataset):
    batches = loader(dataset)
    seen = check_rows(list(batches))
    assert sorted(seen) == sorted(batches.selection.indices.tolist()) and len(seen) == 12


def test_nested_inputs_stay_nested():
    model = Reads()
    batches = ReselectingLoader(Tokens(), model, "margin", every=1, k=12, batch_size=5)
    for index, inputs, labels, _ in batches:
        assert set(inputs) == {"input_ids", "attention_mask"}
        assert torch.equal(inputs["input_ids"], INPUTS[index]) and torch.equal(labels, LABELS[index])
        assert model(**inputs).shape == (len(index), CLASSES)


def test_a_data_set_without_labels_has_none():
    batches = ReselectingLoader(INPUTS, network(), "margin", every=1, k=12)
    ((index, inputs, labels, weights),) = batches
    assert labels is None and torch.equal(inputs, INPUTS[index]) and not batches.selection.info["balanced"]


def test_it_selects_when_an_epoch_starts_that_is_due():
    model = network()
    batches = loader("columns", model=model, options={"ties": "row"}, warm_start=0.5, epochs=9)
    assert batches.warm_epochs == 2 and batches.selection is None
    for epoch in range(9):
        assert batches.epoch == epoch
        seen = check_rows(list(batches))
        if epoch < 2:
            assert sorted(seen) == list(range(N)) and batches.selection is None
            continue
        if (epoch - 2) % 2 == 0:
            expected = fastcore.select("margin", model=model, dataset=(INPUTS, LABELS), k=12, ties="row")
        assert batches.selection.indices.tolist() == expected.indices.tolist()
        assert sorted(seen) == sorted(expected.indices.tolist())
        with torch.no_grad():
            model[0].weight.normal_()
    assert batches.count == 4


def test_its_length_is_that_of_the_epoch_under_way_or_next():
    batches = loader(k=12, batch_size=5, warm_start=0.3, epochs=5)
    assert batches.warm_epochs == 1
    for epoch in range(3):
        expected = 18 if epoch == 0 else 3
        assert len(batches) == expected
        for _ in batches:
            pass
        assert len(batches) == 3
    iterator = iter(loader(k=12, batch_size=5))
    assert len(list(iterator)) == 3


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again = loader(seed=1), loader(seed=1)
    rounds = [check_rows(list(first)) for _ in range(4)]
    assert rounds[0] != rounds[1] and sorted(rounds[0]) == sorted(rounds[1])
    repeated = []
    for _ in range(4):
        torch.rand(7)
        repeated.append(check_rows(list(again)))
    assert repeated == rounds
    assert check_rows(list(loader(seed=2))) != rounds[0]


@pytest.mark.parametrize(
    ("k", "batch_size", "sizes"),
    [(11, 5, [5, 6]), (12, 5, [5, 5, 2]), (1, 5, [1]), (3, 1, [1, 1, 1]), (6, 6, [6])],
)
def test_a_last_batch_of_one_row_is_joined_to_the_one_before(k, batch_size, sizes):
    batches = loader(k=k, batch_size=batch_size)
    assert len(batches) == len(sizes)
    assert [len(batch.index) for batch in batches] == sizes


def test_weights_have_mean_1_over_the_rows_and_are_ones_without():
    weighted = loader(method="gradmatch", k=20, batch_size=7)
    batches = list(weighted)
    weights, index = (
        torch.cat([each.weights for each in batches]),
        torch.cat([each.index for each in batches]),
    )
    assert float(weights.mean()) == pytest.approx(1, abs=1e-6) and weights.std() > 0
    own = dict(zip(weighted.selection.indices.tolist(), weighted.selection.weights * 20, strict=True))
    expected = torch.tensor([own[row] for row in index.tolist()])
    assert torch.allclose(weights.double(), expected, atol=1e-6)
    assert all(bool((batch.weights == 1).all()) for batch in loader(method="margin"))


def test_selections_look_at_the_plain_rows_and_training_at_the_augmented():
    class Augmented(Pairs):
        def __getitem__(self, row):
            return torch.full((5,), 1000.0 + row), int(LABELS[row])

    model = network()
    batches = ReselectingLoader(Augmented(), model, "margin", every=1, k=12, plain=(INPUTS, LABELS), seed=4)
    ((index, inputs, labels, weights),) = batches
    expected = fastcore.select("margin", model=model, dataset=(INPUTS, LABELS), k=12)
    assert sorted(index.tolist()) == sorted(expected.indices.tolist())
    assert torch.equal(inputs[:, 0], 1000.0 + index)


def test_worker_processes_give_the_same_batches():
    alone, helped = (list(loader("tuples", workers=workers)) for workers in (0, 1))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_loop_that_records_selects_by_forgetting():
    recorder, model = DynamicsRecorder(N), network()
    batches = loader(method="forgetting", model=model, recorder=recorder, every=2)
    for _ in range(4):
        for index, inputs, labels, _ in batches:
            recorder.update(index, model(inputs), labels)
        recorder.end_epoch()
    seen = recorder.dynamics.seen[0].sum(1).tolist()
    assert seen == [N, 12, 12, N, 12, 12]
    assert batches.selection.info["method"] == "forgetting"


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
@pytest.mark.parametrize("midway", [False, True])
def test_a_state_goes_on_at_the_start_of_the_epoch(stop, midway):
    settings = {"method": "uniform", "warm_start": 0.3, "epochs": 5, "seed": 2}
    whole = loader(**settings)
    expected = [check_rows(list(whole)) for _ in range(5)]
    first = loader(**settings)
    for _ in range(stop):
        list(first)
    if midway:
        iterator = iter(first)
        next(iterator)
    second = loader(**settings)
    second.load_state_dict(first.state_dict())
    assert second.epoch == stop
    assert [check_rows(list(second)) for _ in range(stop, 5)] == expected[stop:]


def test_an_epoch_ends_with_its_last_batch_though_nobody_asks_for_more():
    batches, seen = loader(method="uniform", every=1), []
    for epoch in range(3):
        taken = list(itertools.islice(iter(batches), len(batches)))
        seen.append(sorted(check_rows(taken)))
        assert batches.epoch == epoch + 1 and batches.state_dict()["epoch"] == epoch + 1
    assert len({tuple(rows) for rows in seen}) == 3
    iterator = iter(batches)
    next(iterator)  # broken off: the next epoch is the next one
    assert batches.epoch == 3
    next(iter(batches))
    assert batches.epoch == 4


def test_an_iterator_that_is_not_used_is_no_epoch():
    batches = loader(method="uniform", every=1, warm_start=0.2, epochs=6)
    iter(batches)
    assert (batches.epoch, batches.count, len(batches)) == (0, 0, 18)
    assert len(check_rows(list(batches))) == N
    iter(batches)
    assert (batches.epoch, batches.count) == (1, 0)


def test_a_loop_with_it_learns(digits):
    features, labels = (torch.tensor(each) for each in digits)
    train, test = (features[:1200], labels[:1200]), (features[1200:], labels[1200:])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = ReselectingLoader(train, model, "gradmatch", fraction=0.1, every=5, batch_size=20)
    for _epoch in range(25):
        for _, inputs, targets, weights in batches:
            losses = functional.cross_entropy(model(inputs), targets, reduction="none")
            optimizer.zero_grad()
            (weights * losses).mean().backward()
            optimizer.step()
    assert batches.count == 5
    assert float((model(test[0]).argmax(1) == test[1]).float().mean()) > 0.8


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("dataset", "settings", "error", "words"),
    [
        (DataLoader(TensorDataset(INPUTS)), {}, TypeError, "dataset must have rows .* got DataLoader"),
        (Stream(), {}, TypeError, "dataset must have rows .* got Stream"),
        (
            (INPUTS, LABELS),
            {"batch_size": 0},
            ValueError,
            "batch_size must be an integer of at least 1, got 0",
        ),
        ((INPUTS, LABELS), {"workers": -1}, ValueError, "workers must be an integer of at least 0, got -1"),
        ((INPUTS, LABELS), {"plain": INPUTS[:9], "k": 3}, ValueError, "plain must have the 90 rows .* got 9"),
        ((INPUTS, LABELS), {"model": "resnet18"}, TypeError, "model must be a torch.nn.Module, got str"),
        ((INPUTS, LABELS), {"options": {"lam": 1}}, TypeError, "margin takes no lam=1"),
        ((INPUTS, LABELS), {"keys": "x"}, ValueError, "keys must be a pair"),
    ],
)
def test_wrong_arguments_are_named(dataset, settings, error, words):
    given = {"model": network(), "method": "margin", "every": 1, "k": 12} | settings
    with pytest.raises(error, match=words) as raised:
        ReselectingLoader(dataset, given.pop("model"), given.pop("method"), **given)
    assert "\n" not in str(raised.value)
