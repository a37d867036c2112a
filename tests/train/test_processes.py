"""Experiments by several processes, and by one that is killed or interrupted in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastcore.train import reading
from fastcore.train.experiment import processes, read_results, run
from tests.train.experiment_material import FAULTY, experiment, lasting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTCORE_BACKEND", "reference")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FAULTY_NETWORK", str(tmp_path / "order"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def started():
    """Starts an experiment in a process of its own, which does not outlive the test."""
    running = []

    def start(config, folder, **rest):
        recipe = folder.parent / "recipe.yaml"
        recipe.write_text(reading.dump(config))
        code = (
            "import sys; from fastcore.train import reading, experiment\n"
            f"experiment.run(reading.load(sys.argv[1]), sys.argv[2], device='cpu', **{rest!r})"
        )
        command = [sys.executable, "-c", code, str(recipe), str(folder)]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=120):
    """Waits until a condition holds, as long as the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def rows_of(folder):
    return read_results(folder) if (folder / "results.parquet").exists() else []


def test_after_a_kill_it_goes_on_without_the_runs_that_are_finished(tmp_path, started):
    # Long enough to be killed in the middle, whatever the machine.
    config = experiment(methods=["uniform", "herding"], seeds=[0, 1, 2], train={"epochs": 10})
    killed = started(config, tmp_path / "out")
    wait_for(lambda: len(rows_of(tmp_path / "out")) >= 3, killed)
    killed.kill()
    killed.wait()
    before = rows_of(tmp_path / "out")
    assert 3 <= len(before) < 12
    run(config, tmp_path / "out", device="cpu", progress=False)
    after = read_results(tmp_path / "out")
    assert after[: len(before)] == before and len(after) == 12
    run(config, tmp_path / "whole", device="cpu", progress=False)
    assert lasting(after) == lasting(read_results(tmp_path / "whole"))


def test_after_an_interruption_it_goes_on_inside_the_training(tmp_path):
    config = experiment(networks=[FAULTY], methods=["uniform"], fractions=[1], seeds=[0], train={"epochs": 6})
    (tmp_path / "order").write_text("interrupt")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "out", device="cpu", progress=False)
    (checkpoint,) = (tmp_path / "out" / "checkpoints").iterdir()
    assert rows_of(tmp_path / "out") == []
    assert not list((tmp_path / "out" / "locks").glob("*.json"))  # it does not count as a death
    before = checkpoint.read_bytes()
    assert len(before) > 1000

    run(config, tmp_path / "out", device="cpu", progress=False)
    run(config, tmp_path / "whole", device="cpu", progress=False)
    (row,), (whole,) = (read_results(tmp_path / name) for name in ("out", "whole"))
    assert lasting([row]) == lasting([whole])
    assert list((tmp_path / "out" / "checkpoints").iterdir()) == []


def test_a_network_that_selects_goes_on_too(tmp_path, monkeypatch):
    config = experiment(
        networks=[FAULTY], methods=["herding"], fractions=[0.1], seeds=[0], selection={"epochs": [6]}
    )
    (tmp_path / "order").write_text("interrupt")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "out", device="cpu", progress=False)
    (checkpoint,) = (tmp_path / "out" / "cache" / "models").glob("*.pt")
    run(config, tmp_path / "out", device="cpu", progress=False)
    assert not checkpoint.exists()
    run(config, tmp_path / "whole", device="cpu", progress=False)
    assert lasting(read_results(tmp_path / "out")) == lasting(read_results(tmp_path / "whole"))


def test_two_processes_make_the_same_rows_and_outlive_the_death_of_one(tmp_path, capfd):
    config = experiment(
        networks=["mlp", FAULTY], methods=["uniform", "herding"], fractions=[0.1], seeds=[0, 1]
    )
    run(config, tmp_path / "one", device="cpu", progress=False)
    assert len(read_results(tmp_path / "one")) == 8
    capfd.readouterr()
    (tmp_path / "order").write_text("kill")
    run(config, tmp_path / "two", device="cpu", processes=2)
    assert lasting(read_results(tmp_path / "two")) == lasting(read_results(tmp_path / "one"))
    told = capfd.readouterr().err.splitlines()
    deaths = [line for line in told if "killed" in line]
    assert len(deaths) == 1 and "SIGKILL" in deaths[0] and "faulty" in deaths[0]
    assert len([line for line in told if " %, " in line]) == 8


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path, started):
    config = experiment(
        networks=[FAULTY], methods=["uniform"], fractions=[1], seeds=[0, 1], train={"epochs": 10**6}
    )
    (tmp_path / "order").write_text("tell")
    killed = started(config, tmp_path / "out", processes=2)
    wait_for(lambda: len(list(tmp_path.glob("told-*"))) == 2, killed)
    killed.kill()
    killed.wait()
    notes, end = tmp_path / "out" / "locks", time.monotonic() + 60
    # They save where they are, and let go of their runs.
    while list(notes.glob("*.json")) and time.monotonic() < end:
        time.sleep(0.05)
    assert not list(notes.glob("*.json"))
    assert len(list((tmp_path / "out" / "checkpoints").glob("*.pt"))) == 2


def test_the_device_of_a_process(monkeypatch):
    import torch

    assert processes.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [processes.pick_device(None, number).index for number in range(5)] == [0, 1, 2, 3, 0]
    assert processes.pick_device("cuda:2", 1) == torch.device("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert processes.pick_device("cuda", 0) == torch.device("cuda:3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert processes.pick_device(None) == torch.device("cpu")
    with pytest.raises(ValueError, match="torch finds no GPU"):
        processes.pick_device("cuda")


def test_torchrun_starts_the_processes_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert processes.launched() and processes.rank() == 1
    with pytest.raises(ValueError, match="processes must be 1 under torchrun, which starts them, got 2"):
        run(experiment(), tmp_path, processes=2)


@pytest.mark.slow
def test_under_torchrun_every_process_takes_runs_and_the_first_one_tells(tmp_path):
    config = experiment(methods=["uniform", "herding"], seeds=[0])
    (tmp_path / "recipe.yaml").write_text(reading.dump(config))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [
        "-m",
        "fastcore",
        "experiment",
        str(tmp_path / "recipe.yaml"),
        "--output",
        str(tmp_path / "out"),
    ]
    asked = subprocess.run(
        [*launcher, *command, "--device", "cpu"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert asked.returncode == 0, asked.stderr
    assert len([line for line in asked.stderr.splitlines() if " %, " in line]) == 4
    run(config, tmp_path / "one", device="cpu", progress=False)
    assert lasting(read_results(tmp_path / "out")) == lasting(read_results(tmp_path / "one"))
