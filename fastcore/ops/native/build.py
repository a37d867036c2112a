"""The build of the native library with ninja, in a folder of objects that rebuilds only what changed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from fastcore.ops.native.toolchain import Toolchain, UnavailableError, read_flags

LIBRARY = "fastcore.so"
INFO = "_info" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")
FACTS = "build.json"
COMPILE = """\
rule compile_{tool}
  command = ${tool} $flags -MMD -MF $out.d -c $in -o $out
  deps = gcc
  depfile = $out.d"""


class BuildError(UnavailableError):
    """The compiler rejected the sources."""


@dataclass(frozen=True)
class Plan:
    """What is compiled, how, and the names of the folders for the objects and for the library."""

    sources: dict[str, bytes]
    ninja: str
    facts: dict[str, str]
    objects_key: str
    library_key: str


def plan(csrc: Path, toolchain: Toolchain) -> Plan:
    """Read the sources and write the ninja file that builds them.

    Objects are shared by all sources that are compiled with the same commands by the same tools; a library
    belongs to one content of the sources.
    """
    files = sorted(path for path in csrc.rglob("*") if path.suffix in (".cpp", ".h", ".cu", ".cuh"))
    sources = {path.relative_to(csrc).as_posix(): path.read_bytes() for path in files}
    cuda = toolchain.cuda
    facts = {
        "torch": toolchain.torch_version,
        "python": toolchain.python_version,
        "compiler": toolchain.cxx_version.partition("\n")[0],
        "cuda": cuda.version if cuda else "",
        "cuda_archs": ",".join(cuda.archs) if cuda else "",
        "cuda_absent": toolchain.cuda_absent,
    }
    rules = "\n".join(_rules(read_flags(csrc), toolchain))
    ninja = "\n".join([rules, *_edges(sources, toolchain), ""])
    objects_key = _digest([rules, repr(toolchain)])
    return Plan(
        sources, ninja, facts, objects_key, _digest([ninja, objects_key, *map(repr, sources.items())])
    )


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _rules(flags: dict[str, list[str]], toolchain: Toolchain) -> list[str]:
    """Ninja variables, one for each kind of file, and rules."""
    root = Path(torch.__file__).parent
    cuda = toolchain.cuda
    v3 = ["-DFASTCORE_HAS_V3"] if "v3" in toolchain.instruction_sets else []
    link = [f"-L{root / 'lib'}", *flags["link_torch"]]
    if sys.platform == "darwin":
        link = [flag for flag in link if not flag.startswith("-Wl")] + ["-undefined", "dynamic_lookup"]
    variables = {
        "cxx": [*toolchain.cxx, *flags["cxx"], "-Icsrc"],
        "linker": [*toolchain.cxx, *flags["link"]],
        "base": ["-DFASTCORE_ISA=base"],
        "v3": ["-DFASTCORE_ISA=v3", *flags["v3"]],
        "dispatch": v3,
        "library": [
            "-isystem",
            str(root / "include"),
            *flags["torch"],
            *(["-DFASTCORE_CUDA"] if cuda else []),
        ],
        "info": [*_python_includes(), *v3, *_info_defines(flags, toolchain)],
        "nvcc": [],
        "gencode": [],
    }
    if cuda is not None:
        codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in cuda.archs]
        newest = cuda.archs[-1]
        variables["nvcc"] = [cuda.nvcc, *flags["cuda"], "-Icsrc", "-Icsrc/cuda"]
        variables["gencode"] = [*codes, f"-gencode=arch=compute_{newest},code=compute_{newest}"]
        folders = ("lib64", "lib", f"targets/{toolchain.machine}-linux/lib")
        link += [*(f"-L{cuda.toolkit / folder}" for folder in folders), *flags["link_cuda"]]
    variables["libraries"] = link
    return [
        *(f"{name} = {shlex.join(words).replace('$', '$$')}" for name, words in variables.items()),
        *(COMPILE.replace("{tool}", tool) for tool in ("cxx", "nvcc")),
        "rule link\n  command = $linker -o $out $in $libraries",
    ]


def _python_includes() -> list[str]:
    found = importlib.util.find_spec("pybind11")
    folders = [sysconfig.get_path("include")]
    if found is not None and found.origin is not None:
        folders.append(str(Path(found.origin).parent / "include"))
    return [word for folder in folders for word in ("-isystem", folder)]


def _info_defines(flags: dict[str, list[str]], toolchain: Toolchain) -> list[str]:
    cuda = toolchain.cuda
    facts = {
        "FLAGS": shlex.join(flags["cxx"]),
        "CUDA_VERSION": cuda.version if cuda else "",
        "CUDA_ARCHS": ",".join(cuda.archs) if cuda else "",
    }
    return [f"-DFASTCORE_{name}={json.dumps(value)}" for name, value in facts.items()]


def _edges(sources: dict[str, bytes], toolchain: Toolchain) -> list[str]:
    """One build line per object, then the library and the module of facts.

    Objects of the plain instruction set come first: where the same inline function is in several objects the
    linker keeps the first, and that one must run on every machine.
    """
    lines, objects = [], []

    def compile_(source: str, tool: str, flags: str, suffix: str = "") -> str:
        target = source.replace("/", "_") + suffix + ".o"
        lines.append(f"build {target}: compile_{tool} csrc/{source}\n  flags = ${flags}")
        return target

    objects.append(compile_("library.cpp", "cxx", "library"))
    objects.append(compile_("cpu/dispatch.cpp", "cxx", "dispatch"))
    kernels = [name for name in sources if name.startswith("cpu/") and name.endswith(".cpp")]
    kernels.remove("cpu/dispatch.cpp")
    for isa in toolchain.instruction_sets:
        objects += [compile_(source, "cxx", isa, f".{isa}") for source in kernels]
    if toolchain.cuda is not None:
        objects += [compile_(source, "nvcc", "gencode") for source in sources if source.endswith(".cu")]
    lines.append(f"build {LIBRARY}: link {' '.join(objects)}")
    lines.append(f"build {INFO}: link {compile_('info.cpp', 'cxx', 'info')}")
    return lines


def build(what: Plan, objects: Path, target: Path, descriptor: int) -> None:
    """Build in the folder `objects` and move the library into `target`, while holding the lock of `objects`.

    Sources are mirrored by content, so that a time of modification means what ninja takes it to mean,
    whatever a package manager or a checkout made of it. Raises BuildError with the compiler's first error.
    """
    for name, content in what.sources.items():
        _write_if_changed(objects / "csrc" / name, content)
    _write_if_changed(objects / "build.ninja", what.ninja.encode())
    for name in (LIBRARY, INFO):
        (objects / name).unlink(missing_ok=True)  # what is there after the run was linked by it
    tools = what.facts["compiler"] + (f" and CUDA {what.facts['cuda']}" if what.facts["cuda"] else "")
    print(f"fastcore: building the native library with {tools} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    log = _run_ninja(objects, descriptor)
    if not (objects / LIBRARY).exists():
        raise BuildError(f"the native build failed: {_first_error(log)} (see {objects / 'build.log'})")
    if not (objects / INFO).exists():
        message = f"fastcore: no module of build facts: {_first_error(log)} (the ops are not affected)"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    (target / FACTS).write_text(json.dumps(what.facts, indent=1))
    for name in (INFO, LIBRARY):  # the library last: where it is, all is there
        if (objects / name).exists():
            (objects / name).chmod(0o755)
            os.replace(objects / name, target / name)
    print(f"fastcore: built in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)


def _write_if_changed(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _run_ninja(objects: Path, descriptor: int) -> str:
    """What ninja and the compilers print. They inherit the lock: see cache.lock."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = os.environ.get("MAX_JOBS") or str(processors)
    done = subprocess.run(
        [_find_ninja(), "-C", str(objects), "-j", jobs, "-k", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(descriptor,),
        check=False,
    )
    (objects / "build.log").write_text(done.stdout)
    return done.stdout


def _find_ninja() -> str:
    found = None
    if importlib.util.find_spec("ninja") is not None:
        import ninja

        found = shutil.which("ninja", path=ninja.BIN_DIR)
    found = found or shutil.which("ninja")
    if found is None:
        raise UnavailableError("ninja is missing; pip install ninja")
    return found


def _first_error(log: str) -> str:
    lines = log.splitlines()
    return next((line for line in lines if "error:" in line.lower()), lines[-1] if lines else "no output")
