"""Inputs: every kind of array gives the picks of the plain float32 tensor, and bad ones say what is wrong."""

from __future__ import annotations

import gc
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastcore
from fastcore import inputs

RNG = np.random.default_rng(3)
# Small integers are exact in every dtype, so that all kinds hold the very same numbers.
ROWS = RNG.integers(0, 2, size=(24, 5)) + RNG.permutation(24)[:, None] % 7
ROWS = np.unique(ROWS, axis=0)[:16]


class Offers:
    """An array behind one of the array protocols, and nothing else."""

    def __init__(self, protocol: str, array) -> None:
        self.held = array
        if protocol == "__array_interface__":
            self.__array_interface__ = array.__array_interface__


class OffersArray(Offers):
    def __array__(self, dtype=None, copy=None):
        return self.held


class OffersDlpack(Offers):
    def __dlpack__(self, **options):
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.held.__dlpack_device__()


class BrokenDlpack(OffersArray):
    def __dlpack__(self, **options):
        raise BufferError("read-only")

    def __dlpack_device__(self):
        return (1, 0)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    records = np.zeros(len(array), dtype=[("tag", "u1"), ("rows", "f4", array.shape[1])])
    records["rows"] = array
    return records["rows"]


def memory_map(array, tmp_path):
    np.save(tmp_path / "rows.npy", array.astype(np.float32))
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def frame(array):
    return pytest.importorskip("pandas").DataFrame(array)


def torch_strided(array):
    wide = torch.zeros(len(array) * 2, array.shape[1] * 3)
    wide[::2, ::3] = torch.from_numpy(array).float()
    return wide[::2, ::3]


def negative_bit(array):
    # What `.imag` of a conjugate is: the memory holds the opposite of the values.
    return torch._neg_view(-torch.from_numpy(array).float())


KINDS = {
    **{
        f"torch {d}": lambda a, d=d: torch.from_numpy(a).to(getattr(torch, d))
        for d in (
            "float16",
            "bfloat16",
            "float32",
            "float64",
            "int8",
            "uint8",
            "int16",
            "int32",
            "int64",
            "uint16",
            "float8_e4m3fn",
        )
    },
    "torch strided": torch_strided,
    "torch transposed": lambda a: torch.from_numpy(a).float().T.contiguous().T,
    "torch expanded": lambda a: torch.from_numpy(a).float()[None].expand(3, -1, -1)[1],
    "torch requires_grad": lambda a: torch.from_numpy(a).float().requires_grad_(),
    "torch parameter": lambda a: torch.nn.Parameter(torch.from_numpy(a).float()),
    "torch negative bit": negative_bit,
    **{
        f"numpy {d}": lambda a, d=d: a.astype(d)
        for d in (
            "f2",
            "f4",
            "f8",
            "g",
            "i1",
            "u1",
            "i2",
            "u2",
            "i4",
            "u4",
            "i8",
            "u8",
            ">f4",
            ">f8",
            ">i2",
            "<f4",
        )
    },
    "numpy fortran": lambda a: np.asfortranarray(a.astype(np.float32)),
    "numpy negative strides": lambda a: a.astype(np.float32)[::-1, ::-1].copy()[::-1, ::-1],
    "numpy strided": lambda a: np.repeat(np.repeat(a.astype(np.float32), 2, 0), 3, 1)[::2, ::3],
    "numpy read-only": lambda a: read_only(a.astype(np.float32)),
    "numpy read-only double": lambda a: read_only(a.astype(np.float64)),
    "numpy unaligned record field": unaligned,
    "numpy broadcast": lambda a: np.broadcast_to(a.astype(np.float32), (2, *a.shape))[1],
    "numpy matrix": lambda a: np.asmatrix(a.astype(np.float32)),
    "list of lists": lambda a: a.tolist(),
    "tuple of arrays": lambda a: tuple(a),
    "list of tensors": lambda a: list(torch.from_numpy(a).float()),
    "__array__": lambda a: OffersArray("__array__", a),
    "__array_interface__": lambda a: Offers("__array_interface__", a.astype(np.float32)),
    "__dlpack__": lambda a: OffersDlpack("__dlpack__", torch.from_numpy(a).float()),
    "__dlpack__ that refuses": lambda a: BrokenDlpack("__array__", a),
    "pandas frame": frame,
}


def picks(data, **options):
    return fastcore.select("k_center", data, 6, start=2, **options).indices.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_picks_of_the_plain_tensor(kind):
    data = KINDS[kind](ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = inputs.as_features(data)
    assert (
        rows.dtype == torch.float32 and rows.is_contiguous() and not rows.requires_grad and not rows.is_neg()
    )
    assert torch.equal(rows, torch.from_numpy(ROWS).float())
    assert picks(data) == picks(torch.from_numpy(ROWS).float())


def test_memory_map_is_neither_copied_nor_written_nor_warned_about(tmp_path):
    mapped = memory_map(ROWS, tmp_path)
    before = (tmp_path / "rows.npy").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = inputs.as_features(mapped)
    assert rows.data_ptr() == mapped.__array_interface__["data"][0]
    assert picks(mapped) == picks(ROWS)
    assert (tmp_path / "rows.npy").read_bytes() == before


def test_memory_outlives_the_array_it_came_from():
    rows = inputs.as_features(read_only(np.full((1000, 100), 7, np.float32)))
    gc.collect()
    clutter = [np.zeros((1000, 100), np.float32) for _ in range(5)]
    assert bool((rows == 7).all()) and len(clutter) == 5


@pytest.mark.parametrize("kind", ["numpy f4", "torch float32"])
def test_float32_rows_are_not_copied(kind):
    data = KINDS[kind](ROWS)
    address = data.data_ptr() if isinstance(data, torch.Tensor) else data.__array_interface__["data"][0]
    assert inputs.as_features(data).data_ptr() == address


def test_checks_take_no_copy_of_the_data():
    data = np.ones((40_000, 64), np.float32)
    tracemalloc.start()
    inputs.as_features(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < data.nbytes / 4


@pytest.mark.parametrize(
    "method", ["uniform", "k_center", "facility_location", "graph_cut", "herding", "log_det"]
)
@pytest.mark.parametrize("kind", ["numpy f4", "torch float32", "numpy f8", "torch strided"])
def test_arrays_of_the_user_are_not_written_to(method, kind):
    data, labels, taken = KINDS[kind](ROWS), np.arange(len(ROWS)) % 2, np.array([3, 1])
    before = [np.array(each) for each in (data, labels, taken)]
    fastcore.select(method, data, 6, labels=labels, preselected=taken, weights="cluster").assignments()
    for now, then in zip((data, labels, taken), before, strict=True):
        np.testing.assert_array_equal(np.asarray(now), then)


@pytest.mark.gpu
def test_cuda_tensors_stay_there():
    selection = fastcore.select("k_center", torch.from_numpy(ROWS).cuda(), 6, start=2)
    assert selection.info["device"].startswith("cuda")
    assert selection.indices.tolist() == picks(ROWS)


X = ROWS.astype(np.float64)


def spoiled(value, dtype=np.float64):
    data = X.astype(dtype)
    data[4, 2] = value
    return data


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (
            None,
            TypeError,
            "data must be a torch tensor, a numpy array, anything with DLPack or __array__, "
            "or a list of rows, got NoneType",
        ),
        (7, TypeError, "got int"),
        ("rows", TypeError, "got str"),
        ({"a": 1}, TypeError, "got dict"),
        ((i for i in range(3)), TypeError, "got generator"),
        (
            X[0],
            ValueError,
            "data must have shape (rows, features), got (5,): use data.reshape(-1, 1) for n rows of one "
            "feature, data.reshape(1, -1) for one row",
        ),
        (
            X[None],
            ValueError,
            f"data must have shape (rows, features), got (1, {len(X)}, 5): "
            "flatten every row, data.reshape(len(data), -1)",
        ),
        (np.float32(1.5), ValueError, "data must have shape (rows, features), got ()"),
        (np.zeros((0, 3)), ValueError, "data must not be empty, got shape (0, 3)"),
        (np.zeros((3, 0)), ValueError, "data must not be empty, got shape (3, 0)"),
        ([], ValueError, "data must have shape (rows, features), got (0,)"),
        ([[1, 2], [3]], ValueError, "data must be rows of one length"),
        ([torch.zeros(2), torch.zeros(3)], ValueError, "data must be rows of one shape, dtype and device"),
        (X.astype(complex), TypeError, "data must hold real numbers, got dtype complex128"),
        (
            torch.zeros(3, 2, dtype=torch.complex64),
            TypeError,
            "data must hold real numbers, got dtype torch.complex64",
        ),
        (X.astype(object), TypeError, "data must hold real numbers, got dtype object"),
        (X.astype(str), TypeError, "data must hold real numbers, got dtype <U"),
        (
            torch.zeros(3, 2, device="meta"),
            TypeError,
            "data must hold values, got a tensor on the meta device",
        ),
        (np.ma.masked_less(X, 2), TypeError, "data must hold a value everywhere, got a masked array"),
        (torch.eye(3).to_sparse(), TypeError, "data is sparse: sparse input needs metric='precomputed'"),
        (spoiled(np.nan), ValueError, "data must be finite in float32, got nan at row 4, column 2"),
        (spoiled(-np.inf), ValueError, "data must be finite in float32, got -inf at row 4, column 2"),
        (spoiled(1e300), ValueError, "data must be finite in float32, got 1e+300 at row 4, column 2"),
        (
            spoiled(2e18),
            ValueError,
            "data must have rows of norm at most 1e+18, got 2e+18 at row 4: scale the features down",
        ),
    ],
    ids=str,
)
def test_bad_data_says_what_it_is(data, kind, message):
    with pytest.raises(kind) as caught:
        fastcore.select("k_center", data, 2)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_first_bad_value_is_named_beyond_the_first_tile():
    data = np.zeros((9000, 1000), np.float32)
    data[8000, 7] = data[8500, 3] = np.nan
    with pytest.raises(ValueError, match="got nan at row 8000, column 7"):
        inputs.as_features(data)


def test_scipy_sparse_features_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="data is sparse: sparse input needs metric='precomputed'"):
        fastcore.select("k_center", sparse.csr_array(X), 2)


def test_a_row_of_the_largest_norm_is_taken():
    data = X.copy()
    data[3] = 0
    data[3, 1] = 9e17
    assert fastcore.select("k_center", data, 2, start=0).indices.tolist() == [0, 3]


# ---- any array ----------------------------------------------------------------------------------

DTYPES = st.sampled_from(["f2", "f4", "f8", ">f4", ">f8", "i2", "u1", "?"])


@given(st.data(), DTYPES)
def test_any_array_is_read_as_numpy_reads_it(data, dtype):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=7))
    elements = {"allow_nan": False, "allow_infinity": False} if "f" in dtype else {}
    if dtype in ("f8", ">f8"):
        elements |= {"min_value": -1e17, "max_value": 1e17}
    elif dtype in ("f4", ">f4"):
        elements |= {"min_value": -(2.0**56), "max_value": 2.0**56}
    array = data.draw(hnp.arrays(dtype, shape, elements=elements or None))
    rows, columns = (
        data.draw(st.sampled_from([slice(None), slice(None, None, -1), slice(None, None, 2)])) for _ in "rc"
    )
    part = array[rows, columns]
    before = part.copy()
    np.testing.assert_array_equal(inputs.as_features(part).numpy(), part.astype(np.float32))
    np.testing.assert_array_equal(part, before)
