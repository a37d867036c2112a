"""The cache of built libraries: shared, safe against kills and other users, and never built twice."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest

from fastcore.ops import native
from fastcore.ops.native import build, cache, toolchain
from fastcore.ops.native.toolchain import Toolchain, UnavailableError
from tests.native.workshop import ANSWER, wait_until

BUILD = "from fastcore.ops import native; print(native.cached_folder())"
ISAS = len(Toolchain((), "", None, "").instruction_sets)
EVERYTHING = sorted(
    ["library.cpp", "info.cpp", "cpu/dispatch.cpp"] + ISAS * ["cpu/first.cpp", "cpu/second.cpp"]
)


def answer(folder: Path) -> int:
    return ctypes.CDLL(str(folder / build.LIBRARY)).answer()


def test_a_build_leaves_a_library_that_loads(here, capfd):
    folder = native.cached_folder()
    assert here.cache in folder.parents
    assert answer(folder) == 42
    assert here.compiled() == EVERYTHING
    said = capfd.readouterr()
    assert said.out == ""
    first, second = said.err.splitlines()
    assert first.startswith("fastcore: building the native library with")
    assert second.startswith("fastcore: built in ")


def test_a_second_build_is_silent_and_compiles_nothing(here, capfd):
    folder = native.cached_folder()
    here.compiled()
    capfd.readouterr()
    assert native.cached_folder() == folder
    assert here.compiled() == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "text", "again"),
    [
        (
            "cpu/second.cpp",
            "namespace FASTCORE_ISA { int second() { return 3; } }\n",
            ["cpu/second.cpp"] * ISAS,
        ),
        ("cpu/shared.h", "constexpr int kShared = 5;\n", ["cpu/dispatch.cpp"] + ["cpu/first.cpp"] * ISAS),
        ("library.cpp", ANSWER.format(43), ["library.cpp"]),
        ("cpu/third.cpp", "namespace FASTCORE_ISA { int third() { return 3; } }\n", ["cpu/third.cpp"] * ISAS),
    ],
)
def test_an_edit_rebuilds_what_it_changes_and_no_more(here, name, text, again):
    before = native.cached_folder()
    here.compiled()
    here.write(name, text)
    os.utime(here.csrc / name, (1, 1))  # older than every object: what counts is the content
    after = native.cached_folder()
    assert after != before
    assert here.compiled() == again
    assert answer(after) == (43 if name == "library.cpp" else 42)
    assert answer(before) == 42


def test_new_times_without_new_content_rebuild_nothing(here):
    folder = native.cached_folder()
    here.compiled()
    for source in here.csrc.rglob("*.cpp"):
        os.utime(source)
    assert native.cached_folder() == folder
    assert here.compiled() == []


def test_an_edit_taken_back_finds_the_old_library(here):
    folder = native.cached_folder()
    here.write("library.cpp", ANSWER.format(43))
    native.cached_folder()
    here.compiled()
    here.write("library.cpp", ANSWER.format(42))
    assert native.cached_folder() == folder
    assert here.compiled() == []


def test_other_flags_make_another_library(here):
    folder = native.cached_folder()
    flags = here.csrc / "flags.txt"
    flags.write_text(flags.read_text().replace("-O3", "-O1"))
    assert native.cached_folder() != folder


def test_another_torch_makes_another_library(here):
    folder = native.cached_folder()
    assert build.plan(here.csrc, toolchain.find()).library_key == folder.name
    other = dataclasses.replace(toolchain.find(), torch_version="2.99.0")
    assert build.plan(here.csrc, other).library_key != folder.name


def test_two_cold_processes_share_one_build(workshop):
    hold = workshop.hold("library.cpp")
    processes = [workshop.start(BUILD), workshop.start(BUILD)]
    wait_until(lambda: any(line[1] == "csrc/library.cpp" for line in workshop.log()))
    time.sleep(3)  # time for the other process to come to the lock
    hold.unlink()
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert results[0][0] == results[1][0] != ""
    assert workshop.compiled() == EVERYTHING
    said = "".join(err for _, err in results)
    assert said.count("fastcore: built in") == 1
    assert said.count("waiting") == 1


def test_a_killed_build_is_continued_by_the_next(workshop):
    hold = workshop.hold("library.cpp")
    process = workshop.start(BUILD)
    wait_until(lambda: sum(line[0] == "end" for line in workshop.log()) == len(EVERYTHING) - 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (objects,) = (workshop.cache / "objects").iterdir()
    (objects / "library.cpp.o").write_bytes(b"half an object")
    hold.unlink()
    workshop.compiled()
    folder, said = workshop.run(BUILD)
    assert "waiting" not in said
    assert answer(Path(folder)) == 42
    again = workshop.compiled()
    assert "library.cpp" in again
    assert len(again) <= 2  # ninja had no time to note the one that ended last


def test_compilers_that_outlive_their_process_keep_others_out(workshop):
    hold = workshop.hold("library.cpp")
    first = workshop.start(BUILD)
    wait_until(lambda: any(line[1] == "csrc/library.cpp" for line in workshop.log()))
    first.kill()  # the process alone: ninja and the compiler live on
    first.communicate()
    second = workshop.start(BUILD)
    time.sleep(3)
    assert [line[0] for line in workshop.log() if line[1] == "csrc/library.cpp"] == ["start"]
    hold.unlink()
    out, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert answer(Path(out.strip())) == 42
    events = [line[0] for line in workshop.log() if line[1] == "csrc/library.cpp"]
    assert events[:2] == ["start", "end"]


def test_what_others_can_write_to_is_refused(here):
    folder = native.cached_folder()
    for path in [here.cache, folder.parent, folder, folder / build.LIBRARY]:
        for mode in (0o720, 0o702, 0o777):
            path.chmod(mode)
            with pytest.raises(UnavailableError, match=f"other users can write to {path}, .*chmod go-w"):
                native.cached_folder()
        path.chmod(0o700)
        assert native.cached_folder() == folder


def test_objects_that_others_can_write_to_are_refused(here):
    native.cached_folder()
    (objects,) = (here.cache / "objects").iterdir()
    objects.chmod(0o770)
    here.write("library.cpp", ANSWER.format(43))
    with pytest.raises(UnavailableError, match=f"other users can write to {objects}"):
        native.cached_folder()


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    if os.geteuid() == 0:
        os.chown(tmp_path, 12345, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UnavailableError, match="belongs to another user"):
        cache.require_private(tmp_path)


def test_a_loose_umask_makes_no_cache_that_is_refused(here):
    before = os.umask(0)
    try:
        folder = native.cached_folder()
    finally:
        os.umask(before)
    assert native.cached_folder() == folder


def test_a_refused_cache_means_the_reference_and_one_warning(workshop):
    workshop.cache.mkdir(mode=0o700)
    workshop.cache.chmod(0o777)
    code = "from fastcore import ops; print(ops.active_backend('cpu'), ops.active_backend('cpu'))"
    out, said = workshop.run(code)
    assert out == "reference reference"
    assert said.count("RuntimeWarning") == 1
    assert f"other users can write to {workshop.cache}" in said
    assert workshop.compiled() == []


@pytest.mark.parametrize("home", ["/proc", "a file"])
def test_a_home_that_cannot_be_written_to(here, monkeypatch, home):
    if home == "a file":
        home = str(here.folder / "file")
        Path(home).touch()
    monkeypatch.delenv("FASTCORE_CACHE")
    monkeypatch.setenv("HOME", home)
    with pytest.warns(RuntimeWarning, match=f"cannot write to {home}/.cache/fastcore") as warned:
        folder = native.cached_folder()
    assert len(warned) == 1
    private = Path(here.environment["TMPDIR"]) / f"fastcore-{os.getuid()}"
    assert private in folder.parents
    assert private.stat().st_mode & 0o777 == 0o700
    assert answer(folder) == 42
    here.compiled()
    with pytest.warns(RuntimeWarning, match="cannot write to"):
        assert native.cached_folder() == folder
    assert here.compiled() == []


def test_nowhere_to_write_means_the_reference(workshop):
    del workshop.environment["FASTCORE_CACHE"]
    workshop.environment["HOME"] = "/proc"
    (Path(workshop.environment["TMPDIR"]) / f"fastcore-{os.getuid()}").touch()
    out, said = workshop.run("from fastcore import ops; print(ops.active_backend('cpu'))")
    assert out == "reference"
    assert "Using the reference backend" in said


def test_the_cache_follows_its_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("FASTCORE_CACHE", "~/mine")
    assert cache.configured() == tmp_path / "mine"
    monkeypatch.delenv("FASTCORE_CACHE")
    assert cache.configured() == tmp_path / "xdg" / "fastcore"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.configured() == tmp_path / ".cache" / "fastcore"
