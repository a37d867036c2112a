"""Data for every method: what it needs, made row by row from the same features."""

from __future__ import annotations

import numpy as np
import torch

import fastcore
from fastcore.signals import Dynamics, Signals

CLASSES = 3
METHODS = fastcore.list_methods()
COMPARING = [name for name in METHODS if fastcore.get_method(name).metrics]
"""Methods that compare rows: they take features, and know which pick stands for a row."""


def select(name, features, k, labels=None, **options):
    """A selection from what the method needs, made from these features."""
    data = data_for(name, options.get("metric"), features)
    return fastcore.select(name, data, k, labels=labels, **extra_for(name, features, labels), **options)


def pairs(features, kind):
    """A matrix (n, n) of distances or similarities."""
    squared = ((features[:, None].astype(np.float64) - features[None]) ** 2).sum(-1)
    return np.sqrt(squared) if kind == "distance" else np.exp(-squared / 20)


def logits_of(features):
    """(n, CLASSES) float32: each row depends on its own features only."""
    rows = np.asarray(features, np.float32)
    wide = np.resize(rows.T, (CLASSES, len(rows))).T
    return np.clip(wide, -8, 8) * np.array([1.0, 0.9, 0.8], np.float32)


def classes_of(features):
    """(n,) a class of every row, from its own features."""
    return np.floor(np.abs(np.asarray(features, np.float64)).sum(1) * 3).astype(np.int64) % CLASSES


def signals_of(features):
    """Signals of a network that is sure of nothing."""
    rows = np.clip(np.asarray(features, np.float32), -1e6, 1e6)
    return Signals(embeddings=rows, logits=logits_of(rows), labels=classes_of(rows))


def probabilities_of(features):
    """(n, CLASSES) float32 rows that sum to 1."""
    return signals_of(features).probabilities.numpy()


def dynamics_of(features, epochs=6):
    """A record of training: row i is right in the epochs that the bits of its features say."""
    rows = np.asarray(features, np.float64)
    bits = np.floor(np.abs(rows).sum(1) * 37).astype(np.int64)
    correct = torch.from_numpy((bits[None] >> np.arange(epochs)[:, None]) & 1).bool()[None]
    value = torch.from_numpy(np.tanh(np.abs(rows).sum(1))).float().expand(1, epochs, -1).contiguous()
    return Dynamics(
        correct=correct,
        probability=value,
        margin=value,
        loss=value,
        error_norm=value,
        seen=torch.ones_like(correct),
    )


def data_for(name, metric, features):
    """What ``select`` takes for a method."""
    method = fastcore.get_method(name)
    if metric == "precomputed":
        return pairs(features, method.pairs)
    if len(method.needs) > 1:
        signals = signals_of(features)  # without labels, which would balance the picks
        return Signals(embeddings=signals.embeddings, logits=signals.logits)
    need = method.needs[0] if method.needs else "similarity"
    if need == "similarity":
        return features
    if need == "gradients":
        return signals_of(features).gradients
    if need == "probabilities":
        return probabilities_of(features)
    if need == "dynamics":
        return dynamics_of(features)
    return np.tanh(np.abs(np.asarray(features, np.float64)).sum(1))


def extra_for(name, features, labels=None):
    """Arguments without which a method does not run."""
    if fastcore.get_method(name).validation != "required":
        return {}
    rows = np.asarray(features)
    gradients = signals_of(rows[::-1] * np.float32(0.75)).gradients
    return {"validation": gradients if labels is None else (gradients, np.asarray(labels)[::-1])}
