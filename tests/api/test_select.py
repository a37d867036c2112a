"""``select``: arguments, errors by their text, and the facts of a run."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import fastcore
from fastcore.inputs import as_device
from fastcore.progress import Progress
from tests.api.material import METHODS, select

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 3
SUBMODULAR = ["facility_location", "graph_cut", "log_det"]


def test_info_is_enough_to_run_it_again():
    first = fastcore.select("k_center", X, 5, labels=Y, seed=11, start="mean", stop_at=0.1)
    info = first.info
    assert info["method"] == "k_center" and info["options"] == {"start": "mean", "stop_at": 0.1}
    assert (info["n"], info["k"], info["budget"], info["seed"], info["metric"]) == (40, 5, 5, 11, "euclidean")
    assert info["balanced"] is True and info["stopped_early"] is False
    assert info["device"] == "cpu" and info["backend"] in ("cpu", "reference")
    assert info["seconds"] > 0 and info["peak_bytes"] >= 0
    assert info["versions"] == {
        "fastcore": fastcore.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }
    again = fastcore.select(
        info["method"],
        X,
        info["budget"],
        labels=Y,
        seed=info["seed"],
        metric=info["metric"],
        **info["options"],
    )
    assert again.indices.tolist() == first.indices.tolist()
    assert json.loads(json.dumps(info)) == info


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak as Linux reports it")
def test_peak_bytes_is_what_the_kernel_saw():
    # In a process of its own, whose peak is known to be low.
    code = (
        "import numpy as np, fastcore\n"
        "fastcore.select('uniform', np.ones((4, 4), 'f4'), 2)\n"
        "data = np.ones((20_000, 2500), 'f2')\n"
        "first = fastcore.select('uniform', data, 2).info['peak_bytes']\n"
        "print(first, fastcore.select('uniform', data[:10], 2).info['peak_bytes'])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = map(int, run.stdout.split())
    assert 200e6 * 0.7 < first < 200e6 * 1.2, "the float32 rows are 200 MB"
    assert second == 0


def test_balance_false_ignores_labels():
    plain = fastcore.select("k_center", X, 7, seed=3)
    assert (
        fastcore.select("k_center", X, 7, labels=Y, balance=False, seed=3).indices.tolist()
        == plain.indices.tolist()
    )
    assert fastcore.select("k_center", X, 7, labels=Y, seed=3).info["balanced"] is True
    assert fastcore.select("k_center", X, 7, labels=Y, balance=True, seed=3).info["balanced"] is True


def test_fraction_is_a_budget():
    assert len(fastcore.select("uniform", X, fraction=0.1)) == 4
    assert len(fastcore.select("uniform", X, fraction=0.001)) == 1
    assert len(fastcore.select("uniform", X, fraction=1)) == 40


def test_balanced_picks_take_turns():
    y = np.repeat([0, 1, 2], [24, 11, 5])
    selection = fastcore.select("k_center", X, 10, labels=y)
    assert np.bincount(y[selection.indices]).tolist() == [6, 3, 1] or np.bincount(
        y[selection.indices]
    ).tolist() == [6, 2, 2]
    turns = y[selection.indices]
    seen = [int((turns[:i] == c).sum()) for i, c in enumerate(turns)]
    assert seen == sorted(seen), "the second pick of a class comes after the first of every class"


def test_stop_at_gives_the_smallest_prefix_that_reaches_it():
    full = fastcore.select("k_center", X, 40, start=0)
    short = fastcore.select("k_center", X, 40, start=0, stop_at=2.0)
    assert short.info["stopped_early"] is True and short.info["budget"] == 40
    assert short.indices.tolist() == full.indices[: len(short)].tolist()
    assert full.gains[len(short)] <= 2.0 < short.gains[-1]
    covered = fastcore.select("facility_location", X, 40, stop_at=0.9)
    everything = fastcore.select("facility_location", X, 40)
    target = 0.9 * everything.gains.sum()
    assert covered.gains.sum() >= target * (1 - 1e-9) > covered.gains[:-1].sum()


@pytest.mark.parametrize("method", SUBMODULAR)
@pytest.mark.parametrize("labels", [None, Y], ids=["whole", "balanced"])
def test_naive_is_lazy(method, labels):
    lazy = fastcore.select(method, X, 9, labels=labels)
    naive = fastcore.select(method, X, 9, labels=labels, optimizer="naive")
    assert naive.indices.tolist() == lazy.indices.tolist()
    np.testing.assert_allclose(naive.gains, lazy.gains, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", SUBMODULAR)
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "stochastic", "epsilon": 0.1},
        {"optimizer": "approximate_lazy", "beta": 0.5},
        {"optimizer": "lazier_than_lazy"},
    ],
    ids=lambda each: each["optimizer"],
)
def test_other_optimizers_come_near(method, options):
    options = options | ({"lam": 0.1} if method == "graph_cut" else {})
    exact = fastcore.select(method, X, 9, **{k: v for k, v in options.items() if k == "lam"})
    near = fastcore.select(method, X, 9, seed=4, **options)
    assert len(set(near)) == 9
    assert near.gains.sum() <= exact.gains.sum() + 1e-6 * abs(exact.gains.sum())
    if method != "log_det":
        assert near.gains.sum() >= 0.6 * exact.gains.sum()


@pytest.mark.parametrize(
    ("optimizer", "default", "other"),
    [
        ("stochastic", {"epsilon": 0.01}, {"epsilon": 0.9}),
        ("lazier_than_lazy", {"epsilon": 0.01}, {"epsilon": 0.9}),
        ("approximate_lazy", {"beta": 0.9}, {"beta": 0.2}),
    ],
)
def test_optimizers_look_at_enough_unless_told_otherwise(optimizer, default, other):
    # With epsilon = 0.9, the default elsewhere, a sample is one row, and the choice random.
    data = np.random.default_rng(2).normal(size=(300, 5))

    def value(**options):
        made = fastcore.select("facility_location", data, 40, optimizer=optimizer, seed=3, **options)
        return made.indices.tolist(), made.gains.sum()

    assert value() == value(**default)
    assert value()[0] != value(**other)[0] and value()[1] > value(**other)[1]


def test_the_seed_decides_and_nothing_else():
    torch.manual_seed(1)
    one = fastcore.select("uniform", X, 10, seed=1).indices
    before = torch.get_rng_state()
    torch.manual_seed(2)
    np.random.seed(9)
    assert one.tolist() == fastcore.select("uniform", X, 10, seed=1).indices.tolist()
    assert one.tolist() != fastcore.select("uniform", X, 10, seed=2).indices.tolist()
    torch.manual_seed(1)
    fastcore.select("k_center", X, 10, seed=1)
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


def test_uniform_is_uniform():
    counts = np.zeros(40)
    for seed in range(600):
        counts[fastcore.select("uniform", X, 10, seed=seed).indices] += 1
    # Binomial(600, 1/4): standard deviation 10.6.
    assert counts.min() > 150 - 5 * 10.6 and counts.max() < 150 + 5 * 10.6
    firsts = [fastcore.select("uniform", X, 1, seed=seed).indices[0] for seed in range(300)]
    assert len(set(firsts)) > 35


def test_the_environment_chooses_the_backend(monkeypatch):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")
    assert fastcore.select("k_center", X, 3).info["backend"] == "reference"
    monkeypatch.setenv("FASTCORE_BACKEND", "cpu")
    assert fastcore.select("k_center", X, 3, backend="reference").info["backend"] == "reference"


def test_uniform_builds_no_native_library(monkeypatch):
    from fastcore import ops

    monkeypatch.setattr(ops, "active_backend", lambda device: pytest.fail("the library was asked for"))
    fastcore.select("uniform", X, 3)


class Terminal:
    def __init__(self, tty):
        self.tty, self.text = tty, ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return self.tty


@pytest.mark.parametrize(
    ("show", "tty", "seen"),
    [
        (True, False, True),
        (True, True, True),
        (False, True, False),
        (None, False, False),
        (None, True, False),
    ],
)
def test_a_bar_shows_when_it_should(monkeypatch, capsys, show, tty, seen):
    terminal = Terminal(tty)
    monkeypatch.setattr(sys, "stderr", terminal)
    fastcore.select("herding", X, 5, progress=show)
    assert ("herding" in terminal.text) is seen, "short work shows no bar unless asked"
    assert capsys.readouterr().out == ""


def test_a_bar_comes_by_itself_when_the_work_is_long(monkeypatch):
    terminal = Terminal(True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("fastcore.progress._QUIET_SECONDS", 1e-3)
    with Progress(10, "k_center") as bar:
        for _ in range(10):
            time.sleep(0.02)
            bar.update(1)
    assert "k_center" in terminal.text


def test_every_pick_is_counted(monkeypatch):
    counted = []
    monkeypatch.setattr(Progress, "update", lambda self, picks: counted.append(picks))
    for method in METHODS:
        counted.clear()
        select(method, X, 10, labels=Y)
        greedy = fastcore.get_method(method).order == "greedy"
        assert sum(counted) == (10 if greedy else 0), method


def test_a_gpu_without_a_number_is_the_current_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert str(as_device("cuda")) == "cuda:1"
    assert str(as_device("cuda:0")) == "cuda:0"
