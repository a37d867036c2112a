"""What comes before the first pick, in fresh processes: the import, and the native build."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks.harness import ROOT, Row

IMPORT = """
import time
begin = time.perf_counter(); import torch
middle = time.perf_counter(); import fastcore; fastcore.select
print(middle - begin, time.perf_counter() - middle)
"""
FIRST_USE = """
import time
import torch, fastcore
features = torch.rand(64, 8)
begin = time.perf_counter(); selection = fastcore.select("k_center", features, 4, progress=False)
print(time.perf_counter() - begin, selection.info["backend"])
"""
IMPORT_LIMIT = 0.15  # seconds
BUILD_LIMIT = 60.0


def answer(program: str, **environment: str) -> list[str]:
    """The words that a program prints, run in a fresh process beside this checkout."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True, env=variables, cwd="/"
    )
    return done.stdout.splitlines()[-1].split()


def time_row(method: str, seconds: list[float]) -> Row:
    """A row of time with the median and the quartiles of several runs."""
    low, middle, high = (float(v) for v in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return Row("startup", method, "time", "s", middle, low, high, len(seconds))


def target_row(text: str, seconds: list[float], limit: float) -> Row:
    """The target for the median of several runs."""
    middle = float(np.median(seconds))
    met = "met" if middle < limit else "not met"
    return Row("startup", "fastcore", "target", "s", middle, target=text, met=met)


def measure_import(repeats: int) -> list[Row]:
    """What `import fastcore` with its first name adds to `import torch`."""
    answer(IMPORT)  # reads the disk
    times = [[float(word) for word in answer(IMPORT)] for _ in range(repeats)]
    torch_alone, beyond = (list(column) for column in zip(*times, strict=True))
    text = f"import of fastcore beyond torch takes less than {1e3 * IMPORT_LIMIT:g} ms"
    return [
        time_row("import of torch", torch_alone),
        time_row("import of fastcore after torch", beyond),
        target_row(text, beyond, IMPORT_LIMIT),
    ]


def measure_build(repeats: int) -> list[Row]:
    """The first selection with an empty build cache, and with a filled one."""
    cold, warm = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(float(answer(FIRST_USE, FASTCORE_CACHE=folder)[0]))
            seconds, backend = answer(FIRST_USE, FASTCORE_CACHE=folder)
            warm.append(float(seconds))
            if backend == "reference":
                raise RuntimeError("the native library was not built: see `fastcore doctor`")
    return [
        time_row("first selection, build cached", warm),
        time_row("first selection, cold build", cold),
        target_row(f"cold native build takes less than {BUILD_LIMIT:g} s", cold, BUILD_LIMIT),
    ]
