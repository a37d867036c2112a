"""The rows that several processes select from together and one alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import fastcore


def features(kind: str) -> np.ndarray:
    """Rows for every kind: random, integer-valued with many ties, far from the origin, many copies of few rows."""
    random = np.random.default_rng(7)
    if kind == "random":
        return random.standard_normal((900, 12)).astype(np.float32)
    if kind == "small":
        return random.standard_normal((40, 5)).astype(np.float32)
    if kind == "ties":
        return random.integers(-2, 3, (700, 3)).astype(np.float32)
    if kind == "far":
        return (random.standard_normal((600, 6)) + 1000).astype(np.float32)
    if kind == "positive":
        return random.random((800, 6)).astype(np.float32)
    if kind == "copies":
        return random.standard_normal((3, 4)).astype(np.float32)[random.integers(0, 3, 1500)]
    if kind == "line":  # here a pick brings another row's gain down to that of a lower row outside the block
        return np.random.default_rng(25).integers(1, 7, (120, 1)).astype(np.float32)
    raise ValueError(kind)


def probabilities(n: int = 300) -> np.ndarray:
    """Rows that sum to 1; every third one is a copy."""
    logits = np.random.default_rng(3).standard_normal((n, 4)) * 2
    logits[::3] = logits[0]
    p = np.exp(logits)
    return (p / p.sum(1, keepdims=True)).astype(np.float32)


def labels(n: int) -> np.ndarray:
    """Five classes of very different sizes; each of the last two lies at one end of the rows."""
    given = np.random.default_rng(5).choice(3, n, p=[0.6, 0.3, 0.1])
    given[:2], given[-3:] = 3, 4
    return given


def gradients(n: int = 120) -> fastcore.LastLayerGradients:
    """Gradients of 4 classes."""
    random = np.random.default_rng(9)
    delta = probabilities(n) - np.eye(4)[random.integers(0, 4, n)]
    return fastcore.LastLayerGradients(
        delta.astype(np.float32), random.standard_normal((n, 6)).astype(np.float32)
    )


def alike_gradients(n: int = 400) -> fastcore.LastLayerGradients:
    """Gradients of small whole numbers: many are equal, some are zero, and inner products have either sign."""
    random = np.random.default_rng(13)
    delta = random.integers(-1, 2, (n, 3)).astype(np.float32)
    return fastcore.LastLayerGradients(delta, random.integers(0, 3, (n, 2)).astype(np.float32))


def mirrored_gradients(n: int = 60) -> fastcore.LastLayerGradients:
    """Gradients, and those with the classes the other way round: they correlate alike, but for rounding."""
    one = gradients(n)
    delta = np.concatenate([one.delta.numpy(), one.delta.numpy()[:, ::-1]])
    return fastcore.LastLayerGradients(delta, np.concatenate([one.h.numpy()] * 2))


def validation(data: fastcore.LastLayerGradients) -> fastcore.LastLayerGradients:
    """Gradients of 70 other rows by the same last layer."""
    random = np.random.default_rng(19)
    delta = random.dirichlet(np.ones(data.classes), 70) - np.eye(data.classes)[np.arange(70) % data.classes]
    h = random.standard_normal((70, data.width))
    return fastcore.LastLayerGradients(delta.astype(np.float32), h.astype(np.float32))


def matrix(kind: str, n: int = 260) -> np.ndarray:
    """Similarities or distances (n, n): with many ties, lopsided, with negative ones, or a kernel."""
    random = np.random.default_rng(17)
    if kind == "lopsided":
        return random.random((n, n)).astype(np.float32)
    if kind == "negative":
        return random.integers(-4, 5, (n, n)).astype(np.float32)
    if kind == "whole":
        numbers = random.integers(0, 4, (n, n))
        return (numbers + numbers.T).astype(np.float32)
    if kind == "kernel":
        rows = random.standard_normal((n, 8))
        return np.exp(-0.1 * ((rows[:, None] - rows) ** 2).sum(2)).astype(np.float32)
    raise ValueError(kind)


def sparse(matrix: np.ndarray, kind: int) -> Any:
    """A matrix as one of scipy, of torch with every entry in two halves, or of torch by rows."""
    if kind % 3 == 0:
        from scipy.sparse import csr_array  # a machine with GPUs may have none

        return csr_array(matrix)
    if kind % 3 == 2:
        return torch.from_numpy(matrix).to_sparse_csr()
    places, values = torch.from_numpy(np.stack(matrix.nonzero())), torch.from_numpy(matrix[matrix.nonzero()])
    return torch.sparse_coo_tensor(
        places.repeat(1, 2), values.repeat(2) / 2, matrix.shape, check_invariants=True
    )


def signals(n: int = 120, alike: bool = False) -> fastcore.Signals:
    """Embeddings, logits and labels; those of rows that are alike are small whole numbers, many of them equal."""
    random = np.random.default_rng(11)
    if alike:
        embeddings, logits = random.integers(-1, 2, (n, 3)), 3 * random.integers(-1, 2, (n, 5))
    else:
        embeddings, logits = random.standard_normal((n, 6)), random.standard_normal((n, 5))
    return fastcore.Signals(
        embeddings=embeddings.astype(np.float32), logits=logits.astype(np.float32), labels=labels(n)
    )


def data_of(kind: str) -> Any:
    """The data that a case names."""
    if kind == "probabilities":
        return probabilities()
    if kind == "norms":
        return np.random.default_rng(2).integers(0, 6, 300).astype(np.float64)
    if kind == "gradients":
        return gradients()
    if kind == "alike gradients":
        return alike_gradients()
    if kind == "mirrored gradients":
        return mirrored_gradients()
    if kind.startswith("sparse "):  # one entry in ten, and none in the last rows
        dense = data_of(kind.removeprefix("sparse "))
        return (
            dense
            * (np.random.default_rng(23).random(dense.shape) < 0.1)
            * (np.arange(len(dense)) < 250)[:, None]
        )
    if kind.endswith(" matrix"):
        return matrix(kind.removesuffix(" matrix"))
    given = {"signals": (120, False), "alike signals": (300, True), "few signals": (5, False)}
    return signals(*given[kind]) if kind in given else features(kind)
