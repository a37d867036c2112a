"""The loaded library: its self-test, and results that depend on the arguments alone.

What each op computes and refuses is tested in tests/ops.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch

from fastcore import ops
from fastcore.ops import fakes, native
from fastcore.ops.native import selftest
from tests.native.workshop import ROOT
from tests.ops.backends import CUDA_ONLY

CASES = selftest.cases()


@pytest.fixture(autouse=True, scope="module")
def _library() -> None:
    if native.problem("cpu"):
        pytest.fail(native.problem("cpu"))


def call(op: str, *arguments: Any) -> Any:
    return getattr(torch.ops.fastcore, op)(*arguments)


def name_of(op: str, position: int) -> str:
    return getattr(torch.ops.fastcore, op).default._schema.arguments[position].name


def changed(op: str, position: int, value: Any) -> tuple[Any, ...]:
    """Valid arguments, but for one."""
    arguments = selftest.copied(CASES[op].arguments, "cpu")
    return (*arguments[:position], value, *arguments[position + 1 :])


def test_every_op_has_a_case_and_a_fake_kernel():
    assert list(CASES) == [fake.__name__ for fake in fakes.OPS]
    assert all(native.has_kernel(op, "cpu") != (op in CUDA_ONLY) for op in CASES)


def test_a_budget_above_most_is_an_error():
    position = 3
    assert name_of("farthest_first_block", position) == "budgets"
    with pytest.raises(RuntimeError, match="budgets must be at most most = 5, got 6"):
        call("farthest_first_block", *changed("farthest_first_block", position, torch.tensor([5, 6])))


def test_offsets_must_span_the_values():
    with pytest.raises(RuntimeError, match="offsets must run from 0 to 111"):
        call("facility_location_sparse", *changed("facility_location_sparse", 0, torch.arange(38) * 2))


def test_state_may_be_a_slice_of_columns():
    arguments = selftest.copied(CASES["nearest_update"].arguments, "cpu")
    wide = [torch.cat([a, a, a], 1) if i in (1, 3, 4, 5) else a for i, a in enumerate(arguments)]
    rows = arguments[1].shape[1]
    sliced = [a[:, rows : 2 * rows] if i in (1, 3, 4, 5) else a for i, a in enumerate(wide)]
    before = [wide[i].clone() for i in (3, 4, 5)]
    call("nearest_update", *arguments)
    call("nearest_update", *sliced)
    for i, old in zip((3, 4, 5), before, strict=True):
        assert torch.equal(sliced[i], arguments[i])
        assert torch.equal(wide[i][:, :rows], old[:, :rows])
        assert torch.equal(wide[i][:, 2 * rows :], old[:, 2 * rows :])


@pytest.mark.parametrize("op", CASES)
def test_the_self_test_sees_every_result_that_is_wrong(op):
    case = CASES[op]
    reference = getattr(__import__(f"fastcore.ops.{op}", fromlist=[op]), f"{op}_reference")
    assert selftest.difference(case, reference, reference, "cpu") == ""
    assert case.outputs or case.changed

    for kind, positions in (("output", case.outputs), ("argument", case.changed)):
        for position in positions:

            def wrong(*arguments: Any, kind: str = kind, position: int = position) -> Any:
                result = reference(*arguments)
                results = result if isinstance(result, tuple) else (result,)
                spoiled = results[position] if kind == "output" else arguments[position]
                spoiled[(-1,) * spoiled.ndim] = 77
                return result

            assert selftest.difference(case, wrong, reference, "cpu").startswith(f"{kind} {position} differs")


def test_a_library_that_fails_its_self_test_is_not_used(tmp_path):
    """One kernel is edited to be wrong; the library builds and loads, and the reference runs."""
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    kernel = csrc / "cpu" / "squared_norms.cpp"
    text = kernel.read_text()
    assert "dot(x, x, args.width)" in text
    kernel.write_text(text.replace("dot(x, x, args.width)", "dot(x, x, args.width) + 1.0"))
    code = (
        "import torch; from fastcore import ops; from fastcore.ops.squared_norms import squared_norms\n"
        "print(squared_norms(torch.full((1, 2, 3), 2.0)).tolist(), ops.active_backend('cpu'))\n"
        "from fastcore.ops import native; print(native.status().folder)\n"
    )
    environment = {**os.environ, "FASTCORE_CSRC": str(csrc), "FASTCORE_BACKEND": "auto"}
    for attempt in ("build", "stamp"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        result, folder = done.stdout.splitlines()
        assert result == "[[12.0, 12.0]] reference"
        assert done.stderr.count("RuntimeWarning") == 1
        assert "fails its self-test on cpu (squared_norms: output 0 differs by " in done.stderr
        assert ("building the native library" in done.stderr) == (attempt == "build")
    shutil.rmtree(folder)


def digest(result: Any) -> list[Any]:
    """Results as bits."""
    results = result if isinstance(result, tuple) else (result,)
    return [
        r.view(torch.int64).tolist() if r.dtype == torch.float64 else r.tolist()
        for r in results
        if r is not None
    ]


def run_all() -> dict[str, list[Any]]:
    found = {}
    for op, case in CASES.items():
        if op in CUDA_ONLY:
            continue
        arguments = selftest.copied(case.arguments, "cpu")
        result = call(op, *arguments)
        found[op] = [digest(result), digest(tuple(arguments[i] for i in case.changed))]
    return found


def test_every_instruction_set_gives_the_same_bits():
    code = (
        "import json; from fastcore.ops import native; assert not native.problem('cpu')\n"
        "from tests.native.test_library import run_all; print(json.dumps(run_all()))"
    )
    outputs = []
    for isa in ("base", "best"):
        environment = {**os.environ, "FASTCORE_ISA": isa}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout)
    assert len(outputs[0]) > 1000
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("sets", [1, 3])
def test_the_number_of_threads_does_not_change_a_bit(sets):
    features, weights = torch.randn(sets, 5000, 70), torch.randn(sets, 5000, dtype=torch.float64)
    direction = torch.randn(sets, 70, dtype=torch.float64)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results = call("project", features, direction), call("squared_norms", features)
            found.append([*results, call("weighted_sum", features, weights)])
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@pytest.mark.parametrize("width", [1, 7, 8, 33, 257])
def test_equal_rows_have_equal_sums_wherever_they_lie(width):
    row = torch.randn(width)
    for rows in (1, 2, 3, 4, 5, 11):
        features = row.expand(1, rows, width).contiguous()
        direction = torch.randn(1, width, dtype=torch.float64)
        assert len(call("project", features, direction).unique()) == 1
        assert len(call("squared_norms", features).unique()) == 1
    shifted = torch.cat([torch.zeros(3), row])[3:].view(1, 1, width)  # not aligned to a vector
    assert torch.equal(call("squared_norms", shifted), call("squared_norms", row.view(1, 1, width)))


def test_build_info_says_how_the_library_was_built():
    info = native.build_info()
    assert info["torch"] == torch.__version__
    assert "-ffp-contract=off" in info["flags"]
    assert info["instruction_set"] in info["instruction_sets"]
    assert info["instruction_sets"][0] == "base"
    assert info["threads"] == torch.get_num_threads()


def test_ops_run_through_the_wrappers_on_this_backend():
    assert ops.active_backend("cpu") == os.environ.get("FASTCORE_BACKEND", "cpu").replace("auto", "cpu")
