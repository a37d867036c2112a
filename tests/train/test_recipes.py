"""The recipes of the package: each can be run, and those of the paper's tables are the paper's protocol."""

from __future__ import annotations

import dataclasses
from importlib import resources

import pytest

from fastcore.train import datasets, dump, load, reading
from fastcore.train.config import ExperimentConfig, TrainConfig
from fastcore.train.experiment import plan
from fastcore.train.report import paper

TABLES = {f"{name.split('_')[0]}_{rest}": name for name, rest in zip(
    paper.TABLES, ("cifar10", "imagenet", "cross_architecture", "pretrain_epochs"), strict=True
)}  # fmt: skip
SMALL = ["digits_tiny", "fashion_mnist_small", "figure1_small", "proxy_small", "reselection_small"]
SMALL += ["table2_small", "table3_small", "table4_small"]


def text(name):
    return (resources.files("fastcore.train") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def cells(name):
    """What a table of the paper compares, by the column."""
    places = list(paper.table(name))
    datasets, networks, selectors, epochs, methods, fractions = (
        set(column) for column in zip(*places, strict=True)
    )
    return datasets, networks, selectors - {None}, epochs - {None}, methods, fractions


def test_these_are_the_recipes():
    assert set(reading.recipes()) == {*TABLES, "figure1", *SMALL}


@pytest.mark.parametrize("name", reading.recipes())
def test_every_recipe_can_be_run_as_far_as_settings_go(name):
    config = load(name)
    assert config.name == name and text(name).startswith("# ")
    assert all(len(line) <= 115 for line in text(name).splitlines())
    runs = plan(config)  # refuses options that a method does not have, and networks that there are not
    assert {run.label for run in runs} - {"full"} == {method.label for method in config.methods}
    assert {run.fraction for run in runs} == set(config.fractions)
    assert config.data.name in datasets.names()
    assert config.selection_train(1).augment is False
    again = reading.build(ExperimentConfig, reading.parse(dump(config), name))
    assert again == config


@pytest.mark.parametrize(("name", "table"), TABLES.items())
def test_the_tables_compare_what_the_paper_compares(name, table):
    config = load(name)
    dataset, networks, selectors, epochs, methods, fractions = cells(table)
    assert config.paper_table == table and {config.data.name} == dataset
    assert set(config.networks) == networks
    assert set(config.selection.networks or config.networks) == selectors
    assert set(config.selection.epochs) == epochs
    assert {method.name for method in config.methods} == methods | {"uniform"}
    assert set(config.fractions) == fractions
    assert len(config.seeds) == next(iter(paper.table(table).values())).n


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_train_by_the_protocol(name):
    batch_size = 256 if "imagenet" in name else 128
    assert load(name).train == dataclasses.replace(TrainConfig(), batch_size=batch_size)
    assert load(name).selection.balance


def test_every_cell_of_the_paper_has_its_runs():
    for name, table in TABLES.items():
        config, made = load(name), set()
        for run in plan(config):
            by = (run.models[0].network, run.models[0].train.epochs) if run.models else (None, None)
            made.add((config.data.name, run.network, *by, run.method, run.fraction))
        published = {place for place in paper.table(table) if place[-1] < 1}
        # Of an untrained network there is no record: the paper's row repeats that of random rows.
        assert {place[4] for place in published - made} <= {"forgetting"}
        assert {place[3] for place in published - made} <= {0}


def test_figure_1_is_table_1():
    figure, table = load("figure1"), load("table1_cifar10")
    assert dataclasses.replace(figure, name="table1_cifar10") == table and 1.0 in figure.fractions


def test_the_small_recipes_are_what_they_are_for():
    assert (
        load("reselection_small").selection.reselect_every and load("reselection_small").selection.warm_start
    )
    proxy = load("proxy_small")
    assert len(proxy.selection.networks) > 1 and len(proxy.selection.epochs) > 1
    assert load("digits_tiny").data.name == "digits"
    small = {method.name for method in load("fashion_mnist_small").methods}
    assert {method.name for method in load("table1_cifar10").methods} < small
    assert load("fashion_mnist_small").fractions == (0.005, 0.01, 0.05, 0.1)
    assert 0 in load("table4_small").selection.epochs and len(load("table3_small").networks) > 1
