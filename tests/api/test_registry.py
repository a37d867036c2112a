"""The registry: methods find themselves, and every wrong name or option is answered with the right one."""

from __future__ import annotations

import pkgutil
import sys
import textwrap

import numpy as np
import pytest

import fastcore
import fastcore.methods
from fastcore import registry

X = np.random.default_rng(0).normal(size=(12, 3))


@pytest.fixture
def scratch(monkeypatch):
    """A registry whose changes last for one test."""
    fastcore.list_methods()
    monkeypatch.setattr(registry, "_methods", dict(registry._methods))


def test_every_module_of_methods_is_one_method():
    files = {module.name for module in pkgutil.iter_modules(fastcore.methods.__path__)}
    assert fastcore.list_methods() == sorted(name for name in files if not name.startswith("_"))
    assert {"uniform", "herding", "k_center", "facility_location", "graph_cut", "log_det"} <= files


@pytest.mark.parametrize("name", fastcore.list_methods())
def test_every_method_says_what_it_is(name):
    method = fastcore.get_method(name)
    assert method.name == name
    assert method.summary.endswith(".") and len(method.summary.split()) > 4
    assert method.cost and (method.paper or name == "uniform")
    assert set(method.needs) <= set(registry.NEEDS) and method.order in ("greedy", "score", "random")
    assert (method.hard in ("high", "low")) == (method.order == "score")
    assert set(method.metrics) <= {"cosine", "dot", "euclidean", "rbf", "precomputed"}
    assert "context" not in method.options


# What a user gets who names no option: the settings of the papers, not those of published code.
SUBMODULAR = {"optimizer": "lazy", "epsilon": None, "beta": None}
SCORE = {"keep": "hard", "ties": "random"}
DEFAULTS = {
    "cal": {"neighbours": 10, **SCORE},
    "contextual_diversity": {"start": "random", "stop_at": None},
    "craig": {"metric": "euclidean", "stop_at": None},
    "deepfool": {"candidates": 10, "overshoot": 0.02, "iterations": 50, **SCORE},
    "el2n": {"epoch": None, **SCORE},
    "entropy": SCORE,
    "facility_location": {"metric": "cosine", "stop_at": None, **SUBMODULAR},
    "forgetting": SCORE,
    "glister": {"eta": 0.1, "refresh": 1, "split": None},
    "gradmatch": {"lam": 1e-3, "stop_at": None},
    "grand": {"layers": "last", **SCORE},
    "graph_cut": {"metric": "cosine", "lam": 1.0, **SUBMODULAR},
    "herding": {"metric": "euclidean"},
    "k_center": {"metric": "euclidean", "start": "random", "stop_at": None},
    "least_confidence": SCORE,
    "log_det": {"metric": "cosine", "ridge": None, **SUBMODULAR},
    "margin": SCORE,
    "uniform": {"metric": "euclidean"},
}
WEIGHTED = {"craig": "cluster", "gradmatch": "own"}
BY_GRADIENTS = {"craig", "facility_location", "graph_cut", "log_det"}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_definitions(name):
    method = fastcore.get_method(name)
    metric = {"metric": method.metrics[0]} if method.metrics else {}
    assert {**metric, **method.options, **method.signal_options} == DEFAULTS[name]
    assert method.weights == WEIGHTED.get(name, "none")
    assert method.signal == ("gradients" if name in BY_GRADIENTS else "embeddings")
    assert method.hard == {"score": "low" if name == "deepfool" else "high"}.get(method.order)


def test_a_new_method_is_one_file_and_nothing_else(scratch, tmp_path, monkeypatch):
    (tmp_path / "first_rows.py").write_text(
        textwrap.dedent('''
        """The first rows."""
        import torch
        from fastcore.greedy.picks import Picks
        from fastcore.registry import method

        @method("first_rows", metrics=("euclidean",), cost="k")
        def first_rows(view, partition, *, step=1, context):
            """The first rows of the data, every so many of them."""
            k = int(partition.budgets[0])
            gains = torch.full((1, k), float(context.seed), dtype=torch.float64)
            return Picks(torch.arange(k)[None] * step, gains)
        ''')
    )
    monkeypatch.setattr(fastcore.methods, "__path__", [*fastcore.methods.__path__, str(tmp_path)])
    try:
        assert "first_rows" in fastcore.list_methods()
        selection = fastcore.select("first_rows", X, 3, step=2, seed=7)
        assert selection.indices.tolist() == [0, 2, 4]
        assert selection.gains.tolist() == [7.0] * 3
        assert selection.info["options"] == {"step": 2}
        with pytest.raises(TypeError, match=r"first_rows does not take stepp=2; its options are step"):
            fastcore.select("first_rows", X, 3, stepp=2)
    finally:
        sys.modules.pop("fastcore.methods.first_rows", None)


def test_a_name_can_be_taken_once(scratch):
    fastcore.method("twice")(lambda view, partition, *, context: None)
    with pytest.raises(ValueError, match="method 'twice' is registered already, by .*test_registry"):
        fastcore.method("twice")(lambda view, partition, *, context: None)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("unifrom", ValueError, "unknown method 'unifrom': did you mean 'uniform'?"),
        ("k-center", ValueError, "unknown method 'k-center': did you mean 'k_center'?"),
        ("KCenter", ValueError, "unknown method 'KCenter': did you mean 'k_center'?"),
        ("zzz", ValueError, "unknown method 'zzz': the methods are cal, contextual_diversity, craig"),
        (None, TypeError, "method must be a name, got NoneType"),
    ],
)
def test_unknown_methods(name, kind, message):
    with pytest.raises(kind) as caught:
        fastcore.select(name, X, 3)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("uniform", {"speed": 3}, "uniform does not take speed=3; it has no options"),
        (
            "herding",
            {"optimizer": "naive"},
            "herding does not take optimizer='naive' (facility_location, graph_cut, log_det do); "
            "it has no options",
        ),
        (
            "k_center",
            {"lam": 1},
            "k_center does not take lam=1 (gradmatch, graph_cut do); its options are start, stop_at",
        ),
        (
            "graph_cut",
            {"stop_at": 0.5},
            "graph_cut does not take stop_at=0.5 (contextual_diversity, craig, facility_location, gradmatch, "
            "k_center do); "
            "its options are lam, optimizer, epsilon, beta",
        ),
        (
            "log_det",
            {"start": 1},
            "log_det does not take start=1 (contextual_diversity, k_center do); its options are ridge, optimizer",
        ),
    ],
)
def test_unknown_options(method, options, message):
    with pytest.raises(TypeError) as caught:
        fastcore.select(method, X, 3, **options)
    assert str(caught.value).startswith(message)
