"""A pytest plugin: selections run on the device of $FASTCORE_GPU_DEVICE, and the session ends in time.

`fastcore.select` gets that device where a test names none. $FASTCORE_GPU_SHARD "1/8" keeps every eighth test;
$FASTCORE_GPU_STOP_AT is the time, in seconds since 1970, after which no further test begins.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from benchmarks.gpu import standins

standins.install()

DEVICE = os.environ.get("FASTCORE_GPU_DEVICE", "cpu")


def pytest_configure() -> None:
    """Puts the device into every selection."""
    import fastcore

    plain = fastcore.select

    def select(method: str, *arguments: Any, **options: Any) -> Any:
        options.setdefault("device", DEVICE)
        if options.get("backend") == "cpu" and DEVICE.startswith("cuda"):
            options["backend"] = "cuda"
        return plain(method, *arguments, **options)

    fastcore.select = select


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps this part of the tests."""
    for item in items:
        if (
            item.path.parent.name == "gpu"
        ):  # the folder counts as a mark `gpu`, for which a processor is skipped
            item.own_markers = [mark for mark in item.own_markers if mark.name != "skip"]
    part, _, parts = os.environ.get("FASTCORE_GPU_SHARD", "0/1").partition("/")
    items[:] = items[int(part) :: int(parts)]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Stops before a test that would begin too late."""
    if time.time() > float(os.environ.get("FASTCORE_GPU_STOP_AT", "inf")):
        item.session.shouldstop = "time is over"
        return True
    return None
