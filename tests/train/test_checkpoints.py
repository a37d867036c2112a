"""Checkpoints: a run that was stopped anywhere goes on bit for bit, and another run's is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from tests.train.training_cases import (
    Chooser,
    config,
    hooked,
    images,
    interrupted,
    network,
    plain_network,
    same_results,
    same_weights,
    train,
)

ADAM = {
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "clip_norm": 0.1,
    "warmup_epochs": 1.0,
    "amp": "bfloat16",
}


@pytest.fixture(autouse=True)
def _keys():
    """A shell that starts tests in the background makes them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stopped(path, step, settings=None, **arguments):
    """Trains until a Ctrl-C at a step."""
    with pytest.raises(KeyboardInterrupt):
        train(interrupted(network(), step), settings, checkpoint=path, **arguments)


@pytest.mark.parametrize("changes", [{}, ADAM], ids=["sgd", "adamw"])
@pytest.mark.parametrize("step", [0, 4, 7, 13, 14])
def test_a_run_goes_on_after_ctrl_c_at_any_step(tmp_path, step, changes):
    settings, path = config(**changes), tmp_path / "run.pt"
    whole = network()
    expected = train(whole, settings)
    stopped(path, step, settings)
    other = network(seed=1)  # the first weights play no part any more
    result = train(other, settings, checkpoint=path)
    assert same_weights(whole, other) and same_results(expected, result)
    assert result.dynamics.seen.all()


def test_a_run_may_be_stopped_twice(tmp_path):
    whole = network()
    expected = train(whole)
    stopped(tmp_path / "run.pt", 2)
    stopped(tmp_path / "run.pt", 6)
    other = network()
    result = train(other, checkpoint=tmp_path / "run.pt")
    assert same_weights(whole, other) and same_results(expected, result)


def test_the_checkpoint_of_ctrl_c_is_of_that_step(tmp_path):
    stopped(tmp_path / "run.pt", 7)
    state = torch.load(tmp_path / "run.pt", weights_only=True)["state"]
    assert (state["epoch"], state["step"], state["steps"]) == (1, 3, 8)
    assert len(state["history"]) == 1


@pytest.mark.parametrize("step", [3, 5, 6, 8])
def test_chosen_rows_go_on_too(tmp_path, step):
    settings, whole, chooser = config(epochs=4), network(), Chooser()
    expected = train(whole, settings, subset=chooser)
    stopped(tmp_path / "run.pt", step, settings, subset=Chooser())
    other, again = network(), Chooser()
    result = train(other, settings, subset=again, checkpoint=tmp_path / "run.pt")
    assert same_weights(whole, other) and same_results(expected, result)
    assert again.calls == chooser.calls == [0, 1, 2, 3]


def test_a_choice_that_ctrl_c_came_into_is_not_made_again(tmp_path):
    class Interrupted(Chooser):
        def choose(self, epoch, model, recorder):
            if epoch == 1:
                signal.raise_signal(signal.SIGINT)
            return super().choose(epoch, model, recorder)

    whole, other, chooser = network(), network(), Chooser()
    expected = train(whole, subset=Chooser())
    with pytest.raises(KeyboardInterrupt):
        train(network(), subset=Interrupted(), checkpoint=tmp_path / "run.pt")
    chooser.__class__ = type("Interrupted", (Chooser,), {})
    result = train(other, subset=chooser, checkpoint=tmp_path / "run.pt")
    assert same_weights(whole, other) and same_results(expected, result)
    assert chooser.calls == [0, 1, 2]


def test_a_finished_run_returns_at_once(tmp_path):
    first, again = network(), hooked(network(seed=1), lambda: pytest.fail("it was trained again"), 0)
    one = train(first, checkpoint=tmp_path / "run.pt")
    two = train(again, checkpoint=tmp_path / "run.pt")
    assert same_results(one, two) and same_weights(first, again)
    assert one.history == two.history and one.seconds == two.seconds


def test_a_run_of_no_epochs_has_a_checkpoint(tmp_path):
    one = train(network(), config(epochs=0), checkpoint=tmp_path / "run.pt")
    assert same_results(one, train(network(), config(epochs=0), checkpoint=tmp_path / "run.pt"))


def test_ctrl_c_in_the_last_test_of_a_run(tmp_path):
    """The run is over, but whoever pressed the keys hears of it."""
    model = network()
    model.register_forward_pre_hook(
        lambda module, given: None if module.training else signal.raise_signal(signal.SIGINT)
    )
    with pytest.raises(KeyboardInterrupt):
        train(model, config(evaluate_every=3), checkpoint=tmp_path / "run.pt")
    again = hooked(network(), lambda: pytest.fail("it was trained again"), 0)
    assert train(again, config(evaluate_every=3), checkpoint=tmp_path / "run.pt").steps == 15
    assert same_weights(model, again)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    model, before = network(), signal.getsignal(signal.SIGINT)
    steps = []
    model.register_forward_pre_hook(lambda module, given: steps.append(1))

    def twice():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before
        signal.raise_signal(signal.SIGINT)
        steps.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        train(hooked(model, twice, 2), checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "run.pt").exists() and len(steps) == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_checkpoint_ctrl_c_stops_at_once():
    reached = []
    model = interrupted(network(), 1)
    model.register_forward_pre_hook(lambda module, given: reached.append(1))
    with pytest.raises(KeyboardInterrupt):
        train(model)
    assert len(reached) == 1


def test_the_handler_is_put_back_and_another_thread_sets_none(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    handlers = []
    train(
        hooked(network(), lambda: handlers.append(signal.getsignal(signal.SIGINT)), 0),
        checkpoint=tmp_path / "a",
    )
    run = threading.Thread(
        target=train,
        args=(hooked(network(), lambda: handlers.append(signal.getsignal(signal.SIGINT)), 0),),
        kwargs={"checkpoint": tmp_path / "b"},
    )
    run.start()
    run.join()
    assert handlers[0] is not before and handlers[1] is before is signal.getsignal(signal.SIGINT)
    assert (tmp_path / "b").exists()


def test_an_ignored_ctrl_c_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = train(interrupted(network(), 2), checkpoint=tmp_path / "run.pt")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.steps == 15


def test_checkpoints_are_not_written_more_often_than_asked(tmp_path, monkeypatch):
    from fastcore.train.training import checkpoints

    written = []
    monkeypatch.setattr(checkpoints, "write_atomic", lambda path, data: written.append(path))
    train(network(), checkpoint=tmp_path / "run.pt")
    assert len(written) == 1, "only the last"
    train(network(), checkpoint=tmp_path / "run.pt", checkpoint_seconds=0)
    assert len(written) == 1 + 3


KILLED = """
import os, signal, sys
from tests.train.training_cases import hooked, network, train
model = hooked(network(), lambda: os.kill(os.getpid(), signal.SIGKILL), 12)
train(model, checkpoint=sys.argv[1], checkpoint_seconds=0)
"""


def test_a_run_goes_on_after_kill_9(tmp_path):
    path, root = tmp_path / "run.pt", Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path], env=environment, capture_output=True, cwd=tmp_path
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert torch.load(path, weights_only=True)["state"]["epoch"] == 2
    assert [each.name for each in tmp_path.iterdir()] == ["run.pt"]
    whole, other = network(), network(seed=1)
    expected = train(whole)
    counted = []
    other.register_forward_pre_hook(lambda module, given: counted.append(module.training))
    result = train(other, checkpoint=path)
    assert same_weights(whole, other) and same_results(expected, result)
    assert sum(counted) == 5, "only the last epoch was trained"


def test_the_last_good_epoch_remains(tmp_path):
    path, bad = tmp_path / "run.pt", []
    model = hooked(network(), lambda: bad.append(1), 12)
    model.register_forward_hook(lambda module, given, logits: logits * (torch.inf if bad else 1.0))
    with pytest.raises(FloatingPointError, match="epoch 3, step 3"):
        train(model, checkpoint=path, checkpoint_seconds=0)
    whole, other = network(), network()
    expected = train(whole)
    assert same_results(expected, train(other, checkpoint=path)) and same_weights(whole, other)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"settings": config(epochs=4)}, "train.epochs is 3 there and 4 here"),
        ({"settings": config(momentum=0.5)}, "train.momentum is 0.9 there and 0.5 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"indices": range(50)}, "rows is None there"),
        ({"weights": [1.0] * 70}, "rows is None there"),
        ({"test": images(39, seed=1)}, "test is '"),
        ({"record": False}, "record is True there and False here"),
        ({"subset": Chooser()}, "subset is None there and 'Chooser' here"),
        ({"model": plain_network()}, "network is 'Sequential"),
        (
            {"settings": config(epochs=9, batch_size=8, momentum=0, amp="bfloat16")},
            r"here and 1 more\): delete",
        ),
    ],
    ids=str,
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    stopped(tmp_path / "run.pt", 1)
    before = (tmp_path / "run.pt").read_bytes()
    model = change.pop("model", None) or network()
    with pytest.raises(ValueError, match=message) as caught:
        train(model, change.pop("settings", None), checkpoint=tmp_path / "run.pt", **change)
    text = str(caught.value)
    assert text.startswith(str(tmp_path / "run.pt")) and "\n" not in text
    assert (tmp_path / "run.pt").read_bytes() == before


def test_other_dropout_data_and_torch_are_other_runs(tmp_path, monkeypatch):
    from fastcore.train.training import fit

    path = tmp_path / "run.pt"
    stopped(path, 1)
    model = network()
    model[4].p = 0.5
    with pytest.raises(ValueError, match="network is"):
        train(model, checkpoint=path)
    with pytest.raises(ValueError, match="data is"):
        fit(network(), images(seed=9), config(), test=images(40, seed=1), record=True, checkpoint=path)
    monkeypatch.setattr(torch, "__version__", "9.9")
    with pytest.raises(ValueError, match="torch is '.*' there and '9.9' here"):
        train(network(), checkpoint=path)


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "text", "other"])
def test_a_damaged_file_is_named(tmp_path, harm):
    path = tmp_path / "run.pt"
    stopped(path, 6)
    data = bytearray(path.read_bytes())
    if harm == "flip":
        weights = torch.load(path, weights_only=True)["state"]["network"]["5.weight"].numpy().tobytes()
        data[data.find(weights) + 5] ^= 64
    elif harm == "other":
        torch.save({"weights": torch.zeros(3)}, path)
        data = path.read_bytes()
    else:
        data = {"cut": data[: len(data) // 2], "empty": b"", "text": b"not a checkpoint"}[harm]
    path.write_bytes(data)
    what = "is not a checkpoint of fastcore" if harm == "other" else "is a damaged checkpoint"
    with pytest.raises(ValueError, match=what) as caught:
        train(network(), checkpoint=path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_state_that_could_not_be_read_back_is_refused(tmp_path):
    class Odd(Chooser):
        def state_dict(self):
            return {"calls": [{1, 2}]}

    with pytest.raises(TypeError, match=r"got set at state\['subset'\]\['calls'\]\[0\]"):
        train(network(), subset=Odd(), checkpoint=tmp_path / "run.pt")
