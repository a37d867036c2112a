"""Which module may import which: the layers of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastcore"

# From the bottom up. A module may import from lines above its own, and a package from itself.
LAYERS = [
    ["arrays"],
    ["checks", "environment", "figures", "files", "inputs", "memory", "numerics", "progress"],
    ["ops"],
    ["gradients", "rows"],
    ["reduced_gradients"],
    ["divergence", "similarity"],
    ["budget"],
    ["greedy"],
    ["assignment"],
    ["registry", "selection"],
    ["methods"],
    ["signals"],
    ["needs"],
    ["distributed"],
    ["api"],
    ["__init__"],
    ["train"],
    ["demo", "doctor"],
    ["cli"],
    ["__main__"],
]
# The registry finds the methods by itself when it is first asked; it knows none of them by name.
EXCEPT = {("registry", "methods")}
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}

# What `import fastcore` and a selection must not load: it is slow, or not always installed.
HEAVY = ["PIL", "matplotlib", "pandas", "pyarrow", "rich", "safetensors", "scipy", "sklearn", "tensorboard"]
HEAVY += ["torchvision", "typer", "yaml"]


def test_every_module_has_a_layer():
    assert sorted(MODULES - set(RANKS)) == [], "give the new module a line in LAYERS"


def test_every_module_is_in_the_guide():
    guide = (ROOT / "docs" / "architecture.md").read_text()
    assert [name for name in sorted(MODULES) if not name.startswith("__") and f"`{name}`" not in guide] == []


def test_imports_point_down():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20
    found = [arrows_upward(path.read_text(), path.relative_to(PACKAGE)) for path in files]
    assert sum(found, []) == []


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("from fastcore.methods.herding import herding", "greedy/herding.py"),
        ("import fastcore.greedy.lazy", "similarity.py"),
        ("def f():\n    from fastcore import api", "budget.py"),
        ("from fastcore import select", "methods/uniform.py"),
        ("import fastcore\nfastcore.select", "greedy/lazy.py"),
        ("from ..registry import method", "ops/project.py"),
        ("from .. import cli", "demo/figures.py"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fastcore.api", "ops/project.py"),
        ("import importlib\nimportlib.import_module('fastcore.api')", "ops/project.py"),
    ],
)
def test_an_arrow_upward_is_found(source, path):
    assert len(arrows_upward(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("from fastcore.ops.project import project", "similarity.py"),
        ("from . import choice", "ops/project.py"),
        ("from fastcore.ops import choice", "ops/project.py"),
        ("import torch\nfrom numpy import linalg", "ops/project.py"),
        ("import fastcore\nfastcore.select", "demo/experiment.py"),
        ("import fastcore\nfastcore.__version__", "api.py"),
        ("from fastcore import __version__", "selection.py"),
    ],
)
def test_an_arrow_downward_is_not(source, path):
    assert arrows_upward(source, Path(path)) == []


def test_import_loads_little_and_builds_nothing(tmp_path):
    code = (
        "import sys, fastcore\n"
        "assert 'torch' not in sys.modules\n"
        "fastcore.list_methods()\n"
        f"loaded = sorted(set({HEAVY}) & set(sys.modules))\n"
        "assert not loaded, loaded\n"
    )
    environment = {"PATH": "", "FASTCORE_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert not (tmp_path / "cache").exists()


def arrows_upward(source: str, path: Path) -> list[str]:
    """Imports in the module at ``path``, relative to the package, of a module that is not below it."""
    here = path.parts[0].removesuffix(".py")
    package = ("fastcore", *path.parent.parts)
    found = []
    for node in ast.walk(ast.parse(source)):
        for target in targets(node, package) - {here}:
            below = RANKS.get(target, len(LAYERS)) < RANKS.get(here, 0)
            if not below and (here, target) not in EXCEPT:
                found.append(f"{path}:{node.lineno}: {here} imports {target}")
    return found


def targets(node: ast.AST, package: tuple[str, ...]) -> set[str]:
    """The top modules of fastcore that an import, a call of import_module or a `fastcore.name` refers to."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names if alias.name != "fastcore"]
    elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "fastcore":
        names = [f"fastcore.{node.attr}"]
    elif isinstance(node, ast.ImportFrom):
        base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
        base = ".".join(filter(None, [base, node.module]))
        names = [f"{base}.{alias.name}" for alias in node.names] if base == "fastcore" else [base]
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module" and node.args:
        names = [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
    else:
        return set()
    found = set()
    for top, *rest in (name.split(".") for name in names):
        if top == "fastcore" and rest != ["__version__"]:
            found.add(rest[0] if rest and rest[0] in MODULES else "__init__")
    return found
