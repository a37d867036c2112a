"""A toy library that compiles in no time, a compiler that keeps a log, and processes that build."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() {{ return {}; }}\n'
TOY = {
    "library.cpp": ANSWER.format(42),
    "info.cpp": 'extern "C" int info() { return 1; }\n',
    "cpu/dispatch.cpp": '#include "cpu/shared.h"\n',
    "cpu/first.cpp": '#include "cpu/shared.h"\nnamespace FASTCORE_ISA { int first() { return kShared; } }\n',
    "cpu/second.cpp": "namespace FASTCORE_ISA { int second() { return 2; } }\n",
    "cpu/shared.h": "constexpr int kShared = 1;\n",
}

COMPILER = """\
#!/bin/sh
# Compiles with the real compiler. Every compilation of a source leaves two lines in $LOG, and waits where the
# file $HOLD/<source> exists until it is gone.
source=
for word in "$@"; do case $word in csrc/*.cpp) source=$word ;; esac; done
if [ -n "$source" ]; then
    echo "start $source $$" >> "$LOG"
    while [ -e "$HOLD/$(basename "$source")" ]; do sleep 0.05; done
fi
{real} "$@"
code=$?
[ -n "$source" ] && echo "end $source $$" >> "$LOG"
exit $code
"""


@dataclass
class Workshop:
    """A folder with the sources of the toy, a cache, and a compiler that keeps a log."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def csrc(self) -> Path:
        return self.folder / "csrc"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def write(self, name: str, text: str) -> None:
        path = self.csrc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def hold(self, name: str) -> Path:
        """From now on the compilation of a source waits until the returned file is removed."""
        path = self.folder / "hold" / name
        path.touch()
        return path

    def log(self) -> list[list[str]]:
        """The lines of the compiler's log so far: start or end, source, process."""
        path = self.folder / "log"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def compiled(self) -> list[str]:
        """The sources whose compilation was started since the last call, sorted."""
        lines = self.log()
        (self.folder / "log").unlink(missing_ok=True)
        return sorted(source.removeprefix("csrc/") for event, source, _ in lines if event == "start")

    def start(self, code: str) -> subprocess.Popen[str]:
        """A Python process of its own, with its children in a process group of their own."""
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, code: str) -> tuple[str, str]:
        """Standard output and error of a Python process that must succeed."""
        process = self.start(code)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out.strip(), err


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for another process to get somewhere."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
