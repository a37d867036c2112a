"""Means, what chance explains, the paper's numbers, and the tables that hold them, in every format."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import subprocess

import pytest

from fastcore.train.config import DataConfig, SelectionConfig, TrainConfig
from fastcore.train.report import formats, grids, paper
from fastcore.train.report.agreement import agreement
from fastcore.train.report.statistics import Sample, difference
from fastcore.train.report.tables import tables
from tests.train.test_report_results import SMALL, config, read, row, rows, write

CIFAR = {
    "data": DataConfig(name="cifar10"),
    "networks": ("resnet18",),
    "train": TrainConfig(epochs=200),
}


@pytest.fixture
def made(tmp_path):
    """The tables of some rows."""

    def make(results, accuracy="last", recipe=None):
        return tables(read([write(tmp_path / "experiment", results, recipe)]), accuracy)

    return make


def cells(grid):
    """Cells by the first label of a line and the heading of a column."""
    return {
        (line.labels[0], column): cell
        for line in grid.lines
        for column, cell in zip(grid.columns, line.cells)
    }


# ---- means and differences ----------------------------------------------------------------------


def test_a_sample_has_the_sample_standard_deviation():
    sample = Sample({0: 1.0, 1: 2.0, 2: 6.0})
    assert (sample.n, sample.mean) == (3, 3.0)
    assert sample.std == pytest.approx(math.sqrt(7.0))  # of 14 / 2, not of 14 / 3
    assert Sample({0: 5.0}).std is None


def test_differences_are_paired_by_seed():
    # Runs differ by far more from seed to seed than methods do within a seed.
    ours, other = Sample({0: 11.0, 1: 51.1, 2: 90.9}), Sample({2: 90.0, 0: 10.0, 1: 50.0})
    paired = difference(ours, other)
    assert paired.mean == pytest.approx(1.0)
    assert paired.error == pytest.approx(0.1 / math.sqrt(3))
    assert paired.sign == 1 and difference(other, ours).sign == -1
    apart = difference(Sample({0: 11.0, 1: 51.1, 2: 90.9}), Sample({3: 10.0, 4: 50.0, 5: 90.0}))
    assert apart.error > 10 and apart.sign == 0


def test_only_shared_seeds_are_paired():
    found = difference(Sample({0: 1.0, 1: 2.0, 9: 77.0}), Sample({0: 0.0, 1: 1.5, 8: 50.0}))
    assert found.mean == pytest.approx(0.75) and found.error == pytest.approx(0.25)


def test_the_limit_is_that_of_students_t():
    def of(values):
        return difference(Sample(dict(enumerate(values))), Sample(dict.fromkeys(range(len(values)), 0.0)))

    three = of([1.0, 2.0, 3.0])  # t = 2 / (1 / sqrt 3) = 3.46, and 5 % lie beyond 4.303
    assert three.limit == pytest.approx(4.3027, abs=1e-3) and three.sign == 0
    five = of([1.0, 2.0, 3.0, 1.0, 3.0])  # t = 4.47, and 5 % lie beyond 2.776
    assert five.limit == pytest.approx(2.7764, abs=1e-3) and five.sign == 1
    assert difference(
        Sample({0: 9.0, 1: 8.0, 2: 9.5}), Sample({3: 1.0, 4: 1.2, 5: 0.9})
    ).limit == pytest.approx(
        4.0,
        abs=0.3,  # Welch: nearly all of the variance is in one sample of 3
    )


def test_one_seed_says_nothing_of_chance():
    found = difference(Sample({0: 9.0}), Sample({0: 1.0}))
    assert (found.mean, found.error, found.sign) == (8.0, None, None)


def test_equal_runs_are_not_told_apart():
    same = Sample({0: 10.0, 1: 20.0})
    assert difference(same, same).sign == 0


# ---- the paper's numbers ------------------------------------------------------------------------


def test_the_numbers_of_the_paper():
    def at(*place):
        found = paper.published(place)
        return found and (found.mean, found.std, found.n)

    assert at("cifar10", "resnet18", None, None, "uniform", 0.01) == (36.74, 1.7, 5)
    assert at("cifar10", "resnet18", "resnet18", 10, "k_center", 0.05) == (51.37, 2.1, 5)
    assert at("imagenet", "resnet18", "resnet18", 10, "margin", 0.3) == (63.62, 0.15, 3)
    assert at("cifar10", "wrn16_8", "vgg16", 10, "forgetting", 0.1) == (82.62, 0.34, 5)
    assert at("cifar10", "resnet18", "resnet18", 200, "glister", 0.01) == (34.06, 2.17, 5)
    assert at("imagenet", "resnet18", "resnet18", 10, "deepfool", 0.1) is None
    assert at("cifar10", "resnet18", "resnet18", 10, "el2n", 0.01) is None
    assert at("cifar100", "resnet18", None, None, "uniform", 0.01) is None
    assert [len(paper.table(name)) for name in paper.TABLES] == [192, 103, 136, 88]
    assert len(paper.methods()) == 16 and paper.methods()[0] == "uniform"


def test_the_table_that_a_recipe_names_comes_first():
    place = ("cifar10", "resnet18", "resnet18", 10, "grand", 0.01)
    assert paper.published(place).std == 1.3
    assert paper.published(place, "table3_cross_architecture").std == 1.30
    assert paper.published(place, "table4_pretrain_epochs").mean == 26.69


def test_every_method_of_the_paper_whose_code_differs_has_a_note():
    noted = {
        "contextual_diversity",
        "herding",
        "least_confidence",
        "entropy",
        "margin",
        "forgetting",
        "grand",
    }
    noted |= {"cal", "craig", "gradmatch", "glister"}
    assert set(paper.notes(("cifar10", name) for name in paper.methods())) == noted
    assert "deepfool" in paper.notes([("imagenet", "deepfool")])
    assert list(paper.notes([("cifar10", "cal"), ("cifar10", "herding")])) == ["herding", "cal"]


# ---- tables by fractions ------------------------------------------------------------------------


def test_means_deviations_marks_and_order(made):
    (table,) = made(rows(SMALL))
    grid = grids.accuracy(table, {})
    assert grid.columns == ("1 %", "10 %", "full")
    assert [line.labels for line in grid.lines] == [("uniform",), ("herding",), ("log_det",)]
    found = cells(grid)
    assert found["uniform", "1 %"] == "51.0 ± 1.0"
    assert found["herding", "1 %"] == "41.0 ± 1.0 ▼"  # differences −10 −9 −11
    assert found["herding", "10 %"] == "71.3 ± 1.0"
    assert found["log_det", "1 %"] == "61.2 ± 1.3 ▲"
    assert found["log_det", "10 %"] == ""
    assert {found[label, "full"] for label in ("uniform", "herding", "log_det")} == {"90.2 ± 0.2"}
    assert "over 3 seeds" in grid.notes[0] and "after the last epoch" in grid.notes[0]
    assert "The paper reports the best test epoch." in grid.notes[0]
    assert "Selected by lenet after 10 epochs." in grid.notes


def test_the_best_epoch(made):
    (table,) = made(rows(SMALL), "best")
    grid = grids.accuracy(table, {})
    assert cells(grid)["uniform", "1 %"] == "52.0 ± 1.0"
    assert "of the best test epoch" in grid.notes[0]


def test_differences_to_uniform(made):
    grid = grids.differences(made(rows(SMALL))[0])
    assert grid.columns == ("1 %", "10 %")
    assert [line.labels[0] for line in grid.lines] == ["herding", "log_det"]
    found = cells(grid)
    assert found["herding", "1 %"] == "−10.0 ± 0.6 ▼"
    assert found["herding", "10 %"] == "+0.3 ± 0.2"
    assert found["log_det", "10 %"] == ""


def test_unequal_seeds_are_shown(made):
    results = {"uniform": {0.01: [50, 51, 52], 0.1: [70, 71, 72]}, "margin": {0.01: [40, 41], 0.1: [60]}}
    grid = grids.accuracy(made(rows(results))[0], {})
    found = cells(grid)
    assert found["margin", "1 %"] == "40.5 ± 0.7 ▼ (2)"
    assert found["margin", "10 %"] == "60.0 (1)"
    assert "(1): 1 seed instead of 3." in grid.notes and "(2): 2 seeds instead of 3." in grid.notes


def test_seeds_that_are_still_to_come_are_said(made):
    (table,) = made(rows(SMALL), recipe=config(seeds=(0, 1, 2, 3, 4)))
    assert "5 seeds are planned." in grids.accuracy(table, {}).notes
    assert not any(
        "planned" in note for note in grids.accuracy(made(rows(SMALL), recipe=config())[0], {}).notes
    )


def test_one_seed_has_no_deviation_and_no_mark(made):
    grid = grids.accuracy(made(rows({"uniform": {0.1: [50]}, "margin": {0.1: [10]}}))[0], {})
    assert cells(grid)["margin", "10 %"] == "10.0"
    assert "of one seed" in grid.notes[0]
    assert not any("▲" in note for note in grid.notes)


def test_one_method_alone(made):
    (table,) = made(rows({"margin": {0.1: [50, 52]}}))
    assert cells(grids.accuracy(table, {})) == {("margin", "10 %"): "51.0 ± 1.4"}
    assert grids.differences(table) is None and agreement(table) is None


def test_full_alone(made):
    (table,) = made(rows({"full": {1.0: [90, 92]}}))
    assert cells(grids.accuracy(table, {})) == {("full", "full"): "91.0 ± 1.4"}


def test_two_digits_where_one_would_hide_the_spread(made):
    results = {"uniform": {0.1: [50.0, 50.02]}, "margin": {0.1: [40.0, 40.05]}}
    assert cells(grids.accuracy(made(rows(results))[0], {}))["margin", "10 %"] == "40.02 ± 0.04 ▼"


def test_unknown_labels_and_methods_come_last(made):
    results = [
        row("uniform", 0.1, 0, 0.5),
        row("zebra", 0.1, 0, 0.5),
        row("graph_cut", 0.1, 0, 0.5),
        row("a craig", 0.1, 0, 0.5, method_name="craig"),
        row("ant", 0.1, 0, 0.5),
        row("full", 1.0, 0, 0.9),
    ]
    labels = [each.label for each in made(results)[0].rows]
    assert labels == ["uniform", "a craig", "graph_cut", "ant", "zebra"]


def test_trainings_that_differ_are_never_averaged(made):
    other = config(train=TrainConfig(epochs=40))
    results = rows({"margin": {0.1: [50, 52]}}) + rows({"margin": {0.1: [60, 62]}}, experiment=other)
    found = {table.title: cells(grids.accuracy(table, {}))["margin", "10 %"] for table in made(results)}
    assert found == {
        "Fashion-MNIST, lenet, train.epochs=20": "51.0 ± 1.4",
        "Fashion-MNIST, lenet, train.epochs=40": "61.0 ± 1.4",
    }
    assert len({table.name for table in made(results)}) == 2


def test_networks_that_select_for_themselves_have_tables_of_their_own(made):
    both = config(networks=("mlp", "lenet"))
    results = [
        row("margin", 0.1, 0, 0.5, both, network=each, selection_network=each) for each in both.networks
    ]
    assert [table.title for table in made(results)] == ["Fashion-MNIST, mlp", "Fashion-MNIST, lenet"]
    assert [table.name for table in made(results)] == ["fashion_mnist_mlp", "fashion_mnist_lenet"]


# ---- tables by networks and by epochs -----------------------------------------------------------


def test_cross_architecture(made):
    nets = ("vgg16", "resnet18")
    experiment = config(**{**CIFAR, "networks": nets, "selection": SelectionConfig(networks=nets)})
    results = [row("uniform", 0.01, 0, 0.2, experiment, network=each) for each in nets]
    for number, (a, b) in enumerate([(a, b) for a in nets for b in nets]):
        results.append(row("grand", 0.01, 0, 0.3 + number / 100, experiment, selection_network=a, network=b))
    (table,) = made(results)
    grid = grids.accuracy(table, paper.notes([("cifar10", "grand")]))
    assert grid.labels == ("method", "selected on") and grid.columns == nets
    assert [(line.labels, line.cells) for line in grid.lines] == [
        (("uniform", "–"), ("20.0", "20.0")),
        (("  paper", ""), ("15.4 ± 2.0", "36.7 ± 1.7")),
        (("grand", "vgg16"), ("30.0", "31.0")),
        (("  paper [1]", ""), ("18.6 ± 3.8", "33.8 ± 0.9")),
        (("grand", "resnet18"), ("32.0", "33.0")),
        (("  paper [1]", ""), ("14.4 ± 3.1", "26.7 ± 1.3")),
    ]
    assert agreement(table) is None


def test_epochs_of_selection(made):
    experiment = config(**CIFAR, selection=SelectionConfig(epochs=(1, 10)))
    results = [row("uniform", fraction, 0, 0.2, experiment) for fraction in (0.01, 0.1)]
    results += [
        row("glister", fraction, 0, 0.3 + epochs / 100, experiment, selection_epochs=epochs)
        for fraction in (0.01, 0.1)
        for epochs in (1, 10)
    ]
    one, ten = made(results)
    assert (one.title, ten.title) == (
        "CIFAR-10, resnet18, 1 % of the rows",
        "CIFAR-10, resnet18, 10 % of the rows",
    )
    grid = grids.accuracy(one, {})
    assert grid.columns == ("1", "10")
    assert [line.cells for line in grid.lines if not line.paper] == [("20.0", "20.0"), ("31.0", "40.0")]
    assert [line.cells for line in grid.lines if line.paper][1] == ("34.0 ± 2.7", "32.9 ± 2.4")
    assert any("same number in every column" in note for note in grid.notes)


def test_a_proxy_has_its_own_rows(made):
    experiment = config(selection=SelectionConfig(networks=("mlp", "lenet")))
    results = [row("margin", 0.1, 0, 0.5, experiment, selection_network=each) for each in ("mlp", "lenet")]
    grid = grids.accuracy(made([row("uniform", 0.1, 0, 0.6, experiment), *results])[0], {})
    assert [line.labels for line in grid.lines] == [("uniform", "–"), ("margin", "lenet"), ("margin", "mlp")]


# ---- beside the paper ---------------------------------------------------------------------------


def paper_lines(made, **changes):
    accuracies = {"uniform": {0.01: [37]}, "herding": {0.01: [35], 0.02: [40]}}
    accuracies |= {"el2n": {0.01: [20]}, "full": {1.0: [95]}}
    experiment = config(**{**CIFAR, **changes})
    (table,) = made(rows(accuracies, experiment=experiment))
    grid = grids.accuracy(table, paper.notes([("cifar10", "herding")]))
    return grid, [line for line in grid.lines if line.paper]


def test_the_papers_number_stands_beside_ours_only_where_it_belongs(made):
    grid, lines = paper_lines(made)
    assert [(line.labels, line.cells) for line in lines] == [
        (("  paper",), ("36.7 ± 1.7", "", "95.7 ± 0.2")),  # there is no 2 % in the paper, and no el2n
        (("  paper [1]",), ("34.8 ± 3.3", "", "95.7 ± 0.2")),
    ]
    assert grid.remarks[0].startswith("[1] herding: the published code picks the farthest row")
    assert any("come from its published code" in note for note in grid.notes)
    assert not any("trains for" in note for note in grid.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": DataConfig(name="fashion_mnist")},
        {"data": DataConfig(name="cifar10", rows=1000)},
        {"data": DataConfig(name="cifar10", test_rows=1000)},
        {"networks": ("resnet34",)},
    ],
)
def test_no_number_of_the_paper_beside_other_data_and_networks(made, changes):
    grid, lines = paper_lines(made, **changes)
    assert lines == [] and grid.remarks == ()


def test_other_epochs_than_the_papers_are_said(made):
    grid, lines = paper_lines(made, train=TrainConfig(epochs=20))
    assert lines and "The paper trains for 200 epochs, here it is 20." in grid.notes


def test_the_order_of_the_paper(made):
    accuracies = {
        "uniform": {0.01: [50, 51, 52], 0.02: [60, 61, 62], 0.1: [70, 71, 72]},
        "k_center": {0.01: [40, 41, 42.5], 0.1: [80, 81, 82.5]},  # paper: below, not told apart
        "cal": {0.01: [50, 50, 54], 0.1: [80, 81, 82.5]},  # paper: not told apart, below
        "el2n": {0.01: [40, 41, 42.5]},
    }
    (table,) = made(rows(accuracies))
    found = agreement(table)
    assert found.fractions == (0.01, 0.1) and not found.same
    assert [(row.label, verdicts) for row, verdicts in found.rows] == [
        ("k_center", [(-1, -1), (1, 0)]),
        ("cal", [(0, 0), (1, -1)]),
        ("el2n", [(-1, None), (None, None)]),
    ]
    grid = grids.agreements(found, paper.notes([("fashion_mnist", "cal")]))
    assert grid.columns == ("1 %", "10 %", "agree", "opposite", "open")
    assert [(line.labels[0], line.cells) for line in grid.lines] == [
        ("k_center", ("▼ / ▼", "▲ / =", "1", "0", "1")),
        ("cal [1]", ("= / =", "▲ / ▼", "1", "1", "0")),
        ("el2n", ("▼ /", "", "", "", "")),
        ("all", ("", "", "2", "1", "1")),
    ]
    assert "Here it is Fashion-MNIST, lenet, 20 epochs: only the sign is compared." in grid.notes[1]


def test_the_papers_own_rule():
    # 2 sqrt(1.7²/5 + 2.0²/5) = 2.35 > 37.79 − 36.74 = 1.05, and 2 sqrt(1.7²/5 + 1.4²/5) = 1.97 < 2.13.
    order = paper.order("svhn")
    assert order["cal", 0.01].above(order["uniform", 0.01]).sign == 0
    assert order["facility_location", 0.01].above(order["uniform", 0.01]).sign == 1
    assert order["margin", 0.01].above(order["uniform", 0.01]).sign == -1
    assert paper.order("imagenet")["uniform", 0.3].mean == 64.11


def test_the_same_setting_is_recognised(made):
    accuracies = {"uniform": {0.01: [37, 38]}, "herding": {0.01: [30, 31]}}
    assert agreement(made(rows(accuracies, experiment=config(**CIFAR)))[0]).same
    assert not agreement(
        made(rows(accuracies, experiment=config(**{**CIFAR, "networks": ("vgg16",)})))[0]
    ).same


# ---- formats ------------------------------------------------------------------------------------


def printed(grid, width):
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), highlight=False, color_system=None)
    for line in formats.terminal(grid, width):
        console.print(line)
    return console.file.getvalue()


def test_terminal(made):
    text = printed(grids.accuracy(made(rows(SMALL))[0], {}), 100)
    assert "uniform  51.0 ± 1.0    71.0 ± 1.0  90.2 ± 0.2" in text
    assert "herding  41.0 ± 1.0 ▼  71.3 ± 1.0  90.2 ± 0.2" in text


def wide(methods, fractions):
    return {
        method: {
            fraction: [50 + seed + place for seed in range(3)] for place, fraction in enumerate(fractions)
        }
        for method in methods
    }


def test_five_fractions_fit_a_hundred_columns(made):
    accuracies = wide(["uniform", "contextual_diversity", "el2n"], [0.001, 0.005, 0.01, 0.05, 0.1])
    accuracies["full"] = {1.0: [95, 96, 97]}
    text = printed(grids.accuracy(made(rows(accuracies, experiment=config(**CIFAR)))[0], {}), 100)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("contextual_diversity") == 1  # in one piece
    assert "…" not in text


def test_what_does_not_fit_is_cut_between_columns(made):
    accuracies = wide(["uniform", "margin"], [0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3])
    text = printed(grids.accuracy(made(rows(accuracies))[0], {}), 44)
    assert max(map(len, text.splitlines())) <= 44 and "…" not in text
    assert text.count("margin") == 2
    assert all(f"{50 + place + 1}.0±1.0" in text for place in range(7))


def test_markdown(made):
    text = formats.markdown(grids.accuracy(made(rows(SMALL))[0], {}))
    assert text.splitlines()[:4] == [
        "| method | 1 % | 10 % | full |",
        "| --- | ---: | ---: | ---: |",
        "| uniform | 51.0 ± 1.0 | 71.0 ± 1.0 | 90.2 ± 0.2 |",
        "| herding | 41.0 ± 1.0 ▼ | 71.3 ± 1.0 | 90.2 ± 0.2 |",
    ]
    assert "| log_det | 61.2 ± 1.3 ▲ |  | 90.2 ± 0.2 |" in text


def test_markdown_formats_nothing_of_a_label(made):
    (table,) = made([row("a|b*c*<i>", 0.1, 0, 0.5)])
    assert r"| a\|b\*c\*\<i> | 50.0 |" in formats.markdown(grids.accuracy(table, {}))


HOSTILE = r"50 % of $x_1$ & #2 {a}~^b\c <d> |e| ▲"


def test_latex(made):
    text = formats.latex(grids.accuracy(made(rows(SMALL))[0], {}))
    assert r"    method & 1 \% & 10 \% & full \\" in text
    assert r"    herding & 41.0$_{\pm 1.0}^{\downarrow}$ & 71.3$_{\pm 1.0}$ & 90.2$_{\pm 0.2}$ \\" in text
    assert r"    log\_det & 61.2$_{\pm 1.3}^{\uparrow}$ &  & 90.2$_{\pm 0.2}$ \\" in text
    assert "▲" not in text and "±" not in text
    assert r"\begin{tabular}{lrrr}" in text


def test_latex_escapes_labels(made):
    (table,) = made([row(HOSTILE, 0.1, 0, 0.5)])
    text = formats.latex(grids.accuracy(table, {}))
    line = next(each for each in text.splitlines() if "50.0" in each)
    assert r"50 \% of \$x\_1\$ \& \#2 \{a\}\textasciitilde{}\textasciicircum{}b\textbackslash{}c" in line
    assert len(re.findall(r"(?<!\\)&", line)) == 1
    assert text.count(r"\begin{") == text.count(r"\end{")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(made, tmp_path):
    accuracies = {**SMALL, HOSTILE: {0.01: [1, 2, 3]}}
    (table,) = made(rows(accuracies, experiment=config(**CIFAR)))
    remarks = paper.notes([("cifar10", "herding")])
    found = [
        grids.accuracy(table, remarks),
        grids.differences(table),
        grids.agreements(agreement(table), remarks),
    ]
    body = "\n".join(formats.latex(grid) for grid in found)
    (tmp_path / "main.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_comma_separated_values(made):
    results = rows(SMALL)
    text = formats.comma_separated(made(results)[0], made(results, "best")[0])
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == 6  # no line for what was not measured, one for all rows
    herding = next(each for each in lines if (each["method"], each["fraction"]) == ("herding", "0.01"))
    expected = {"n": "3", "accuracy_last_mean": "41", "accuracy_last_std": "1", "accuracy_best_mean": "42"}
    expected |= {
        "difference_last": "-10",
        "paper_mean": "",
        "selection_network": "lenet",
        "selection_epochs": "10",
    }
    expected |= {"pretrain_seconds": "30", "signal_seconds": "2.5", "selection_seconds": "0.25"}
    assert {name: herding[name] for name in expected} == expected
    (full,) = (each for each in lines if each["method"] == "full")
    assert (full["fraction"], full["accuracy_last_mean"], full["difference_last"]) == ("1.0", "90.2", "")
    (first,) = (each for each in lines if (each["method"], each["fraction"]) == ("uniform", "0.01"))
    assert (first["selection_network"], first["difference_last"]) == ("", "")
