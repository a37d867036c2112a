"""Selection while training: when rows are chosen, by what, and that nothing else changes."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import fastcore
from fastcore.registry import get_method
from fastcore.signals import DynamicsRecorder
from fastcore.train import TrainConfig, fit
from fastcore.train.reselection import Reselection, warm_epochs
from tests.train.bars import CLASSES, N, images, network, rows_by_epoch


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")


def options(method):
    return {"split": 0.2} if method == "glister" else {}


# The rule of the warm start


@pytest.mark.parametrize("kappa", [0.1, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("k", [1, 10, 100, 500, 1000])
@pytest.mark.parametrize("epochs", [2, 10, 200])
def test_a_warm_start_is_the_fewest_epochs_that_are_the_share_of_the_cost(kappa, k, epochs):
    n = 1000

    def share(w):
        return Fraction(w * n, w * n + (epochs - w) * k)

    enough = (w for w in range(epochs) if share(w) >= Fraction(str(kappa)))
    assert warm_epochs(epochs, k / n, kappa) == next(enough, epochs - 1)


def test_a_warm_start_is_the_rule_of_cords_for_the_epochs_that_are_trained():
    planned, kappa, fraction = 300, 0.5, 0.1
    on_all, on_subset = kappa * planned * fraction, (1 - kappa) * planned
    assert warm_epochs(int(on_all + on_subset), fraction, kappa) == on_all == 15


@pytest.mark.parametrize(("epochs", "kappa", "expected"), [(10, 0.0, 0), (1, 0.5, 0), (2, 0.99, 1)])
def test_a_warm_start_leaves_an_epoch_for_the_subset(epochs, kappa, expected):
    assert warm_epochs(epochs, 0.5, kappa) == expected


# When, and by what


def test_rows_change_after_the_warm_start_and_then_every_few_epochs():
    chooser = Reselection("uniform", images(), k=30, every=3, warm_start=0.5, epochs=10)
    assert chooser.warm_epochs == 2
    given = [chooser.choose(epoch, network()) for epoch in range(10)]
    assert [rows is not None for rows in given] == [epoch in (0, 2, 5, 8) for epoch in range(10)]
    assert given[0].indices.tolist() == list(range(N)) and given[0].weights is None
    assert [len(given[epoch]) for epoch in (2, 5, 8)] == [30, 30, 30]
    assert chooser.count == 3 and chooser.seconds > 0
    assert chooser.selection.indices.tolist() == given[8].indices.tolist()
    assert chooser.selection.info["balanced"]


def test_each_selection_has_a_seed_of_its_own_made_of_the_seed():
    first, again, other = (
        rows_by_epoch(Reselection("uniform", images(), k=30, every=1, seed=seed), 4, network())
        for seed in (0, 0, 1)
    )
    assert first == again
    assert len({tuple(rows) for rows in [*first, *other]}) == 8


@pytest.mark.parametrize("method", ["margin", "graph_cut", "k_center", "grand", "gradmatch"])
def test_the_network_as_it_stands_selects(method):
    data, model = images(), network()
    extra = {"start": "mean"} if method == "k_center" else {}
    chooser = Reselection(method, data, k=12, every=2, options=extra)
    before, kept = chooser.choose(0, model), chooser.choose(1, model)
    expected = fastcore.select(method, model=model, dataset=data, k=12, **extra)
    assert before.indices.tolist() == expected.indices.tolist() and kept is None
    nn.init.normal_(model[1].weight)
    nn.init.normal_(model[-1].weight)
    after = chooser.choose(2, model)
    expected = fastcore.select(method, model=model, dataset=data, k=12, **extra)
    assert after.indices.tolist() == expected.indices.tolist() != before.indices.tolist()


def test_labels_and_balance_are_those_of_select():
    data, labels = images(), np.arange(N) % 2
    (whole,) = rows_by_epoch(Reselection("uniform", data, k=30, every=1, balance=False), 1, network())
    (halves,) = rows_by_epoch(Reselection("uniform", data, k=30, every=1, labels=labels), 1, network())
    (classes,) = rows_by_epoch(Reselection("uniform", data, k=30, every=1), 1, network())
    plain = torch.utils.data.TensorDataset(torch.rand(N, 5), data.labels)
    (read,) = rows_by_epoch(Reselection("uniform", plain, k=30, every=1), 1, network())
    assert np.bincount(labels[halves]).tolist() == [15, 15]
    assert np.bincount(data.labels[classes]).tolist() == [10, 10, 10] and read == classes
    assert np.bincount(data.labels[whole]).tolist() != [10, 10, 10]


def test_weights_have_mean_1_and_the_proportions_of_the_method():
    chooser = Reselection("craig", images(), k=30, every=1)
    weights = chooser.choose(0, network()).weights
    assert weights.dtype == torch.float32 and float(weights.mean()) == pytest.approx(1)
    counts = torch.from_numpy(chooser.selection.weights)
    assert counts.sum() == N and torch.allclose(weights.double(), counts * 30 / N)
    assert Reselection("uniform", images(), k=30, every=1).choose(0, network()).weights is None


def test_validation_rows_and_a_split_reach_the_method():
    data, held_out, model = images(), images(60, seed=1), network()
    chooser = Reselection("glister", data, k=12, every=1, validation=held_out)
    expected = fastcore.select("glister", model=model, dataset=data, k=12, validation=held_out)
    assert chooser.choose(0, model).indices.tolist() == expected.indices.tolist()
    assert chooser.selection.info["validation"] == 60
    chooser = Reselection("glister", data, k=12, every=1, options={"split": 0.5, "batch_size": 7})
    assert len(chooser.choose(0, model)) == 12 and chooser.selection.info["options"]["split"] == 0.5


# The record of training


class Flipping(nn.Module):
    """Right about every row, which says its number and label, but for those that are named."""

    def __init__(self):
        super().__init__()
        self.wrong: set[int] = set()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        row, label = x[:, 0].long(), x[:, 1].long()
        is_wrong = torch.tensor([int(each) in self.wrong for each in row])
        return functional.one_hot(torch.where(is_wrong, (label + 1) % CLASSES, label), CLASSES).float()


@pytest.mark.parametrize("kept", [True, False])
def test_a_record_sees_the_rows_outside_the_subset(kept):
    labels = torch.arange(N) % CLASSES
    data = torch.utils.data.TensorDataset(torch.stack([torch.arange(N), labels], 1).float(), labels)
    recorder = DynamicsRecorder(N) if kept else None
    model = Flipping()
    chooser = Reselection("forgetting", data, k=3, every=1)
    rows_by_epoch(chooser, 1, model, recorder)
    model.wrong = {10, 20, 30}  # none of them need have been trained on: they are forgotten all the same
    rows = chooser.choose(1, model, recorder)
    assert sorted(rows.indices.tolist()) == [10, 20, 30]
    assert chooser.selection.scores[[10, 11]].tolist() == [1, 0]
    if recorder is not None:
        assert recorder.epochs == 2 and bool(recorder.dynamics.seen.all())


def test_the_record_of_fit_goes_into_the_selection_and_gets_the_passes():
    data, model = images(), network()
    chooser = Reselection("forgetting", data, k=30, every=2, warm_start=0.5, epochs=8)
    result = fit(
        model, data, TrainConfig(epochs=8, batch_size=16, augment=False), subset=chooser, record=True
    )
    warm = chooser.warm_epochs
    assert warm == 2 and chooser.count == 3
    seen = result.dynamics.seen[0].sum(1).tolist()
    passes = [N if epoch == 0 else 30 for pair in range(3) for epoch in range(3)]
    assert seen == [N, N, *passes]


# Nothing else changes


@pytest.mark.parametrize("method", fastcore.list_methods())
def test_the_network_and_random_numbers_are_left_as_they_were(method):
    data, model = images(), network()
    model[4].eval()  # modes that differ, as in fine-tuning
    functional.cross_entropy(model(data.normalised(data.images)), data.labels).backward()
    model[1].weight.requires_grad_(False)

    def state():
        parts = {name: value.clone() for name, value in model.state_dict().items()}
        parts |= {f"{name} grad": p.grad.clone() for name, p in model.named_parameters()}
        flags = [each.training for each in model.modules()] + [p.requires_grad for p in model.parameters()]
        flags += [len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules()]
        numbers = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
        return parts, flags, torch.are_deterministic_algorithms_enabled(), numbers

    torch.use_deterministic_algorithms(True)
    try:
        before = state()
        chooser = Reselection(method, data, fraction=0.1, every=1, options=options(method))
        for epoch in range(2):
            chooser.choose(epoch, model)
        after = state()
    finally:
        torch.use_deterministic_algorithms(False)
    assert chooser.count == 2 and len(chooser.selection) == 12
    assert before[1:3] == after[1:3]
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert torch.equal(before[3][0], after[3][0])
    assert (before[3][1] == after[3][1]).all() and before[3][2] == after[3][2]


def test_random_transforms_draw_from_the_seed_of_the_selection():
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return N

        def __getitem__(self, row):
            return torch.rand(36) + np.float32(np.random.rand() + random.random()), row % CLASSES

    chosen, model = [], network()
    for seed in (0, 0, 1):
        chooser = Reselection("k_center", Noisy(), k=12, every=1, seed=seed, options={"start": "mean"})
        before = torch.get_rng_state()
        chosen.append(chooser.choose(0, model).indices.tolist())
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)  # what training draws in between makes no difference
    assert chosen[0] == chosen[1] != chosen[2]


def test_the_cost_of_a_training_is_what_the_warm_start_says():
    chooser = Reselection("margin", images(), k=12, every=2, warm_start=0.5, epochs=20)
    result = fit(network(), images(), TrainConfig(epochs=20, batch_size=16, augment=False), subset=chooser)
    warm = chooser.warm_epochs
    assert result.rows == warm * N + (20 - warm) * 12
    assert 0.5 <= warm * N / result.rows < 0.6
    assert 0 < chooser.seconds <= result.selection_seconds


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"method": "gradmach"}, ValueError, "did you mean 'gradmatch'"),
        ({"every": 0}, ValueError, "every must be an integer of at least 1, got 0"),
        ({"every": True}, TypeError, "every must be an integer, got True"),
        ({"k": None}, ValueError, "exactly one of k and fraction"),
        ({"k": N + 1}, ValueError, "k must be between 1 and 120"),
        ({"warm_start": 1.0, "epochs": 5}, ValueError, r"warm_start must be in \[0, 1\), got 1.0"),
        ({"warm_start": 0.5}, ValueError, "warm_start needs the epochs"),
        ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1, got 0"),
        ({"options": {"lamb": 1}}, TypeError, "margin takes no lamb=1; it takes keep, ties"),
        ({"options": {"metric": "cosine"}}, TypeError, "margin takes no metric='cosine'"),
        ({"options": {"seed": 1}}, TypeError, "margin takes no seed=1"),
        ({"method": "glister"}, ValueError, "glister needs validation=, or options with .* split=0.1"),
        ({"method": "el2n", "options": {"epoch": 3}}, ValueError, "epoch must be None, got 3"),
        ({"validation": images(30)}, ValueError, "margin takes no validation rows, got validation=ImageSet"),
        ({"labels": [0, 1]}, ValueError, "labels"),
        ({"balance": "yes"}, ValueError, "balance must be one of None, True, False, got 'yes'"),
        ({"dataset": []}, ValueError, "dataset must not be empty"),
    ],
)
def test_wrong_arguments_are_named_before_training(arguments, error, words):
    given = {"method": "margin", "dataset": images(), "k": 12, "every": 1} | arguments
    with pytest.raises(error, match=words) as raised:
        Reselection(given.pop("method"), given.pop("dataset"), **given)
    assert "\n" not in str(raised.value)


def test_an_epoch_before_the_last_one_is_refused():
    chooser = Reselection("uniform", images(), k=12, every=1)
    chooser.choose(3, network())
    with pytest.raises(ValueError, match="epoch must be at least 3, got 2"):
        chooser.choose(2, network())


@pytest.mark.parametrize("method", fastcore.list_methods())
def test_the_options_of_every_method_are_taken(method):
    chosen = get_method(method)
    defaults = chosen.options | chosen.signal_options | options(method)
    Reselection(method, images(), k=12, every=1, options=defaults)
