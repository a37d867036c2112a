"""The plan of an experiment: which runs there are, in which order, and what each one is known by."""

from __future__ import annotations

from collections import Counter

import pytest

from fastcore.train.experiment import left_out, plan
from fastcore.train.experiment.keys import derived_seed, digest
from tests.train.experiment_material import experiment


def keys(config, data="data"):
    return [run.key(data) for run in plan(config)]


def test_every_method_at_every_fraction_for_every_seed_with_small_fractions_first():
    runs = plan(experiment(fractions=[1, 0.1, 0.05]))
    assert [run.fraction for run in runs] == [0.05] * 6 + [0.1] * 6 + [1] * 2
    assert [run.label for run in runs[:6]] == ["uniform", "herding", "el2n"] * 2
    assert [run.seed for run in runs[:6]] == [0, 0, 0, 1, 1, 1]
    assert [(run.label, run.method, run.seed) for run in runs[-2:]] == [
        ("full", "full", 0),
        ("full", "full", 1),
    ]
    assert len({run.key("data") for run in runs}) == len(runs)


def test_networks_that_select_multiply_only_the_methods_that_look_at_one():
    config = experiment(
        networks=["mlp", "lenet"],
        selection={"networks": ["mlp", "lenet"], "epochs": [1, 2]},
        fractions=[0.1, 1],
        seeds=[0],
    )
    assert Counter(run.label for run in plan(config)) == {"uniform": 2, "herding": 8, "el2n": 8, "full": 2}
    models = {run.models for run in plan(config) if run.label == "herding"}
    assert {(each.network, each.train.epochs) for (each,) in models} == {
        ("mlp", 1),
        ("mlp", 2),
        ("lenet", 1),
        ("lenet", 2),
    }


def test_by_default_the_network_that_is_trained_selects_without_augmentation():
    runs = plan(experiment(networks=["mlp", "lenet"], train={"augment": True}, selection={"epochs": [7]}))
    for run in runs:
        if run.models:
            (model,) = run.models
            assert (model.network, model.train.epochs, model.train.augment) == (run.network, 7, False)
        assert run.train.augment


def test_a_method_may_average_over_a_number_of_its_own():
    methods = [{"name": "grand", "runs": 3}, "el2n"]
    found = {run.label: len(run.models) for run in plan(experiment(methods=methods, selection={"runs": 2}))}
    assert found == {"grand": 3, "el2n": 2}
    with pytest.raises(ValueError, match="methods: margin looks at one network, got runs=2"):
        plan(experiment(methods=[{"name": "margin", "runs": 2}]))


def test_methods_that_average_take_several_networks_and_the_others_one():
    runs = plan(experiment(selection={"runs": 3}))
    counts = {run.label: len(run.models) for run in runs}
    assert counts == {"uniform": 0, "herding": 1, "el2n": 3}
    models = next(run.models for run in runs if run.label == "el2n")
    assert len({model.key("data") for model in models}) == 3
    assert len({model.seed_for("initialisation") for model in models}) == 3
    # The first of them is the one that the others share.
    assert models[0] == next(run.models[0] for run in runs if run.label == "herding")


def test_a_record_of_no_epochs_is_left_out_and_said_so():
    config = experiment(
        methods=["herding", "forgetting", "el2n", {"name": "el2n", "label": "early", "epoch": 0}],
        selection={"epochs": [0, 2]},
        fractions=[0.1],
        seeds=[0],
    )
    found = Counter((run.label, run.models[0].train.epochs) for run in plan(config))
    assert found == {
        ("herding", 0): 1,
        ("herding", 2): 1,
        ("forgetting", 2): 1,
        ("el2n", 0): 1,
        ("el2n", 2): 1,
        ("early", 2): 1,
    }
    assert [line.split()[0] for line in left_out(config)] == ["forgetting", "early"]
    assert left_out(experiment()) == []


def test_a_network_that_selects_while_it_is_trained_needs_no_other():
    runs = plan(experiment(selection={"reselect_every": 2, "warm_start": 0.5}, fractions=[0.1, 1]))
    assert all(run.models == () for run in runs)
    assert all(run.reselect_every == 2 and run.warm_start == 0.5 for run in runs if run.label != "full")
    assert not set(keys(experiment())) & {run.key("data") for run in runs}


def test_the_key_is_of_what_determines_the_result_and_of_nothing_else():
    same = [
        experiment(name="other"),
        experiment(methods=[{"name": "uniform", "label": "random"}, "herding", "el2n"]),
        experiment(methods=["uniform", {"name": "herding", "options": {}}, {"name": "el2n", "keep": "hard"}]),
        experiment(data={"root": "/elsewhere", "workers": 1}),
        experiment(paper_table="table1_cifar10_resnet18"),
    ]
    for config in same:
        assert keys(config) == keys(experiment())
    other = [
        (experiment(train={"epochs": 3}), 12),
        (experiment(seeds=[2, 3]), 12),
        (experiment(fractions=[0.2, 0.3]), 12),
        (experiment(networks=["lenet"]), 12),
        (experiment(methods=["uniform", "herding", {"name": "el2n", "keep": "easy"}]), 4),
        (experiment(methods=["uniform", {"name": "herding", "metric": "cosine"}, "el2n"]), 4),
        (experiment(selection={"epochs": [3]}), 8),
        (experiment(selection={"networks": ["lenet"]}), 8),
        (experiment(selection={"train": {"augment": True}}), 8),
        (experiment(selection={"runs": 2}), 4),
        (experiment(selection={"balance": False}), 12),
    ]
    for config, changed in other:
        assert len(set(keys(config)) - set(keys(experiment()))) == changed, config
    assert not set(keys(experiment(), "other data")) & set(keys(experiment()))


def test_the_selection_is_the_same_whatever_is_trained_on_it():
    small = {run.selection_key("data") for run in plan(experiment(selection={"networks": ["mlp"]}))}
    large = {
        run.selection_key("data")
        for run in plan(experiment(networks=["lenet", "mlp"], selection={"networks": ["mlp"]}))
    }
    assert small == large and len(small) == 12


def test_methods_with_one_seed_share_the_network_that_selects_and_seeds_do_not():
    runs = plan(experiment())
    by_seed = {seed: {model for run in runs if run.seed == seed for model in run.models} for seed in (0, 1)}
    assert len(by_seed[0]) == len(by_seed[1]) == 1
    assert {each.key("data") for each in by_seed[0]} != {each.key("data") for each in by_seed[1]}


def test_seeds_of_a_run_differ_by_purpose_and_those_of_the_network_that_selects_from_them():
    run = next(run for run in plan(experiment(selection={"runs": 2})) if run.label == "el2n")
    seeds = [run.seed_for(each) for each in ("initialisation", "selection", "order")]
    seeds += [model.seed_for(each) for model in run.models for each in ("initialisation", "order")]
    assert len(set(seeds)) == 7
    assert derived_seed(0, "order") == derived_seed(0, "order") != derived_seed(1, "order")
    assert len({derived_seed(seed, "order") for seed in range(2000)}) == 2000


def test_glister_validates_by_a_tenth_of_the_rows_unless_told_otherwise():
    options = [
        run.options["split"]
        for run in plan(
            experiment(
                methods=["glister", {"name": "glister", "label": "fifth", "split": 0.2}],
                fractions=[0.1],
                seeds=[0],
            )
        )
    ]
    assert options == [0.1, 0.2]


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"networks": ["mpl"]}, ValueError, ["networks", "'mpl'", "'mlp'"]),
        ({"selection": {"networks": ["lenett"]}}, ValueError, ["selection.networks", "'lenett'", "'lenet'"]),
        ({"methods": [{"name": "herding", "lam": 1}]}, TypeError, ["herding", "'lam'", "metric"]),
        ({"methods": [{"name": "herding", "seed": 1}]}, TypeError, ["herding", "'seed'"]),
        ({"methods": [{"name": "graph_cut", "lam": float("nan")}]}, TypeError, ["lam of graph_cut", "nan"]),
        (
            {"methods": ["el2n", {"name": "el2n", "label": "b", "keep": "hard"}]},
            ValueError,
            ["methods must differ", "el2n and b"],
        ),
        ({"methods": [{"name": "herding", "label": "full"}]}, ValueError, ["'full'"]),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(fields, error, words):
    with pytest.raises(error) as caught:
        plan(experiment(**fields))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_network_of_the_users_own_is_taken_by_its_path():
    assert plan(experiment(networks=["package.module:function"]))[0].network == "package.module:function"


def test_digests_do_not_depend_on_order_or_on_how_a_number_is_written():
    assert digest({"a": 1, "b": [2.0, {"c": 1e0}]}) == digest({"b": (2, {"c": 1}), "a": 1.0})
    assert digest({"a": 1}) != digest({"a": True}) != digest({"a": "1"})
    assert len(digest({})) == 24
    with pytest.raises(ValueError):
        digest({"a": float("inf")})
    with pytest.raises(TypeError):
        digest({"a": object()})
