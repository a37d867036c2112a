"""Saved selections: whole or absent, data and never code, and a stranger's file is refused."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

import fastcore
from fastcore import files
from tests.api.material import COMPARING, METHODS, select

X = np.random.default_rng(7).normal(size=(60, 5)).astype(np.float32)
Y = np.arange(60) % 4


@pytest.fixture
def selection():
    return fastcore.select("k_center", X, 9, labels=Y, weights="cluster", seed=2)


def same(one, other):
    for name in ("indices", "gains", "scores", "weights"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        if first is not None:
            np.testing.assert_array_equal(first, second)
            assert first.dtype == second.dtype
    assert one.info == other.info


def test_copies(selection):
    for other in (copy.deepcopy(selection), pickle.loads(pickle.dumps(selection))):
        same(selection, other)
        np.testing.assert_array_equal(other.assignments(), selection.assignments())


@pytest.mark.parametrize("method", METHODS)
def test_save_and_load(tmp_path, method):
    comparing = method in COMPARING
    original = select(
        method, X, 9, labels=Y, weights="cluster" if comparing and method != "uniform" else None
    )
    path = tmp_path / "coreset"  # the name is used as it is
    original.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["coreset"]
    loaded = fastcore.load(str(path))
    same(original, loaded)
    with np.load(path, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["indices"], original.indices)
    if not comparing:
        with pytest.raises(ValueError, match="compares no rows"):
            loaded.assignments(X, Y)
        return
    np.testing.assert_array_equal(loaded.assignments(X, Y), original.assignments())
    with pytest.raises(ValueError, match="are gone"):
        loaded.assignments()
    with pytest.raises(ValueError, match=r"this selection is balanced: pass its labels"):
        loaded.assignments(X)


def test_options_of_numpy_types_are_saved(tmp_path):
    selection = fastcore.select("graph_cut", X, 3, lam=np.float32(0.5))
    selection.save(tmp_path / "x.npz")
    assert fastcore.load(tmp_path / "x.npz").info["options"]["lam"] == 0.5


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def archive(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def tampered(path, selection, **changes):
    selection.save(path)
    with np.load(path) as held:
        arrays = dict(held)
    arrays.update({name: value for name, value in changes.items() if value is not None})
    archive(
        path,
        **{name: value for name, value in arrays.items() if name not in changes or changes[name] is not None},
    )


def test_other_files_are_refused(tmp_path, selection, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npz"
    with pytest.raises(FileNotFoundError):
        fastcore.load(path)
    strangers = {
        "empty": lambda: path.write_bytes(b""),
        "text": lambda: path.write_text("indices"),
        "array": lambda: path.write_bytes(b"") or np.save(open(path, "wb"), X),
        "other archive": lambda: archive(path, x=X),
        "pickle": lambda: path.write_bytes(pickle.dumps(Trap())),
        "pickle in archive": lambda: archive(path, fastcore_selection=np.array(Trap(), dtype=object)),
        "zip": lambda: zipfile.ZipFile(path, "w").close(),
        "cut short": lambda: (selection.save(path), path.write_bytes(path.read_bytes()[:-40])),
    }
    for name, make in strangers.items():
        make()
        with pytest.raises(ValueError, match="x.npz is not a selection saved by fastcore"):
            fastcore.load(path)
        assert not os.path.exists("sprung"), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fastcore_selection": np.array(9)}, "has format 9, and this fastcore reads up to 1"),
        ({"indices": np.array([0, 0, 1])}, "is a damaged selection: its indices are not unique row numbers"),
        ({"indices": np.arange(9.0)}, "its indices are not unique row numbers"),
        ({"indices": np.arange(9) + 55}, "its indices are not rows of 60"),
        ({"indices": None}, "is a damaged selection"),
        ({"gains": np.ones(8)}, r"its gains have shape \(8,\), not \(9,\)"),
        ({"weights": np.ones((9, 1))}, r"its weights have shape \(9, 1\), not \(9,\)"),
        ({"scores": np.ones(9)}, r"its scores have shape \(9,\), not \(60,\)"),
        ({"info": np.array("{}")}, "its info is incomplete"),
        ({"info": np.array("{")}, "is a damaged selection"),
        ({"extra": np.ones(1)}, "is a damaged selection"),
    ],
)
def test_damaged_files_say_what_is_wrong(tmp_path, selection, changes, message):
    tampered(tmp_path / "x.npz", selection, **changes)
    with pytest.raises(ValueError, match=message):
        fastcore.load(tmp_path / "x.npz")


# ---- writing ------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, selection, monkeypatch):
    path = tmp_path / "x.npz"
    path.write_bytes(b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*x\.npz: No space left on device") as caught:
        selection.save(path)
    assert caught.value.errno == 28
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"] and path.read_bytes() == b"old"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files")
def test_a_write_cut_short_by_the_kernel_leaves_nothing(tmp_path):
    code = f"""
        import resource, numpy as np
        from fastcore.files import write_atomic
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            write_atomic({str(tmp_path / "x.npz")!r}, bytes(100_000))
        except OSError as error:
            print(error.strerror)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert run.stdout.strip() == f"cannot write {tmp_path / 'x.npz'}: File too large"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path, selection, monkeypatch, moment):
    path = tmp_path / "x.npz"
    selection.save(path)
    before = path.read_bytes()

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        fastcore.select("uniform", X, 3).save(path)
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"] and path.read_bytes() == before


def test_places_that_cannot_be_written(tmp_path, selection):
    for path in (tmp_path / "no" / "x.npz", tmp_path):
        with pytest.raises(OSError, match="cannot write") as caught:
            selection.save(path)
        assert str(path) in str(caught.value)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):  # root may write anywhere
        with pytest.raises(PermissionError, match="cannot write"):
            selection.save(locked / "x.npz")
        assert list(locked.iterdir()) == []


def test_a_device_is_written_to_and_not_replaced():
    files.write_atomic(os.devnull, b"nothing")
    assert not os.path.isfile(os.devnull)


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes and links")
def test_modes_and_links_are_kept(tmp_path):
    path, link = tmp_path / "x", tmp_path / "link"
    old = os.umask(0o027)
    try:
        files.write_atomic(path, b"1")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o600)
    link.symlink_to(path)
    files.write_atomic(link, b"2")
    assert link.is_symlink() and path.read_bytes() == b"2" and path.stat().st_mode & 0o777 == 0o600


def test_info_is_json_in_the_file(tmp_path, selection):
    selection.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as held:
        assert json.loads(str(held["info"]))["method"] == "k_center"
