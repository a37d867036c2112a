"""Arrays of other libraries, on the host and on a GPU: read by torch where numpy refuses, or named in an error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastcore

ROWS = np.random.default_rng(3).permutation(80).reshape(16, 5)
Y = np.arange(len(ROWS)) % 3


def picks(data, **options):
    return fastcore.select("k_center", data, 6, **options).indices.tolist()


class LikeCupy:
    """DLPack, and an ``__array__`` that refuses, as that of an array of a GPU does."""

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held
        if held.is_cuda:
            self.__cuda_array_interface__ = held.__cuda_array_interface__

    def __dlpack__(self, **options):
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.held.__dlpack_device__()

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


class OnlyDlpack(LikeCupy):
    __array__ = property()  # there is no such attribute


class OnlyCuda:
    """``__cuda_array_interface__`` and nothing else, as arrays of numba have."""

    def __init__(self, held: torch.Tensor | None = None) -> None:
        nowhere = {"shape": ROWS.shape, "typestr": "<f4", "data": (4096, False), "version": 3}
        self.__cuda_array_interface__ = nowhere if held is None else held.__cuda_array_interface__


class OnAnotherGpu(OnlyDlpack):
    def __dlpack_device__(self):
        return (2, 97)


@pytest.mark.parametrize("kind", [LikeCupy, OnlyDlpack])
def test_what_numpy_cannot_read(kind):
    data, labels = torch.from_numpy(ROWS).float(), torch.from_numpy(Y)
    assert picks(kind(data)) == picks(ROWS)
    assert picks(kind(data), preselected=kind(data[:2])) == picks(ROWS, preselected=ROWS[:2])
    if kind is LikeCupy:  # without the mark of a GPU numpy is asked first
        labels = LikeCupy(labels)
        labels.__cuda_array_interface__ = {}
    else:
        labels = kind(labels)
    assert picks(ROWS, labels=labels) == picks(ROWS, labels=Y)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [LikeCupy, OnlyDlpack, OnlyCuda])
def test_arrays_of_a_gpu_stay_there(kind):
    data, labels, taken = (
        torch.from_numpy(each).cuda() for each in (ROWS.astype(np.float32), Y, np.array([2, 3]))
    )
    selection = fastcore.select(
        "k_center", kind(data), 6, labels=kind(labels), preselected=kind(taken), weights="cluster"
    )
    assert selection.info["device"].startswith("cuda")
    assert selection.indices.tolist() == picks(ROWS, labels=Y, preselected=[2, 3])


def test_the_cuda_array_interface_is_read(monkeypatch):
    # What torch makes of a pointer into a GPU cannot be seen without one; that it is asked can.
    held, asked, plain = torch.from_numpy(ROWS).float(), [], torch.as_tensor

    def as_tensor(data, *arguments, **options):
        if not isinstance(data, OnlyCuda):
            return plain(data, *arguments, **options)
        asked.append(data)
        return held

    monkeypatch.setattr(torch, "as_tensor", as_tensor)
    data = OnlyCuda()
    assert picks(data) == picks(ROWS) and asked == [data]


def test_memory_of_a_gpu_that_torch_cannot_reach_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    line = "is a OnlyCuda on a GPU that torch cannot read: torch sees no GPU, copy it to the host first"
    for name, arguments in (
        ("data", {"data": OnlyCuda()}),
        ("labels", {"data": ROWS, "labels": OnlyCuda()}),
        ("preselected", {"data": ROWS, "preselected": OnlyCuda()}),
    ):
        with pytest.raises(TypeError) as caught:
            picks(**arguments)
        assert str(caught.value) == f"{name} {line}"
    with pytest.raises(TypeError, match=r"^data is a OnAnotherGpu that torch cannot read: [^\n]+$"):
        picks(OnAnotherGpu(torch.zeros(4, 2)))


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "cpu:1"])
def test_every_name_of_the_cpu(device):
    assert fastcore.select("k_center", ROWS, 6, device=device).info["device"] == "cpu"
