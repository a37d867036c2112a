"""Which implementation an op gets: the backend asked for, the device, and what the library has."""

from __future__ import annotations

import threading

import pytest
import torch

from fastcore import doctor, ops
from fastcore.ops import fakes, native
from fastcore.ops.squared_norms import squared_norms_reference
from tests.ops.backends import CUDA_ONLY

OPS = [fake.__name__ for fake in fakes.OPS]


@pytest.fixture(autouse=True)
def _no_forced_backend(monkeypatch):
    monkeypatch.delenv("FASTCORE_BACKEND", raising=False)


@pytest.fixture
def no_library(monkeypatch):
    """A process in which the library cannot be had."""
    monkeypatch.setattr(native, "_native", native.Native(None, "there is no compiler"))


def chosen(device: str = "cpu") -> object:
    return ops.implementation("squared_norms", squared_norms_reference, torch.ones(1, 2, 3, device=device))


def test_native_kernels_run_by_default():
    assert ops.active_backend("cpu") == "cpu"
    assert chosen() is torch.ops.fastcore.squared_norms


def test_the_reference_runs_when_asked_for_and_loads_nothing(monkeypatch):
    monkeypatch.setattr(native, "status", lambda: pytest.fail("the library was asked for"))
    with ops.use_backend("reference"):
        assert ops.active_backend("cpu") == ops.active_backend("cuda") == "reference"
        assert chosen() is squared_norms_reference


def test_the_environment_sets_the_default_and_the_block_wins(monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")
    assert ops.active_backend("cpu") == "reference"
    with ops.use_backend("cpu"):
        assert ops.active_backend("cpu") == "cpu"
        with ops.use_backend("auto"):
            assert ops.active_backend("cpu") == "cpu"
    assert ops.active_backend("cpu") == "reference"


def test_a_block_ends_with_an_error_too():
    with pytest.raises(KeyError), ops.use_backend("reference"):
        raise KeyError
    assert ops.active_backend("cpu") == "cpu"


def test_a_block_is_not_seen_by_other_threads():
    found = []
    with ops.use_backend("reference"):
        thread = threading.Thread(target=lambda: found.append(ops.active_backend("cpu")))
        thread.start()
        thread.join()
    assert found == ["cpu"]


@pytest.mark.parametrize("name", ["rocm", "", "CPU", "simd"])
def test_an_unknown_backend_is_an_error_that_lists_the_known(name, monkeypatch):
    with pytest.raises(ValueError, match=f"backend must be one of auto, reference, cpu, cuda, got '{name}'"):
        with ops.use_backend(name):
            pass
    if name:  # an empty variable is no variable
        monkeypatch.setenv("FASTCORE_BACKEND", name)
        with pytest.raises(ValueError, match="FASTCORE_BACKEND must be one of"):
            ops.active_backend("cpu")


def test_a_backend_of_another_device_is_an_error():
    with (
        ops.use_backend("cuda"),
        pytest.raises(
            ValueError, match="backend='cuda' needs data on 'cuda', got it on 'cpu': pass device='cuda'"
        ),
    ):
        chosen()


def test_other_devices_get_the_reference():
    assert ops.active_backend("meta") == "reference"
    assert chosen("meta") is squared_norms_reference


def test_without_a_library_auto_means_the_reference(no_library):
    assert ops.active_backend("cpu") == "reference"
    assert chosen() is squared_norms_reference


def test_without_a_library_a_forced_backend_says_why(no_library):
    with (
        ops.use_backend("cpu"),
        pytest.raises(RuntimeError, match="not available: there is no compiler; .*doctor"),
    ):
        chosen()


def test_kernels_that_are_missing_for_a_device_are_one_warning(monkeypatch):
    if native.has_kernel("project", "cuda"):
        pytest.skip("this library has CUDA kernels")
    monkeypatch.setattr(native, "_native", native.Native(native.status().folder))
    with pytest.warns(RuntimeWarning, match="has no cuda kernels: .*Using the reference") as warned:
        assert [ops.active_backend("cuda") for _ in range(3)] == ["reference"] * 3
    assert len(warned) == 1


def test_an_op_without_a_kernel_for_the_device_gets_the_reference(monkeypatch):
    monkeypatch.setattr(native, "problem", lambda device: "")
    monkeypatch.setattr(
        native, "has_kernel", lambda op, device, namespace: (op, device) != ("herding", "cuda")
    )
    assert ops.backend_of("project", "cuda") == "cuda"
    assert ops.backend_of("herding", "cuda") == "reference"


@pytest.mark.parametrize(
    ("failed", "lost"),
    [
        ({"herding": "output 0 differs by 2"}, ["herding"]),
        ({"herding": "RuntimeError: fastcore::herding: CUDA error 700: an illegal memory access"}, None),
        (dict.fromkeys(OPS, "output 0 differs by 2"), None),
    ],
)
def test_a_cuda_kernel_that_fails_its_self_test_is_not_used(failed, lost, monkeypatch):
    """The others are; but after an error of the device no call is worth a try."""
    monkeypatch.setattr(native, "_native", native.Native(native.status().folder))
    monkeypatch.setattr(native, "has_kernel", lambda op, device, name="fastcore": True)
    monkeypatch.setattr(native, "_tested", lambda folder, device: failed)
    with pytest.warns(RuntimeWarning, match=r"fails its self-test on cuda \(") as warned:
        ran_on = {op: ops.backend_of(op, "cuda") for op in OPS}
    assert len(warned) == 1
    assert [op for op in OPS if ran_on[op] == "reference"] == (OPS if lost is None else lost)
    with ops.use_backend("cuda"):
        if lost is not None:
            assert ops.backend_of("project", "cuda") == "cuda"
        with pytest.raises(RuntimeError, match="cuda.*self-test.*(differs|CUDA error)"):
            ops.backend_of("herding", "cuda")
    with pytest.warns(RuntimeWarning, match="on cpu .* Using the reference backend"):
        assert ops.backend_of("project", "cpu") == "reference"  # a processor that fails is not trusted at all
    advice = doctor.report()["advice"]
    assert [line for line in advice if line.startswith("cuda: the kernel of herding fails")] == (
        [f"cuda: the kernel of herding fails its self-test ({failed['herding']}); its reference runs"]
        * bool(lost)
    )


def test_the_doctor_reports_a_healthy_machine():
    report = doctor.report()
    assert {op for op, runs in report["backends"]["cpu"].items() if runs != "cpu"} == set(CUDA_ONLY)
    assert report["library"] == str(native.status().folder)
    assert report["torch"] == torch.__version__
    assert [line for line in report["advice"] if line.startswith("cpu")] == []


def test_the_doctor_says_what_is_missing(no_library):
    report = doctor.report()
    assert set(report["backends"]["cpu"].values()) == {"reference"}
    assert report["library"] == "none"
    assert "cpu: there is no compiler" in report["advice"]


def test_the_doctor_builds_nothing_for_the_reference(monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")
    monkeypatch.setattr(native, "status", lambda: pytest.fail("the library was asked for"))
    assert set(doctor.report()["backends"]["cpu"].values()) == {"reference"}


def test_the_doctor_survives_a_backend_that_cannot_be(monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "turbo")
    report = doctor.report()
    assert "FASTCORE_BACKEND must be one of" in report["backends"]["cpu"]["none"]
    assert (
        "FASTCORE_BACKEND=turbo: unset it, or set it to one of auto, reference, cpu, cuda" in report["advice"]
    )


def test_the_doctor_says_how_to_end_a_forced_backend(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    says = {
        "reference": "unset it to use the native library",
        "cuda": "unset it, since torch sees no CUDA device",
    }
    for name, what in says.items():
        monkeypatch.setenv("FASTCORE_BACKEND", name)
        assert f"FASTCORE_BACKEND={name}: {what}" in doctor.report()["advice"]
    monkeypatch.setenv("FASTCORE_BACKEND", "auto")
    assert not any("FASTCORE_BACKEND" in line for line in doctor.report()["advice"])
