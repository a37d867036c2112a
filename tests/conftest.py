"""What every test shares: one native build that outlives the run, seeds, data."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Set before anything imports fastcore. The folder is kept between runs, so that a test run builds only what
# changed, and it is not the user's, so that a test run changes nothing outside the repository.
if "FASTCORE_CACHE" not in os.environ:
    _cache = ROOT / "build" / "test-cache"
    _cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["FASTCORE_CACHE"] = str(_cache)


def pytest_configure() -> None:
    # The background of a script starts with interrupts ignored, and so would every process that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from hypothesis import settings
    except ImportError:
        return
    # The same examples on every run; no deadline, since the first example may wait for a build.
    settings.register_profile("fastcore", deadline=None, derandomize=True, database=None)
    settings.load_profile("fastcore")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """No test depends on the tests that ran before it."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real features: scikit-learn's digits, (1797, 64) float32 in [0, 1], and their (1797,) labels, read-only."""
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    features = (pixels / 16).astype(np.float32)
    features.setflags(write=False)
    labels.setflags(write=False)
    return features, labels
