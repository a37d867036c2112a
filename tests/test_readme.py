"""The README is true: its examples run, its commands exist, its table and the pages are what the registry says."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastcore

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, text: str | None = None) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text or README.read_text(), re.DOTALL | re.MULTILINE)


def generated() -> dict[Path, str]:
    """What docs/generate.py would write."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.files()


@pytest.fixture
def data(digits, monkeypatch, tmp_path) -> dict[str, object]:
    """What the examples take as given, on 300 digits, and the files that the commands read."""
    torch = pytest.importorskip("torch")
    features, labels = digits
    small = features[:300].copy()
    monkeypatch.chdir(tmp_path)
    np.save("features.npy", small)
    np.save("labels.npy", labels[:300])
    np.savez("gradients.npz", delta=small[:, :10], h=small[:, 10:])
    tensors = torch.tensor(features), torch.tensor(labels).long()
    train, test = (
        torch.utils.data.TensorDataset(*(each[part] for each in tensors))
        for part in (slice(300), slice(300, 500))
    )
    network = torch.nn.Sequential(torch.nn.Linear(64, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10))
    unit = small / np.linalg.norm(small, axis=1, keepdims=True)
    return {
        "features": small,
        "my_rows": small,
        "more_features": features[300:500],
        "labels": labels[:300],
        "similarity": unit @ unit.T,
        "network": network,
        "train": train,
        "test": test,
        "epochs": 2,
        "loader": [(torch.arange(300), *(each[:300] for each in tensors))],
        "delta": small[:, :10],
        "h": small[:, 10:],
        "dataset": torch.utils.data.TensorDataset(torch.from_numpy(small)),
    }


def test_the_examples_run(data, monkeypatch):
    # As torchrun starts a world of one process.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    for name, value in world.items():
        monkeypatch.setenv(name, str(value))
    try:
        _run_the_examples(data)
    finally:
        distributed = pytest.importorskip("torch").distributed
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _run_the_examples(data):
    examples = blocks("python")
    assert len(examples) >= 7
    for number, example in enumerate(examples, start=1):
        exec(compile(example, f"README.md, python block {number}", "exec"), data)
    chosen, covering = data["chosen"], data["covering"]
    assert covering.weights.sum() == len(data["features"])
    assert set(covering.indices[data["owner"]]) == set(covering.indices)
    assert len(data["new"]) == 50 and len(data["small"]) == len(chosen)
    assert set(data["first"].indices).isdisjoint(data["more"].indices)
    np.testing.assert_array_equal(data["again"].indices, chosen.indices)


def test_the_method_of_the_guide_runs(data):
    (example,) = blocks("python", (ROOT / "docs" / "adding-a-method.md").read_text())
    registry = pytest.importorskip("fastcore.registry")
    exec(compile(example, "adding-a-method.md", "exec", dont_inherit=True), {})
    try:
        features, labels = data["features"], data["labels"]
        distance = np.linalg.norm(features - features.mean(0), axis=1)
        chosen = fastcore.select("nearest_to_mean", features, 20)
        assert chosen.indices.tolist() == distance.argsort()[:20].tolist()
        balanced = fastcore.select("nearest_to_mean", features, 20, labels=labels)
        assert sorted(labels[balanced.indices]) == sorted([*range(10)] * 2)
    finally:
        del registry._methods["nearest_to_mean"]


def test_the_commands_run(data):
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("fastcore ")]
    assert len(commands) >= 3
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in commands:
        words = [sys.executable, "-m", *shlex.split(command, comments=True)]
        result = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert result.returncode == 0, f"{command}:\n{result.stderr}"
    assert len(fastcore.load("coreset.npz")) == 100


def test_the_pages_and_the_table_of_methods_are_what_the_registry_says():
    expected = generated()
    stale = [path.name for path, text in expected.items() if not path.exists() or path.read_text() != text]
    assert stale == [], "write them anew with: .venv/bin/python docs/generate.py"
    assert {path.stem for path in (ROOT / "docs" / "methods").glob("*.md")} == set(fastcore.list_methods())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(path):
    text = path.read_text()
    code = [*blocks("sh", text), *re.findall(r"`([^`\n]+)`", text)]
    named = {target for part in code for target in re.findall(r"\bmake ([a-z]+)", part)}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets
    assert {"demo", "test", "lint", "format", "bench", "clean", "help"} <= targets


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)", path.read_text())
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_help_lists_every_target():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make (\w+)", listed, re.MULTILINE)) == {
        "help", "demo", "test", "lint", "format", "bench", "clean"
    }  # fmt: skip
