"""The file of results, the folder it is in, the locks, and what the progress lines say."""

from __future__ import annotations

import json
import multiprocessing
import os
import time

import pytest

from fastcore.train.experiment.claims import Claims, claim
from fastcore.train.experiment.layout import Layout
from fastcore.train.experiment.plan import plan
from fastcore.train.experiment.progress import Reporter, duration, time_left
from fastcore.train.experiment.results import COLUMNS, Results, read_results
from tests.train.experiment_material import experiment


def row(key, **fields):
    texts = dict.fromkeys(COLUMNS, "")
    numbers = {name: 1.0 for name in COLUMNS if name.endswith("_seconds") or name.startswith("accuracy")}
    whole = dict.fromkeys(("k", "n", "seed", "best_epoch", "epochs", "peak_bytes"), 1)
    none = dict.fromkeys(("selection_network", "selection_epochs", "git_commit", "indices_file"))
    return {**texts, **numbers, **whole, **none, "fraction": 0.1, "key": key, **fields}


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results.parquet", tmp_path / "lock")


def test_rows_come_back_as_they_were_written(results, tmp_path):
    assert results.rows() == {}
    first = row("a", accuracy_last=1 / 3, seed=2**62, method="größe", best_epoch=None)
    results.append(first)
    results.append(row("b"))
    results.append(row("a", method="again"))
    assert list(results.rows()) == ["a", "b"]
    assert read_results(tmp_path) == read_results(tmp_path / "results.parquet") == [first, row("b")]
    assert list(read_results(tmp_path)[0]) == list(COLUMNS)


def test_rows_that_others_append_are_seen(results, tmp_path):
    other = Results(tmp_path / "results.parquet", tmp_path / "lock")
    results.append(row("a"))
    assert list(other.rows()) == ["a"]
    other.append(row("b"))
    assert list(results.rows()) == ["a", "b"]


def append_many(folder, name):
    results = Results(folder / "results.parquet", folder / "lock")
    for number in range(15):
        results.append(row(f"{name}{number}"))


def test_no_row_is_lost_when_processes_append_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append_many, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(each["key"] for each in read_results(tmp_path)) == sorted(
        f"{name}{number}" for name in "ab" for number in range(15)
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["lock", "results.parquet"]


def test_a_column_that_a_later_version_added_stays(results, tmp_path):
    import pyarrow
    from pyarrow import parquet

    results.append(row("a"))
    table = parquet.read_table(results.path).append_column("novel", pyarrow.array([7]))
    parquet.write_table(table, results.path)
    results.append(row("b"))
    assert [each["novel"] for each in read_results(tmp_path)] == [7, None]


def test_a_method_is_called_anew(results):
    for key in "abc":
        results.append(row(key, method="old"))
    before = results.path.stat().st_ino
    results.relabel({"a": "old", "unknown": "x"})
    assert results.path.stat().st_ino == before  # nothing to do: the file is the same
    results.relabel({"b": "new", "unknown": "x"})
    assert [each["method"] for each in results.rows().values()] == ["old", "new", "old"]


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense", b"\x00" * 100])
def test_another_kind_of_file_is_named(tmp_path, content):
    path = tmp_path / "results.parquet"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*results\.parquet") as caught:
        read_results(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_of_something_else_is_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="no results of experiments: it has no column 'key'"):
        read_results(tmp_path / "x.parquet")
    with pytest.raises(OSError, match="cannot read .*missing"):
        read_results(tmp_path / "missing")


def test_a_full_disk_leaves_the_results_as_they_were(results, monkeypatch):
    results.append(row("a"))
    before = results.path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write .*results.parquet: No space left on device"):
        results.append(row("b"))
    assert results.path.read_bytes() == before
    assert [each.name for each in results.path.parent.iterdir() if each.name.endswith(".tmp")] == []


# ---- locks ----------------------------------------------------------------------------------------


def hold(path, ready):
    with claim(path) as ours:
        ready.send(ours)
        time.sleep(60)


def test_a_claim_dies_with_its_process(tmp_path):
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe()
    holder = context.Process(target=hold, args=(tmp_path / "lock", sender))
    holder.start()
    assert receiver.recv() is True
    with claim(tmp_path / "lock") as ours:
        assert not ours
    holder.kill()
    holder.join()
    with claim(tmp_path / "lock") as ours:
        assert ours
    with claim(tmp_path / "lock") as ours:  # it was let go of
        assert ours


def test_a_run_is_given_up_after_two_processes_died_of_it_until_the_next_session(tmp_path):
    claims, next_session = Claims(tmp_path, "one"), Claims(tmp_path, "two")
    for _ in range(2):
        assert not claims.given_up("key")
        claims.begin("key")
    assert claims.given_up("key") and not claims.failed("key")
    assert claims.begun_by(os.getpid()) == ["key"] and claims.begun_by(1) == []
    assert not next_session.given_up("key")
    next_session.begin("key")
    assert not next_session.given_up("key")


def test_a_run_that_failed_is_left_until_the_next_session(tmp_path):
    claims = Claims(tmp_path, "one")
    claims.begin("key")
    claims.fail("key")
    assert claims.failed("key") and claims.given_up("key") and not claims.failed("other")
    assert not Claims(tmp_path, "two").failed("key")


def test_nothing_is_left_of_a_run_that_is_done(tmp_path):
    claims = Claims(tmp_path, "one")
    with claims.take("key") as ours:
        assert ours
        claims.begin("key")
        claims.end("key", done=True)
    assert list(tmp_path.iterdir()) == []


def test_a_note_that_was_half_written_counts_as_none(tmp_path):
    (tmp_path / "key.json").write_text('{"session": "one", "sta')
    claims = Claims(tmp_path, "one")
    assert not claims.given_up("key") and not claims.failed("key")
    claims.begin("key")


# ---- the folder -----------------------------------------------------------------------------------


def test_more_of_an_experiment_goes_into_its_folder_and_another_one_does_not(tmp_path):
    from fastcore.train import reading

    layout = Layout(tmp_path / "out", tmp_path / "cache")
    layout.prepare(experiment())
    more = experiment(
        methods=["craig", {"name": "el2n", "keep": "easy"}],
        fractions=[0.3],
        seeds=[5],
        networks=["lenet"],
        data={"root": "/elsewhere"},
        selection={"networks": ["mlp"], "epochs": [1]},
    )
    layout.prepare(more)
    assert reading.load(layout.recipe) == more
    for fields, words in [
        ({"name": "other"}, "name='tiny', not 'other'"),
        ({"train": {"epochs": 9}}, "train.epochs=2, not 9"),
        ({"data": {"rows": 99}}, "data.rows=300, not 99"),
        ({"selection": {"balance": False}}, "selection.balance=True, not False"),
    ]:
        with pytest.raises(ValueError, match=words) as caught:
            layout.prepare(experiment(**fields))
        assert "--force" in str(caught.value)
    assert reading.load(layout.recipe) == more
    layout.prepare(experiment(name="other"), force=True)
    assert reading.load(layout.recipe).name == "other"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot make the folder .*file/out"):
        Layout(tmp_path / "file" / "out", tmp_path / "cache").prepare(experiment())


# ---- progress -------------------------------------------------------------------------------------


def test_time_left_grows_with_the_rows_and_counts_what_every_run_costs():
    runs = plan(experiment(fractions=[0.1, 0.5], seeds=[0], methods=["uniform"]))
    done = [
        row(
            "a",
            fraction=0.1,
            network="mlp",
            training_seconds=10.0,
            evaluation_seconds=3.0,
            selection_seconds=1.0,
        )
    ]
    assert time_left(runs[:1], done) == pytest.approx(14)
    assert time_left(runs, done) == pytest.approx(14 + 54)


def test_a_line_says_what_selects_only_where_that_differs(results, capsys):
    for epochs, words in [
        ([2], "herding 0.1, seed 0, mlp: 50.00 %"),
        ([2, 3], "mlp by mlp (2 epochs): 50.00 %"),
    ]:
        chosen = experiment(methods=["herding"], fractions=[0.1], seeds=[0], selection={"epochs": epochs})
        runs = {f"{epochs} {run.selector}": run for run in plan(chosen)}
        reporter = Reporter(runs, results, 1)
        results.append(row(next(iter(runs)), network="mlp", accuracy_last=0.5))
        reporter.update()
        reporter.update()
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1 and words in told[0] and f"1/{len(runs)}" in told[0]


def test_durations_in_words():
    said = [duration(each) for each in (0.04, 7.2, 59.7, 3700, 90_000, 86_400 * 3)]
    assert said == ["0.0 s", "7 s", "1 min 0 s", "1 h 1 min", "1 d 1 h", "3 d 0 h"]


def test_the_file_is_plain_parquet_with_json_in_it(results):
    results.append(row("a", options=json.dumps({"lam": 1})))
    assert json.loads(read_results(results.path)[0]["options"]) == {"lam": 1}
