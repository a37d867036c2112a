"""The stand-in itself: right kernels give right results under every schedule, wrong ones are found out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.simt import build

HERE = Path(__file__).resolve().parent
THREADS = 96
EACH_SCHEDULE = pytest.mark.parametrize("schedule", build.SCHEDULES)


def probe(name: str, schedule: str, *flags: str) -> subprocess.CompletedProcess[str]:
    program = build.program(HERE / "probes.cpp", *flags)
    # Fibers change stacks under the sanitizer: it must not move locals to stacks of its own.
    settings = {"FASTCORE_SIMT_SCHEDULE": schedule, "ASAN_OPTIONS": "detect_stack_use_after_return=0"}
    return subprocess.run(
        [program, name], capture_output=True, text=True, env={**os.environ, **settings}, check=False
    )


def values_of(name: str, schedule: str) -> list[float]:
    done = probe(name, schedule)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]


SUMS = [4560.0] * THREADS + [9120.0] * THREADS


@EACH_SCHEDULE
def test_barriers_make_the_sum_right(schedule: str) -> None:
    assert values_of("sum", schedule) == SUMS


@pytest.mark.parametrize("name", ["sum_without_first_barrier", "sum_without_second_barrier"])
def test_a_deleted_barrier_is_found(name: str) -> None:
    results = [values_of(name, schedule) for schedule in build.SCHEDULES]
    assert any(values != SUMS for values in results)


@EACH_SCHEDULE
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("divergent_barrier", "from thread 0 at __syncthreads; from thread 40 finished"),
        ("barrier_after_exit", "from thread 0 at __syncthreads; from thread 64 finished"),
        ("barrier_against_shuffle", "from thread 0 finished; from thread 32 at __syncthreads"),
        ("missing_lane", "from thread 5 finished; from thread 6 at __syncwarp with mask 0xffffffff"),
        ("different_masks", "with mask 0xffffffff; from thread 1 at __shfl_xor_sync with mask 0xfffffffe"),
        ("lane_outside_its_mask", "__syncwarp by a lane that is not in its mask"),
        ("shuffle_from_outside_the_mask", "__shfl_xor_sync from a lane that is not in its mask"),
        (
            "different_operations",
            "from thread 0 at __syncwarp with mask 0xffffffff; from thread 1 at __ballot_sync",
        ),
    ],
)
def test_a_meeting_that_cannot_be_complete_is_an_error(name: str, message: str, schedule: str) -> None:
    done = probe(name, schedule)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: ")
    assert message in done.stderr


@EACH_SCHEDULE
def test_warp_operations(schedule: str) -> None:
    lanes = [thread % 32 for thread in range(THREADS)]
    expected = [3.0 + 10 * (lane + 30 if lane < 2 else lane) + 1000 + 2000 for lane in lanes]
    assert values_of("warp_operations", schedule)[:THREADS] == expected


@EACH_SCHEDULE
def test_parts_of_a_warp_may_go_separate_ways(schedule: str) -> None:
    first = [thread // 16 * 16 for thread in range(THREADS)]
    expected = [16.0 * f + 120 + (8 if f % 32 == 0 else 0) for f in first]
    assert values_of("halves", schedule)[:THREADS] == expected


@EACH_SCHEDULE
def test_atomics(schedule: str) -> None:
    assert values_of("atomics", schedule)[:4] == [2 * THREADS, THREADS - 1, 1 - THREADS, 7]


@EACH_SCHEDULE
def test_shared_memory_starts_as_rubbish_in_every_block(schedule: str) -> None:
    assert all(math.isnan(value) for value in values_of("unwritten_shared", schedule)[:THREADS])


def test_schedules_run_threads_in_their_order() -> None:
    orders = {schedule: values_of("order", schedule)[:THREADS] for schedule in (*build.SCHEDULES, "2")}
    numbers = [float(thread) for thread in range(THREADS)]
    assert orders["forward"] == numbers
    assert orders["reverse"] == numbers[::-1]
    assert sorted(orders["1"]) == sorted(orders["2"]) == numbers
    assert orders["1"] != orders["2"]
    assert orders["1"] == values_of("order", "1")[:THREADS]  # the same seed, the same order


def test_schedules_run_blocks_in_their_order() -> None:
    assert values_of("blocks", "forward")[:2] == [0, 1]
    assert values_of("blocks", "reverse")[:2] == [1, 0]
    orders = {tuple(values_of("blocks", str(seed))[:2]) for seed in range(1, 9)}
    assert orders == {(0, 1), (1, 0)}


def number(first: int) -> int:
    return first * 5 % 13 - 6


@EACH_SCHEDULE
@pytest.mark.parametrize("kind", ["tf32", "half"])
def test_products_of_fragments_have_the_layout_of_tensor_cores(kind: str, schedule: str) -> None:
    """By the formulas that the PTX ISA gives for m16n8k8 of tf32 and m16n8k16 of f16, element by element."""
    words = 2 if kind == "half" else 1
    left, right = np.zeros((16, 8 * words)), np.zeros((8 * words, 8))
    for lane in range(32):
        group, member = lane // 4, lane % 4
        for i in range(4 * words):
            if kind == "tf32":
                row, column = group + 8 * (i in (1, 3)), member + 4 * (i >= 2)
            else:
                row, column = group + 8 * (i in (2, 3, 6, 7)), 2 * member + i % 2 + 8 * (i >= 4)
            left[row, column] = number(lane * 4 * words + i)
        for i in range(2 * words):
            row = member + 4 * i if kind == "tf32" else 2 * member + i % 2 + 8 * (i >= 2)
            right[row, group] = number(lane * 2 * words + i + 3)
    product, expected = left @ right, []
    for lane in range(32):
        for i in range(4):
            expected.append(100 * (i + 1) + product[lane // 4 + 8 * (i >= 2), lane % 4 * 2 + i % 2])
    assert values_of(f"fragments_{kind}", schedule)[:128] == expected


@pytest.mark.parametrize("schedule", ["reverse", "1"])
def test_copies_are_there_once_waited_for_and_not_before(schedule: str) -> None:
    assert values_of("copies", schedule) == [6.0] * THREADS + [0.0] * THREADS
    assert values_of("copies_but_one", schedule) == [6.0] * THREADS + [-1.0] * THREADS  # rubbish
    assert values_of("copies_but_two", schedule) == [2.0] * THREADS + [-1.0] * THREADS


def test_copies_may_be_there_at_once() -> None:
    assert values_of("copies_but_two", "forward") == [6.0] * THREADS + [0.0] * THREADS


def has_sanitizer() -> bool:
    check = [*build.find_cxx(), "-fsanitize=address", "-x", "c++", "-", "-o", os.devnull]
    return (
        subprocess.run(check, input="int main() {}", text=True, capture_output=True, check=False).returncode
        == 0
    )


needs_sanitizer = pytest.mark.skipif(not has_sanitizer(), reason="the compiler has no address sanitizer")


@needs_sanitizer
@pytest.mark.parametrize("name", ["shared_out_of_bounds", "global_out_of_bounds"])
def test_the_address_sanitizer_sees_a_bad_index(name: str) -> None:
    done = probe(name, "forward", "-fsanitize=address")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert f"in {name}" in done.stderr.replace("(anonymous namespace)::", "")


@needs_sanitizer
def test_the_address_sanitizer_has_nothing_against_a_right_kernel() -> None:
    done = probe("sum", "1", "-fsanitize=address")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@needs_sanitizer
def test_the_kernels_pass_the_address_sanitizer() -> None:
    """A part of the op table on the stand-in, in a process where every tensor has guarded ends."""
    runtime = [
        subprocess.run([*build.find_cxx(), f"-print-file-name={name}"], capture_output=True, text=True).stdout
        for name in ("libasan.so", "libstdc++.so.6")
    ]
    settings = {
        "LD_PRELOAD": " ".join(name.strip() for name in runtime),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "FASTCORE_SIMT_FLAGS": "-fsanitize=address",
        "FASTCORE_BACKEND": "simt",
    }
    cases = "(33 and random) or 7-integer-tight or 40-random-tight or 17-zeros"
    wanted = f"(against_reference or on_one_set) and simt-forward and ({cases})"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        wanted,
        "tests/ops",
    ]
    done = subprocess.run(
        command, cwd=HERE.parents[1], capture_output=True, text=True, env={**os.environ, **settings}
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
