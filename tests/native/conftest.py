"""The toy library in a folder of its own, with a cold cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fastcore.ops.native.toolchain import find_cxx
from tests.native.workshop import COMPILER, ROOT, TOY, Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Starts with a cold cache. The environment is that of a user who set nothing else."""
    shop = Workshop(tmp_path)
    for name, text in TOY.items():
        shop.write(name, text)
    shutil.copy(ROOT / "csrc" / "flags.txt", shop.csrc)
    (tmp_path / "hold").mkdir()
    compiler = tmp_path / "logging-compiler"
    compiler.write_text(COMPILER.replace("{real}", " ".join(find_cxx())))
    compiler.chmod(0o755)
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("FASTCORE_", "XDG_"))}
    shop.environment = keep | {
        "FASTCORE_CSRC": str(shop.csrc),
        "FASTCORE_CACHE": str(shop.cache),
        "FASTCORE_CUDA": "0",
        "CXX": str(compiler),
        "LOG": str(tmp_path / "log"),
        "HOLD": str(tmp_path / "hold"),
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "MAX_JOBS": "2",
    }
    (tmp_path / "home").mkdir()
    (tmp_path / "temporary").mkdir()
    return shop


@pytest.fixture
def here(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """The workshop with its environment set in this process."""
    for name in [name for name in os.environ if name.startswith(("FASTCORE_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in workshop.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", workshop.environment["TMPDIR"])
    return workshop
