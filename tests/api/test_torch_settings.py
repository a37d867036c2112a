"""``select`` leaves the user's torch settings as they were, and none of them changes a pick."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import torch

import fastcore
from fastcore.greedy.distances import FeatureDistances
from fastcore.numerics import full_precision
from tests.api.material import COMPARING, METHODS, data_for, extra_for, select

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 3


@pytest.mark.parametrize("method", METHODS)
def test_torch_settings_of_the_user_change_no_pick_and_are_left_as_they_were(method):
    weights = "cluster" if method in COMPARING else None
    plain = select(method, X, 8, labels=Y, weights=weights)
    data, extra = data_for(method, None, X), extra_for(method, X, Y)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
            other = fastcore.select(method, data, 8, labels=Y, weights=weights, **extra)
            assert torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        assert torch.get_default_device().type == "meta"
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision(precision)
    assert other.indices.tolist() == plain.indices.tolist()
    if plain.weights is not None:
        assert other.weights.tolist() == plain.weights.tolist()
    if plain.gains is not None:
        assert other.gains.tolist() == plain.gains.tolist()


def test_convolutions_run_in_float32_and_the_users_setting_is_put_back():
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    with full_precision():
        assert conv.fp32_precision == "ieee"
    assert conv.fp32_precision == before != "ieee"


def precision_settings():
    """The settings of torch that a reader can see, with what the older getter says of them."""
    backends = torch.backends
    owners = backends, backends.cuda.matmul, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn
    owners += backends.mkldnn, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn
    seen = [owner.fp32_precision for owner in owners]
    for older in (torch.get_float32_matmul_precision, lambda: backends.cuda.matmul.allow_tf32):
        try:
            seen.append(older())
        except RuntimeError:
            seen.append("refused")  # older and newer settings contradict each other
    return seen


@pytest.fixture
def fresh_precision():
    """Calls set torch back to how it starts; so does the end of the test."""

    def reset():
        backends = torch.backends
        torch.set_float32_matmul_precision("highest")
        backends.fp32_precision = backends.cudnn.fp32_precision = "none"
        for owner in (backends.cuda, backends.mkldnn):
            owner.matmul.fp32_precision = "none"
        for name in ("conv", "rnn"):
            getattr(backends.mkldnn, name).fp32_precision = "none"
            getattr(backends.cudnn, name).fp32_precision = "tf32"

    yield reset
    reset()


@pytest.mark.parametrize(
    "settings",
    [
        {"older": "high"},
        {"cuda.matmul": "tf32"},
        {"mkldnn.matmul": "bf16"},
        {"mkldnn.conv": "bf16", "cudnn.rnn": "ieee"},
        {"": "tf32"},
        {"": "tf32", "cuda.matmul": "ieee"},
        {"": "ieee", "cuda.matmul": "tf32"},
        {"older": "medium", "cuda.matmul": "ieee"},
        {"cuda.matmul": "tf32", "older": "high"},
        {"": "tf32", "older": "highest"},
    ],
    ids=str,
)
def test_whatever_precision_was_set_picks_are_the_same_and_it_is_put_back(settings, fresh_precision):
    """Also what follows a setting of all backends still follows it."""

    def say():
        fresh_precision()
        for name, value in settings.items():
            if name == "older":
                torch.set_float32_matmul_precision(value)
            else:
                owner = operator.attrgetter(name)(torch.backends) if name else torch.backends
                owner.fp32_precision = value

    def and_later():
        torch.backends.fp32_precision = "none"
        return precision_settings()

    expected = fastcore.select("facility_location", X, 5).indices.tolist()
    say()
    before, later = precision_settings(), and_later()
    say()
    assert fastcore.select("facility_location", X, 5).indices.tolist() == expected
    assert precision_settings() == before
    with full_precision():
        backends = torch.backends
        inside = backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv
        assert [owner.fp32_precision for owner in inside] == ["ieee"] * 4
        assert torch.get_float32_matmul_precision() == "highest" and not backends.cuda.matmul.allow_tf32
    assert precision_settings() == before
    assert and_later() == later


@pytest.mark.parametrize("warn", [False, True])
def test_operations_without_a_deterministic_form_may_be_used(warn, monkeypatch):
    """On a GPU, cumsum and kthvalue refuse to run for a user who asked for deterministic algorithms."""
    seen = []
    fold = FeatureDistances.fold
    monkeypatch.setattr(
        FeatureDistances,
        "fold",
        lambda self, new: seen.append(torch.are_deterministic_algorithms_enabled()) or fold(self, new),
    )
    torch.use_deterministic_algorithms(True, warn_only=warn)
    try:
        chosen = fastcore.select("k_center", X, 8)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen and not any(seen)
    assert chosen.indices.tolist() == fastcore.select("k_center", X, 8).indices.tolist()
