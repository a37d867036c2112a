"""Rows for the methods that score them."""

from __future__ import annotations

import numpy as np

import fastcore
from fastcore import Signals


def logits(seed: int = 0, n: int = 120, classes: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (3 * rng.standard_normal((n, classes)) + 5 * rng.standard_normal((n, 1))).astype(np.float32)


def signals(seed: int = 0, n: int = 120, classes: int = 6, width: int = 8) -> Signals:
    rng = np.random.default_rng(100 + seed)
    return Signals(
        embeddings=rng.standard_normal((n, width)).astype(np.float32),
        logits=logits(seed, n, classes),
        labels=rng.integers(0, classes, n),
    )


def select(method: str, data: object, k: int, **options) -> fastcore.Selection:
    return fastcore.select(method, data, k, progress=False, **options)
