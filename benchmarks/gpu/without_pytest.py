"""Runs test modules where pytest is not installed, as far as the op table and the contract of the methods need it.

    python -m benchmarks.gpu.without_pytest --xml out.xml [-m MARK] [-k EXPRESSION] MODULE.py ...

Parametrised functions, marks and skips; no fixtures. The report is that of `pytest --junitxml`, in short; the
device, the part of the tests and the end of the time are those of `benchmarks.gpu.on_device`.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import random
import re
import sys
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu import standins

standins.install()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.gpu import on_device  # noqa: E402
from benchmarks.gpu.pytest_standin import Skipped  # noqa: E402

MOST_FAILURES = 25


@dataclass
class Test:
    """One test with its arguments."""

    name: str
    marks: set[str]
    run: Callable[..., Any]
    arguments: dict[str, Any]


def tests_of(path: str) -> Iterator[Test]:
    """The tests of a module, in its order."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for name, function in vars(module).items():
        if not name.startswith("test_") or not callable(function):
            continue
        given = getattr(function, "arguments", [])
        for sets in itertools.product(*(sets for _, sets in given)):
            arguments = {
                key: value
                for (keys, _), chosen in zip(given, sets, strict=True)
                for key, value in zip(keys, chosen.values, strict=True)
            }
            marks = {*getattr(function, "marked", ()), *(mark for chosen in sets for mark in chosen.marks)}
            ids = "-".join(chosen.name for chosen in sets)
            yield Test(f"{name}[{ids}]" if ids else name, marks, function, arguments)


def wanted(test: Test, mark: str | None, expression: str | None) -> bool:
    """Whether a test has the mark, and its name what the expression says: words with and, or, not and brackets."""
    if mark is not None and mark not in test.marks:
        return False
    if expression is None:
        return True

    def found(word: re.Match[str]) -> str:
        return word[0] if word[0] in ("and", "or", "not") else str(word[0] in test.name)

    return bool(eval(re.sub(r"\w+", found, expression)))  # words have become True and False


def outcome(test: Test) -> tuple[str, str]:
    """ "passed", "skipped" or "failure", and why."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    try:
        test.run(**test.arguments)
    except Skipped as reason:
        return "skipped", str(reason)
    except Exception:  # whatever it is, the other tests go on
        return "failure", traceback.format_exc()
    return "passed", ""


def main(given: list[str] | None = None) -> int:
    """Status 1 where a test failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--xml", required=True)
    parser.add_argument("-m", dest="mark")
    parser.add_argument("-k", dest="expression")
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args(given)
    on_device.pytest_configure()
    tests = [
        t for path in options.paths for t in tests_of(path) if wanted(t, options.mark, options.expression)
    ]
    part, _, parts = os.environ.get("FASTCORE_GPU_SHARD", "0/1").partition("/")
    report = ElementTree.Element("testsuite")
    failures, written = 0, time.time()
    for test in tests[int(part) :: int(parts)]:
        if time.time() > float(os.environ.get("FASTCORE_GPU_STOP_AT", "inf")):
            print("time is over")
            break
        found, why = outcome(test)
        row = ElementTree.SubElement(report, "testcase", name=test.name)
        if found != "passed":
            ElementTree.SubElement(row, found, message=why[-2000:])
        if found == "failure":
            failures += 1
            print(f"{test.name}\n{why}", flush=True)
        if failures >= MOST_FAILURES:
            break
        if time.time() > written + 1:  # it may be killed
            ElementTree.ElementTree(report).write(options.xml)
            written = time.time()
    ElementTree.ElementTree(report).write(options.xml)
    print(f"{len(report)} tests, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
