"""Means, what chance explains of a difference, and the numbers of the paper beside ours."""

from __future__ import annotations

import math

import pytest

from fastcore.train.config import DataConfig, TrainConfig
from fastcore.train.report import grids, paper
from fastcore.train.report.agreement import agreement
from fastcore.train.report.statistics import Sample, difference
from tests.train.test_report_results import CIFAR, config, made, rows

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


# ---- beside the paper ---------------------------------------------------------------------------


def paper_lines(folder, **changes):
    accuracies = {"uniform": {0.01: [37]}, "herding": {0.01: [35], 0.02: [40]}}
    accuracies |= {"el2n": {0.01: [20]}, "full": {1.0: [95]}}
    experiment = config(**{**CIFAR, **changes})
    (table,) = made(folder, rows(accuracies, experiment=experiment))
    grid = grids.accuracy(table, paper.notes([("cifar10", "herding")]))
    return grid, [line for line in grid.lines if line.paper]


def test_the_papers_number_stands_beside_ours_only_where_it_belongs(tmp_path):
    grid, lines = paper_lines(tmp_path)
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
def test_no_number_of_the_paper_beside_other_data_and_networks(tmp_path, changes):
    grid, lines = paper_lines(tmp_path, **changes)
    assert lines == [] and grid.remarks == ()


def test_other_epochs_than_the_papers_are_said(tmp_path):
    grid, lines = paper_lines(tmp_path, train=TrainConfig(epochs=20))
    assert lines and "The paper trains for 200 epochs, here it is 20." in grid.notes


def test_the_order_of_the_paper(tmp_path):
    accuracies = {
        "uniform": {0.01: [50, 51, 52], 0.02: [60, 61, 62], 0.1: [70, 71, 72]},
        "k_center": {0.01: [40, 41, 42.5], 0.1: [80, 81, 82.5]},  # paper: below, not told apart
        "cal": {0.01: [50, 50, 54], 0.1: [80, 81, 82.5]},  # paper: not told apart, below
        "el2n": {0.01: [40, 41, 42.5]},
    }
    (table,) = made(tmp_path, rows(accuracies))
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


def test_the_same_setting_is_recognised(tmp_path):
    accuracies = {"uniform": {0.01: [37, 38]}, "herding": {0.01: [30, 31]}}
    assert agreement(made(tmp_path, rows(accuracies, experiment=config(**CIFAR)))[0]).same
    assert not agreement(
        made(tmp_path, rows(accuracies, experiment=config(**{**CIFAR, "networks": ("vgg16",)})))[0]
    ).same
