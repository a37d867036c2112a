"""From a network and a data set: the same picks as from its outputs, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import fastcore
from fastcore import registry
from fastcore.signals import Dynamics, DynamicsRecorder, Signals

RNG = np.random.default_rng(5)
N, CLASSES = 90, 4
X = torch.from_numpy(RNG.normal(size=(N, 6)).astype(np.float32))
Y = torch.from_numpy(RNG.integers(0, CLASSES, N))
DATA = TensorDataset(X, Y)
HELD_OUT = TensorDataset(X[:40] * 0.8 + 0.1, Y[:40])


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, CLASSES)
    )


def outputs(model, x=X):
    """Embeddings and logits of a network in eval mode."""
    model.eval()
    with torch.no_grad():
        h = model[:-1](x)
        return h, model[-1](h)


class Restless(torch.utils.data.Dataset):
    """Rows in another order at every reading."""

    def __len__(self):
        return N

    def __getitem__(self, row):
        return DATA[int(torch.randint(N, ()))]


MODEL = network().train()
H, Z = outputs(network())
P = Z.double().softmax(1)
DELTA = P - nn.functional.one_hot(Y, CLASSES)
GRADIENTS = fastcore.LastLayerGradients(DELTA, H)
BY_HAND = {
    "herding": H,
    "k_center": H,
    "facility_location": GRADIENTS,
    "graph_cut": GRADIENTS,
    "log_det": GRADIENTS,
    "craig": GRADIENTS,
    "gradmatch": GRADIENTS,
    "contextual_diversity": P,
    "least_confidence": P,
    "entropy": P,
    "margin": P,
    "el2n": DELTA.norm(dim=1),
    "grand": DELTA.norm(dim=1) * (1 + H.double().square().sum(1)).sqrt(),
    "cal": Signals(embeddings=H, logits=Z),
    "uniform": X,
}


@pytest.mark.parametrize("balance", [None, False])
@pytest.mark.parametrize("name", BY_HAND)
def test_a_model_gives_the_picks_of_its_outputs(name, balance):
    found = fastcore.select(name, model=MODEL, dataset=DATA, k=12, balance=balance, batch_size=17)
    expected = fastcore.select(name, BY_HAND[name], 12, labels=Y, balance=balance)
    assert found.indices.tolist() == expected.indices.tolist()
    assert found.info["balanced"] == (balance is None) and found.info["n"] == N
    if expected.weights is not None:
        np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-4)
    if expected.scores is not None:
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-7)
    assert MODEL.training and MODEL[1].num_batches_tracked == 0


def test_glister_takes_a_validation_set():
    h, z = outputs(network(), HELD_OUT.tensors[0])
    held_out = Signals(embeddings=h, logits=z, labels=HELD_OUT.tensors[1])
    for balance in (None, False):
        found = fastcore.select(
            "glister", model=MODEL, dataset=DATA, validation=HELD_OUT, k=12, balance=balance
        )
        given = GRADIENTS, {"validation": held_out, "labels": Y, "balance": balance}
        expected = fastcore.select("glister", given[0], 12, **given[1])
        assert found.indices.tolist() == expected.indices.tolist()
        assert found.info["validation"] == 40
    pair = fastcore.select("glister", GRADIENTS, 12, labels=Y, validation=(held_out.gradients, Y[:40]))
    assert (
        pair.indices.tolist()
        == fastcore.select("glister", GRADIENTS, 12, labels=Y, validation=held_out).indices.tolist()
    )


def test_signals_do_for_every_method_and_are_compared_as_the_method_says():
    signals = Signals(embeddings=H, logits=Z, labels=Y)
    for name, data in BY_HAND.items():
        if name != "uniform":
            expected = fastcore.select(name, data, 12, labels=Y).indices.tolist()
            assert fastcore.select(name, signals, 12).indices.tolist() == expected, name
    for name, data in (("facility_location", H), ("k_center", GRADIENTS)):
        signal = "embeddings" if data is H else "gradients"
        found = fastcore.select(name, signals, 12, signal=signal)
        assert found.indices.tolist() == fastcore.select(name, data, 12, labels=Y).indices.tolist()
        assert found.info["signal"] == signal
        again = fastcore.select(name, model=MODEL, dataset=DATA, k=12, signal=signal)
        assert again.indices.tolist() == found.indices.tolist()


def test_a_data_set_without_labels_is_one_ground_set_of_embeddings():
    found = fastcore.select("facility_location", model=MODEL, dataset=X, k=10)
    assert found.indices.tolist() == fastcore.select("facility_location", H, 10).indices.tolist()
    assert not found.info["balanced"] and found.info["signal"] == "embeddings"
    with pytest.raises(ValueError, match="labels"):
        fastcore.select("craig", model=MODEL, dataset=X, k=10, signal="gradients")
    with pytest.raises((TypeError, ValueError), match="labels"):
        fastcore.select("gradmatch", model=MODEL, dataset=X, k=10)


class Unlinear(nn.Module):
    """Logits of no linear layer, which have no embeddings; counts the rows that run through it."""

    def __init__(self):
        super().__init__()
        self.conv, self.rows = nn.Conv1d(1, CLASSES, 6), 0

    def forward(self, x):
        self.rows += len(x)
        return self.conv(x[:, None])[:, :, 0]


@pytest.mark.parametrize(
    ("method", "passes"),
    [("uniform", 0), *((name, 1) for name in ("contextual_diversity", "el2n", "entropy", "margin"))],
)
def test_no_more_is_computed_than_the_method_needs(method, passes):
    model = Unlinear()
    fastcore.select(method, model=model, dataset=DATA, k=9, batch_size=40)
    assert model.rows == passes * N
    with pytest.raises(ValueError, match="Unlinear has no linear layer whose output is the logits"):
        fastcore.select("k_center", model=model, dataset=DATA, k=9)


def test_runs_are_averaged():
    models = [network(seed) for seed in range(3)]
    norms = []
    for model in models:
        h, z = outputs(model)
        delta = z.double().softmax(1) - nn.functional.one_hot(Y, CLASSES)
        norms.append((delta.norm(dim=1), delta.norm(dim=1) * (1 + h.double().square().sum(1)).sqrt()))
    for place, name in enumerate(("el2n", "grand")):
        found = fastcore.select(name, model=models, dataset=DATA, k=10)
        np.testing.assert_allclose(
            found.scores, torch.stack([each[place] for each in norms]).mean(0), rtol=1e-5
        )
    with pytest.raises(ValueError, match="k_center takes one model, got a list of 3"):
        fastcore.select("k_center", model=models, dataset=DATA, k=10)


def test_grand_over_all_layers_is_not_that_of_the_last():
    last = fastcore.select("grand", model=MODEL, dataset=DATA, k=10)
    every = fastcore.select("grand", model=MODEL, dataset=DATA, k=10, layers="all")
    assert (every.scores > last.scores * (1 - 1e-6)).all() and not np.allclose(every.scores, last.scores)
    assert every.info["options"]["layers"] == "all"


def test_deepfool_of_a_linear_network_is_the_distance_to_the_nearest_hyperplane():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, CLASSES))
    weight, z = model[1].weight.detach().double(), model(X).detach().double()
    own = z.argmax(1)
    gap = (z.gather(1, own[:, None]) - z).scatter(1, own[:, None], torch.inf)
    slopes = torch.cdist(weight, weight)[own]
    expected = (gap / slopes).nan_to_num(nan=torch.inf).amin(1)
    found = fastcore.select("deepfool", model=model, dataset=DATA, k=9, balance=False)
    np.testing.assert_allclose(found.scores, expected, rtol=0.03)
    assert found.scores[found.indices].tolist() == sorted(found.scores)[:9]


@pytest.mark.parametrize(("method", "options"), [("grand", {"layers": "all"}), ("deepfool", {})])
def test_workers_load_the_rows_of_every_measure(method, options, monkeypatch):
    asked, plain = [], torch.utils.data.DataLoader.__init__

    def loader(self, *arguments, **settings):
        asked.append(settings["num_workers"])
        plain(self, *arguments, **settings)

    monkeypatch.setattr("fastcore.signals.items.DataLoader.__init__", loader)
    found = fastcore.select(method, model=MODEL, dataset=[*DATA], k=9, workers=1, labels=Y, **options)
    plainly = fastcore.select(method, model=MODEL, dataset=DATA, k=9, **options)
    assert asked == [1] and found.indices.tolist() == plainly.indices.tolist()


def test_a_record_of_training_feeds_forgetting_and_el2n():
    recorder = DynamicsRecorder(N)
    for epoch in range(4):
        for rows in torch.arange(N).split(25):
            recorder.update(rows, torch.roll(Z, epoch, 1)[rows], Y[rows])
        recorder.end_epoch()
    dynamics = recorder.dynamics
    assert isinstance(dynamics, Dynamics)
    forgotten = fastcore.select("forgetting", dynamics, 20, ties="row")
    right = torch.stack([torch.roll(Z, epoch, 1).argmax(1) == Y for epoch in range(4)])
    events = (right[:-1] & ~right[1:]).sum(0).double().masked_fill(~right.any(0), torch.inf)
    assert forgotten.scores.tolist() == events.tolist()
    scores = fastcore.select("el2n", dynamics, 20, epoch=0).scores
    np.testing.assert_allclose(scores, BY_HAND["el2n"], rtol=1e-5)
    with pytest.raises(TypeError, match="entropy needs probabilities"):
        fastcore.select("entropy", dynamics, 20)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("gradmatch", {"data": X}, "gradmatch needs LastLayerGradients"),
        ("cal", {"data": X}, "cal needs Signals"),
        ("entropy", {"data": Z}, "data must hold probabilities"),
        ("entropy", {"data": GRADIENTS}, "entropy needs probabilities"),
        ("forgetting", {"data": X}, "forgetting needs the dynamics of a DynamicsRecorder"),
        ("forgetting", {"model": MODEL, "dataset": DATA}, "forgetting needs a record of training"),
        ("grand", {"data": X}, r"data must have shape \(rows,\)"),
        ("grand", {"data": GRADIENTS, "layers": "all"}, "layers='all' needs model="),
        ("deepfool", {"data": X[:, 0], "candidates": 3}, "candidates says how norms are measured"),
        ("el2n", {"data": GRADIENTS, "epoch": 2}, "epoch belongs to dynamics"),
        ("k_center", {"data": X, "batch_size": 3}, "batch_size belongs to model="),
        ("k_center", {"data": X, "dataset": DATA}, "dataset belongs to model="),
        ("k_center", {"data": X, "dataset": DATA, "model": MODEL}, "give one of them"),
        ("k_center", {"model": MODEL}, "model needs a data set"),
        ("k_center", {"model": "resnet18", "dataset": DATA}, "model must be a torch.nn.Module"),
        ("k_center", {"model": [], "dataset": DATA}, "model must be a torch.nn.Module"),
        ("k_center", {"data": X, "signal": "gradients"}, "signal='gradients'"),
        ("k_center", {"data": X, "validation": GRADIENTS}, "k_center takes no validation rows"),
        (
            "deepfool",
            {"model": MODEL, "dataset": DATA, "amp": torch.bfloat16},
            "amp says how outputs of the model are collected.*got amp=torch.bfloat16",
        ),
        (
            "grand",
            {"model": MODEL, "dataset": DATA, "layers": "all", "layer": "0"},
            "layer says how outputs of the model are collected.*got layer='0'",
        ),
        *(
            (name, {"data": GRADIENTS, "validation": fastcore.LastLayerGradients(delta, h)}, message)
            for name in ("glister", "gradmatch")
            for delta, h, message in (
                (
                    DELTA[:, :3],
                    H,
                    f"validation gradients must be of {CLASSES} classes.*got 3 and {H.shape[1]}",
                ),
                (
                    DELTA,
                    H[:, :2],
                    f"of {CLASSES} classes and width {H.shape[1]} like data, got {CLASSES} and 2",
                ),
            )
        ),
        ("entropy", {"model": MODEL, "dataset": Restless()}, "dataset must keep its rows in place"),
        ("deepfool", {"model": MODEL, "dataset": Restless()}, "dataset must keep its rows in place"),
        (
            "grand",
            {"model": MODEL, "dataset": Restless(), "layers": "all"},
            "dataset must keep its rows in place",
        ),
        ("glister", {"data": GRADIENTS, "validation": X}, "validation must be LastLayerGradients"),
        (
            "glister",
            {"data": GRADIENTS, "labels": Y, "validation": GRADIENTS},
            "validation needs labels in a balanced selection",
        ),
        (
            "glister",
            {"data": GRADIENTS, "labels": Y, "validation": (GRADIENTS, Y + 7)},
            "validation labels must be classes of the data, got 7",
        ),
        ("entropy", {"data": P, "weights": "cluster"}, "entropy compares no rows"),
        ("entropy", {"data": P, "metric": "cosine"}, "entropy compares no rows"),
        ("entropy", {"data": P, "keep": "best"}, "keep must be one of 'hard', 'easy', 'middle'"),
        ("entropy", {"data": P, "preselected": X}, "preselected must be row numbers for entropy"),
        (
            "cal",
            {"data": Signals(embeddings=X, logits=Z), "preselected": X},
            "preselected must be row numbers for cal",
        ),
        ("k_center", {"data": X, "preselected": GRADIENTS}, "preselected must be row numbers or features"),
        (
            "contextual_diversity",
            {"data": P, "preselected": GRADIENTS},
            "preselected must be row numbers or probabilities like data, got LastLayerGradients",
        ),
        (
            "contextual_diversity",
            {"data": P, "preselected": P[:, :2] / P[:, :2].sum(1, keepdim=True)},
            "preselected probabilities must have 4 columns like data, got 2",
        ),
        ("contextual_diversity", {"data": P, "preselected": 2 * P}, "preselected must hold probabilities"),
        (
            "contextual_diversity",
            {"data": P, "labels": Y, "preselected": P},
            "preselected probabilities need one ground set",
        ),
        (
            "craig",
            {"data": GRADIENTS, "preselected": X},
            "preselected must be row numbers or LastLayerGradients",
        ),
        ("herding", {"data": GRADIENTS}, "herding follows the mean of features"),
    ],
)
def test_errors(name, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fastcore.select(name, k=5, **arguments)


def test_classes_that_the_network_does_not_have_are_named():
    with pytest.raises(ValueError, match=r"labels must be between 0 and 3.*got 9 at row 2"):
        Signals(logits=Z[:3], labels=torch.tensor([0, 1, 9]))
    with pytest.raises(ValueError, match=r"logits must be finite in float32, got nan at row 1, column 0"):
        Signals(logits=torch.tensor([[0.0, 1.0], [torch.nan, 1.0]]))
    with pytest.raises(ValueError, match="same number of rows"):
        Signals(logits=Z, labels=Y[:5])
    with pytest.raises(ValueError, match="delta and h must have the same number of rows"):
        fastcore.LastLayerGradients(DELTA, H[:5])


def test_an_unknown_need_is_an_error():
    with pytest.raises(ValueError, match="needs of odd must be one of"):
        registry.method("odd", needs=("horoscope",))
