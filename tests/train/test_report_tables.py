"""Which tables there are of some results, and what stands in their cells."""

from __future__ import annotations

from fastcore.train.config import SelectionConfig, TrainConfig
from fastcore.train.report import grids, paper
from fastcore.train.report.agreement import agreement
from tests.train.test_report_results import CIFAR, SMALL, cells, config, made, row, rows

# ---- tables by fractions ------------------------------------------------------------------------


def test_means_deviations_marks_and_order(tmp_path):
    (table,) = made(tmp_path, rows(SMALL))
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


def test_the_best_epoch(tmp_path):
    (table,) = made(tmp_path, rows(SMALL), "best")
    grid = grids.accuracy(table, {})
    assert cells(grid)["uniform", "1 %"] == "52.0 ± 1.0"
    assert "of the best test epoch" in grid.notes[0]


def test_differences_to_uniform(tmp_path):
    grid = grids.differences(made(tmp_path, rows(SMALL))[0])
    assert grid.columns == ("1 %", "10 %")
    assert [line.labels[0] for line in grid.lines] == ["herding", "log_det"]
    found = cells(grid)
    assert found["herding", "1 %"] == "−10.0 ± 0.6 ▼"
    assert found["herding", "10 %"] == "+0.3 ± 0.2"
    assert found["log_det", "10 %"] == ""


def test_unequal_seeds_are_shown(tmp_path):
    results = {"uniform": {0.01: [50, 51, 52], 0.1: [70, 71, 72]}, "margin": {0.01: [40, 41], 0.1: [60]}}
    grid = grids.accuracy(made(tmp_path, rows(results))[0], {})
    found = cells(grid)
    assert found["margin", "1 %"] == "40.5 ± 0.7 ▼ (2)"
    assert found["margin", "10 %"] == "60.0 (1)"
    assert "(1): 1 seed instead of 3." in grid.notes and "(2): 2 seeds instead of 3." in grid.notes


def test_seeds_that_are_still_to_come_are_said(tmp_path):
    (table,) = made(tmp_path, rows(SMALL), recipe=config(seeds=(0, 1, 2, 3, 4)))
    assert "5 seeds are planned." in grids.accuracy(table, {}).notes
    assert not any(
        "planned" in note
        for note in grids.accuracy(made(tmp_path, rows(SMALL), recipe=config())[0], {}).notes
    )


def test_one_seed_has_no_deviation_and_no_mark(tmp_path):
    grid = grids.accuracy(made(tmp_path, rows({"uniform": {0.1: [50]}, "margin": {0.1: [10]}}))[0], {})
    assert cells(grid)["margin", "10 %"] == "10.0"
    assert "of one seed" in grid.notes[0]
    assert not any("▲" in note for note in grid.notes)


def test_one_method_alone(tmp_path):
    (table,) = made(tmp_path, rows({"margin": {0.1: [50, 52]}}))
    assert cells(grids.accuracy(table, {})) == {("margin", "10 %"): "51.0 ± 1.4"}
    assert grids.differences(table) is None and agreement(table) is None


def test_full_alone(tmp_path):
    (table,) = made(tmp_path, rows({"full": {1.0: [90, 92]}}))
    assert cells(grids.accuracy(table, {})) == {("full", "full"): "91.0 ± 1.4"}


def test_two_digits_where_one_would_hide_the_spread(tmp_path):
    results = {"uniform": {0.1: [50.0, 50.02]}, "margin": {0.1: [40.0, 40.05]}}
    assert cells(grids.accuracy(made(tmp_path, rows(results))[0], {}))["margin", "10 %"] == "40.02 ± 0.04 ▼"


def test_unknown_labels_and_methods_come_last(tmp_path):
    results = [
        row("uniform", 0.1, 0, 0.5),
        row("zebra", 0.1, 0, 0.5),
        row("graph_cut", 0.1, 0, 0.5),
        row("a craig", 0.1, 0, 0.5, method_name="craig"),
        row("ant", 0.1, 0, 0.5),
        row("full", 1.0, 0, 0.9),
    ]
    labels = [each.label for each in made(tmp_path, results)[0].rows]
    assert labels == ["uniform", "a craig", "graph_cut", "ant", "zebra"]


def test_trainings_that_differ_are_never_averaged(tmp_path):
    other = config(train=TrainConfig(epochs=40))
    results = rows({"margin": {0.1: [50, 52]}}) + rows({"margin": {0.1: [60, 62]}}, experiment=other)
    found = {
        table.title: cells(grids.accuracy(table, {}))["margin", "10 %"] for table in made(tmp_path, results)
    }
    assert found == {
        "Fashion-MNIST, lenet, train.epochs=20": "51.0 ± 1.4",
        "Fashion-MNIST, lenet, train.epochs=40": "61.0 ± 1.4",
    }
    assert len({table.name for table in made(tmp_path, results)}) == 2


def test_networks_that_select_for_themselves_have_tables_of_their_own(tmp_path):
    both = config(networks=("mlp", "lenet"))
    results = [
        row("margin", 0.1, 0, 0.5, both, network=each, selection_network=each) for each in both.networks
    ]
    assert [table.title for table in made(tmp_path, results)] == [
        "Fashion-MNIST, mlp",
        "Fashion-MNIST, lenet",
    ]
    assert [table.name for table in made(tmp_path, results)] == ["fashion_mnist_mlp", "fashion_mnist_lenet"]


# ---- tables by networks and by epochs -----------------------------------------------------------


def test_cross_architecture(tmp_path):
    nets = ("vgg16", "resnet18")
    experiment = config(**{**CIFAR, "networks": nets, "selection": SelectionConfig(networks=nets)})
    results = [row("uniform", 0.01, 0, 0.2, experiment, network=each) for each in nets]
    for number, (a, b) in enumerate([(a, b) for a in nets for b in nets]):
        results.append(row("grand", 0.01, 0, 0.3 + number / 100, experiment, selection_network=a, network=b))
    (table,) = made(tmp_path, results)
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


def test_epochs_of_selection(tmp_path):
    experiment = config(**CIFAR, selection=SelectionConfig(epochs=(1, 10)))
    results = [row("uniform", fraction, 0, 0.2, experiment) for fraction in (0.01, 0.1)]
    results += [
        row("glister", fraction, 0, 0.3 + epochs / 100, experiment, selection_epochs=epochs)
        for fraction in (0.01, 0.1)
        for epochs in (1, 10)
    ]
    one, ten = made(tmp_path, results)
    assert (one.title, ten.title) == (
        "CIFAR-10, resnet18, 1 % of the rows",
        "CIFAR-10, resnet18, 10 % of the rows",
    )
    grid = grids.accuracy(one, {})
    assert grid.columns == ("1", "10")
    assert [line.cells for line in grid.lines if not line.paper] == [("20.0", "20.0"), ("31.0", "40.0")]
    assert [line.cells for line in grid.lines if line.paper][1] == ("34.0 ± 2.7", "32.9 ± 2.4")
    assert any("same number in every column" in note for note in grid.notes)


def test_a_proxy_has_its_own_rows(tmp_path):
    experiment = config(selection=SelectionConfig(networks=("mlp", "lenet")))
    results = [row("margin", 0.1, 0, 0.5, experiment, selection_network=each) for each in ("mlp", "lenet")]
    grid = grids.accuracy(made(tmp_path, [row("uniform", 0.1, 0, 0.6, experiment), *results])[0], {})
    assert [line.labels for line in grid.lines] == [("uniform", "–"), ("margin", "lenet"), ("margin", "mlp")]
