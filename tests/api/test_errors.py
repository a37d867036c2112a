"""Bad arguments of ``select``: each error names the argument, the value it got and what it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastcore

X = np.random.default_rng(5).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 3


@pytest.mark.parametrize(
    ("method", "options", "kind", "message"),
    [
        ("uniform", {"balance": True}, ValueError, "balance=True needs labels, got labels=None"),
        ("uniform", {"balance": "yes"}, ValueError, "balance must be one of None, True, False, got 'yes'"),
        ("uniform", {"balance": 1}, ValueError, "balance must be one of None, True, False, got 1"),
        (
            "k_center",
            {"metric": "l1"},
            ValueError,
            "metric of k_center must be one of 'euclidean', 'cosine', 'precomputed', got 'l1'",
        ),
        (
            "k_center",
            {"metric": "rbf"},
            ValueError,
            "metric of k_center must be one of 'euclidean', 'cosine', 'precomputed', got 'rbf'",
        ),
        (
            "graph_cut",
            {"gamma": 1.0},
            ValueError,
            "gamma belongs to metric='rbf', got gamma=1.0 with metric='cosine'",
        ),
        ("graph_cut", {"gamma": 0, "metric": "rbf"}, ValueError, "gamma must be in (0, inf), got 0"),
        (
            "graph_cut",
            {"gamma": "auto", "metric": "rbf"},
            TypeError,
            "gamma must be a number in (0, inf), got 'auto'",
        ),
        (
            "uniform",
            {"weights": "clusters"},
            ValueError,
            "weights must be one of None, 'cluster', got 'clusters'",
        ),
        ("uniform", {"seed": 1.5}, TypeError, "seed must be an integer, got 1.5"),
        ("uniform", {"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
        (
            "uniform",
            {"seed": 2**63},
            ValueError,
            "seed must be an integer of at least 0, got 9223372036854775808",
        ),
        ("uniform", {"memory": 0}, ValueError, "memory must be an integer of at least 1, got 0"),
        ("uniform", {"memory": "1GB"}, TypeError, "memory must be an integer, got '1GB'"),
        ("uniform", {"progress": "on"}, ValueError, "progress must be one of None, True, False, got 'on'"),
        (
            "uniform",
            {"device": "gpu"},
            ValueError,
            "device must name a torch device such as 'cpu' or 'cuda:0', got 'gpu'",
        ),
        ("uniform", {"device": "meta"}, ValueError, "device must be 'cpu' or 'cuda', got 'meta'"),
        (
            "uniform",
            {"device": 1.5},
            ValueError,
            "device must name a torch device such as 'cpu' or 'cuda:0', got 1.5",
        ),
        ("uniform", {"device": "cuda:99"}, ValueError, "device 'cuda:99' is not there: torch sees"),
        (
            "uniform",
            {"backend": "gpu"},
            ValueError,
            "backend must be one of auto, reference, cpu, cuda, got 'gpu'",
        ),
        ("k_center", {"start": "middle"}, ValueError, "start must be one of 'random', 'mean', got 'middle'"),
        ("k_center", {"start": 40}, ValueError, "start must be a row below 40, got 40"),
        ("k_center", {"start": -1}, ValueError, "start must be an integer of at least 0, got -1"),
        ("k_center", {"start": 0.5}, TypeError, "start must be an integer, got 0.5"),
        ("k_center", {"start": 3, "labels": Y}, ValueError, "start=3 needs one ground set, got 3 classes"),
        ("k_center", {"stop_at": -1.0}, ValueError, "stop_at must be in [0, inf), got -1.0"),
        ("facility_location", {"stop_at": 1.5}, ValueError, "stop_at must be in (0, 1], got 1.5"),
        ("facility_location", {"stop_at": "all"}, TypeError, "stop_at must be a number in (0, 1], got 'all'"),
        (
            "facility_location",
            {"stop_at": 0.5, "optimizer": "naive"},
            ValueError,
            "stop_at needs optimizer='lazy', got optimizer='naive'",
        ),
        ("graph_cut", {"lam": -0.5}, ValueError, "lam must be in [0, inf), got -0.5"),
        ("graph_cut", {"lam": float("inf")}, ValueError, "lam must be in [0, inf), got inf"),
        ("log_det", {"ridge": -1}, ValueError, "ridge must be in [0, inf), got -1"),
        (
            "log_det",
            {"optimizer": "greedy"},
            ValueError,
            "optimizer must be one of 'lazy', 'naive', 'stochastic', 'approximate_lazy', "
            "'lazier_than_lazy', got 'greedy'",
        ),
        (
            "log_det",
            {"epsilon": 0.1},
            ValueError,
            "epsilon belongs to optimizer='stochastic' or 'lazier_than_lazy', got optimizer='lazy'",
        ),
        (
            "log_det",
            {"beta": 0.5, "optimizer": "stochastic"},
            ValueError,
            "beta belongs to optimizer='approximate_lazy', got optimizer='stochastic'",
        ),
        (
            "log_det",
            {"epsilon": 1.0, "optimizer": "stochastic"},
            ValueError,
            "epsilon must be in (0, 1), got 1.0",
        ),
        (
            "log_det",
            {"beta": 0, "optimizer": "approximate_lazy"},
            ValueError,
            "beta must be in (0, 1], got 0",
        ),
    ],
)
def test_bad_arguments_say_what_they_got(method, options, kind, message):
    with pytest.raises(kind) as caught:
        fastcore.select(method, X, 5, **options)
    assert str(caught.value).startswith(message)


def test_start_at_the_mean_needs_features():
    with pytest.raises(ValueError, match="start='mean' needs features, got metric='precomputed'"):
        fastcore.select("k_center", np.ones((4, 4)), 2, metric="precomputed", start="mean")


def test_a_missing_cuda_device_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="device 'cuda' is not there: torch sees 0 CUDA devices"):
        fastcore.select("uniform", X, 5, device="cuda")
    with pytest.raises(
        ValueError, match="^backend='cuda' needs data on 'cuda', got it on 'cpu': pass device='cuda'$"
    ):
        fastcore.select("k_center", X, 5, backend="cuda")
