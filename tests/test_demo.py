"""The demonstration: what it says follows from its numbers, and what it writes is whole."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from fastcore import demo
from fastcore.demo.experiment import METHODS, Result, load_digits, reading, select


@pytest.fixture(autouse=True)
def _libraries():
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")


def results(uniform: dict[int, tuple[float, float]], **methods: dict[int, float]) -> list[Result]:
    out = [Result("uniform", k, mean, deviation, 0.001) for k, (mean, deviation) in uniform.items()]
    for method, scores in methods.items():
        out += [Result(method, k, score, 0.0, 0.001) for k, score in scores.items()]
    return out


def test_the_reading_follows_from_the_numbers():
    given = results(
        {10: (60.0, 5.0), 100: (80.0, 2.0)},
        better={10: 70.0, 100: 83.0},
        same={10: 60.0, 100: 81.0},
        worse={10: 50.0, 100: 77.0},
    )
    first, second = reading(given, everything=95.0, rows=1000)
    assert "10 rows chosen by better give 70.0 %" in first
    assert "10 random rows 60.0 % (± 5.0)" in first
    assert "about 32 rows" in first  # half way from 60 to 80 on a logarithmic scale from 10 to 100
    assert "k = 100, 10 % of the rows, better is at 83.0 % where all rows give 95.0 %" in second
    assert "above random: better; clearly below: worse." in second


@pytest.mark.parametrize(("score", "needed"), [(90.0, "more than 100"), (55.0, "fewer than 10")])
def test_the_reading_does_not_extrapolate(score, needed):
    first, _ = reading(results({10: (60.0, 5.0), 100: (80.0, 2.0)}, only={10: score, 100: 20.0}), 95.0, 1000)
    assert f"{needed} rows" in first


def test_the_split_is_fixed_and_its_parts_are_apart():
    one, other = load_digits(), load_digits()
    np.testing.assert_array_equal(one.train, other.train)
    assert len(one.train) + len(one.test) == 1797
    assert set(map(bytes, one.train)).isdisjoint(map(bytes, one.test))


@pytest.mark.parametrize("method", ["uniform", *METHODS])
def test_the_first_picks_show_every_class_once(method):
    digits = load_digits()
    assert sorted(digits.train_labels[select(digits, method, 20)[:10]]) == list(range(10))


@pytest.mark.slow
def test_a_quick_run_writes_whole_files(tmp_path, capsys):
    assert demo.run(tmp_path / "out", quick=True) == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["accuracy.png", "digits.png", "results.csv"]
    for name in ("accuracy.png", "digits.png"):
        image = (tmp_path / "out" / name).read_bytes()
        assert image.startswith(b"\x89PNG") and image.endswith(b"IEND\xaeB`\x82")
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert {row["method"] for row in rows} == {"uniform", *METHODS}
    assert all(0 < float(row["accuracy"]) < 100 and float(row["seconds"]) > 0 for row in rows)
    at_ten = {row["method"]: float(row["accuracy"]) for row in rows if row["k"] == "10"}
    assert at_ten["facility_location"] > at_ten["uniform"] + 10
    assert "accuracy.png" in capsys.readouterr().out


def test_a_missing_library_is_one_line_that_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "matplotlib" else name)
    assert demo.run(tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "matplotlib" in message and "fastcore-coreset[demo]" in message
    assert "sklearn" not in message and not (tmp_path / "out").exists()


def test_an_unwritable_output_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert demo.run(tmp_path / "file" / "out") == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and str(tmp_path / "file" / "out") in message
