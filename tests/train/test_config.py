"""Settings of experiments: documented, checked, frozen, and the same after YAML."""

from __future__ import annotations

import ast
import dataclasses
import inspect

import pytest

from fastcore.train import config as module
from fastcore.train import dump, load, reading
from fastcore.train.config import DataConfig, ExperimentConfig, MethodConfig, SelectionConfig, TrainConfig

KINDS = [each for each in vars(module).values() if dataclasses.is_dataclass(each)]


@pytest.fixture
def recipe(tmp_path):
    """Writes a YAML text to a file and reads it."""

    def read(text, *overrides):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path, overrides)

    return read


# The classes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_docstring(kind):
    tree = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(tree, ast.ClassDef) and ast.get_docstring(tree)
    documented = set()
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
            text = after.value.value
            assert text.rstrip().endswith(".") and len(text) > 10, f"{kind.__name__}.{field.target.id}"
            documented.add(field.target.id)
    assert documented == {field.name for field in dataclasses.fields(kind)}


def test_all_kinds_are_looked_at():
    assert {DataConfig, TrainConfig, MethodConfig, SelectionConfig, ExperimentConfig} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_they_are_frozen(kind):
    made = kind(**({"name": "uniform"} if kind in (MethodConfig, ExperimentConfig) else {}))
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)


def test_the_defaults_are_the_protocol_of_the_paper():
    train, selection = TrainConfig(), SelectionConfig()
    assert (train.epochs, train.batch_size, train.optimizer, train.schedule) == (200, 128, "sgd", "cosine")
    assert (train.learning_rate, train.momentum, train.weight_decay) == (0.1, 0.9, 5e-4)
    assert train.nesterov and train.augment and not train.label_smoothing and train.clip_norm is None
    assert selection.epochs == (10,) and selection.balance and selection.networks == ()
    chosen = ExperimentConfig("x").selection_train(10)
    assert chosen == dataclasses.replace(train, augment=False, epochs=10)


# Reading


FULL = """
name: all of it
data: {name: digits, root: /some/where, download: yes, rows: 500, test_rows: 100, workers: 0}
networks: [mlp, lenet]
methods:
  - uniform
  - {name: glister, split: 0.1, eta: 1}
  - {name: graph_cut, label: sparse, options: {lam: 0.5, metric: cosine}}
fractions: [0.1, 1]
seeds: [0, 7]
train: {epochs: 3, weight_decay: 5e-4, milestones: [0.25, 0.5], clip_norm: 1, amp: bfloat16, schedule: step}
selection: {networks: mlp, epochs: [0, 2], runs: 2, balance: no, train: {augment: false, weight_decay: 1e-3}}
paper_table: table1_cifar10_resnet18
"""


def test_a_recipe_becomes_what_it_says(recipe):
    read = recipe(FULL)
    assert read.data == DataConfig("digits", "/some/where", True, 500, 100, 0)
    assert read.networks == ("mlp", "lenet") and read.fractions == (0.1, 1.0) and read.seeds == (0, 7)
    assert read.methods == (
        MethodConfig("uniform", "uniform", {}),
        MethodConfig("glister", "glister", {"split": 0.1, "eta": 1}),
        MethodConfig("graph_cut", "sparse", {"lam": 0.5, "metric": "cosine"}),
    )
    expected = TrainConfig(
        3, weight_decay=5e-4, milestones=(0.25, 0.5), clip_norm=1.0, amp="bfloat16", schedule="step"
    )
    assert read.train == expected and isinstance(read.train.clip_norm, float)
    assert read.selection.networks == ("mlp",) and not read.selection.balance and read.selection.runs == 2
    assert read.selection_train(2) == dataclasses.replace(
        expected, augment=False, weight_decay=1e-3, epochs=2
    )
    assert read.paper_table == "table1_cifar10_resnet18"


def test_yaml_goes_round(recipe):
    read = recipe(FULL)
    assert recipe(dump(read)) == read
    assert recipe(dump(ExperimentConfig("default"))) == ExperimentConfig("default")


def test_what_is_written_names_every_field_in_its_order(recipe):
    written = reading.parse(dump(recipe(FULL)), "text")
    assert list(written) == [field.name for field in dataclasses.fields(ExperimentConfig)]
    assert list(written["train"]) == [field.name for field in dataclasses.fields(TrainConfig)]


@pytest.mark.parametrize(("text", "value"), [("5e-4", 5e-4), ("1", 1.0), ("0.25", 0.25), ("'0.25'", 0.25)])
def test_numbers_are_read_however_they_are_written(recipe, text, value):
    read = recipe(f"name: x\ntrain: {{weight_decay: {text}}}")
    assert read.train.weight_decay == value and isinstance(read.train.weight_decay, float)


def test_one_value_stands_for_a_list_of_one(recipe):
    read = recipe(
        "name: x\nnetworks: lenet\nseeds: 3\nfractions: 0.2\nmethods: margin\nselection: {epochs: 4}"
    )
    assert (read.networks, read.seeds, read.fractions) == (("lenet",), (3,), (0.2,))
    assert read.methods == (MethodConfig("margin"),) and read.selection.epochs == (4,)


def test_settings_go_over_the_recipe(recipe):
    read = recipe(
        FULL,
        "train.epochs=20",
        "train.learning_rate=5e-2",
        "data.rows=null",
        "seeds=[1, 2]",
        "name = other",
        "methods=[uniform, {name: craig, label: c}]",
        "selection.train.augment=true",
        "selection.networks=[]",
        "train.amp=null",
        "fractions=[0.1]",
        "fractions=[0.2]",
    )
    assert (read.train.epochs, read.train.learning_rate, read.train.amp) == (20, 0.05, None)
    assert read.data.rows is None and read.seeds == (1, 2) and read.name == "other"
    assert [each.label for each in read.methods] == ["uniform", "c"]
    assert read.selection.train == {"augment": True, "weight_decay": 1e-3} and read.selection.networks == ()
    assert read.fractions == (0.2,)


def test_a_setting_makes_the_part_it_belongs_to(recipe):
    assert recipe("name: x", "train.epochs=3", "data.name=digits").train.epochs == 3


def test_a_recipe_is_named_or_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits_tiny").mkdir()  # results, in a folder with the name of the recipe
    assert load("digits_tiny").name == "digits_tiny"
    (tmp_path / "mine.yml").write_text("name: mine")
    (tmp_path / "bare").write_text("name: bare")
    assert load("mine.yml").name == "mine" and load(tmp_path / "bare").name == "bare"


# Errors


def refused(read, *arguments, error, words):
    with pytest.raises(error, match=words) as raised:
        read(*arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("train: {epoch: 3}", "train has no field 'epoch': did you mean 'epochs'?"),
        ("trian: {epochs: 3}", "has no field 'trian': did you mean 'train'?"),
        ("xyz: 3", "has no field 'xyz': its fields are name, data, networks"),
        ("data: {nmae: digits}", "data has no field 'nmae': did you mean 'name'?"),
        ("selection: {run: 2}", "selection has no field 'run': did you mean 'runs'?"),
        (
            "selection: {train: {augmen: no}}",
            "selection.train has no field 'augmen': did you mean 'augment'?",
        ),
        ("train: 3", "train must hold fields and values, got 3"),
        ("train: [epochs]", r"train must hold fields and values, got \['epochs'\]"),
        ("data: null", "data must hold fields and values, got None"),
        ("selection: {train: 3}", "selection.train must hold fields and values, got 3"),
        ("train: {epochs: 3.0}", "train.epochs must be an integer, got 3.0"),
        ("train: {epochs: many}", "train.epochs must be an integer, got 'many'"),
        ("train: {epochs: true}", "train.epochs must be an integer, got True"),
        ("train: {epochs: null}", "train.epochs must be an integer, got None"),
        ("train: {learning_rate: fast}", "train.learning_rate must be a number, got 'fast'"),
        ("train: {learning_rate: true}", "train.learning_rate must be a number, got True"),
        ("train: {learning_rate: [0.1]}", r"train.learning_rate must be a number, got \[0.1\]"),
        ("train: {augment: 1}", "train.augment must be true or false, got 1"),
        ("train: {augment: 'no'}", "train.augment must be true or false, got 'no'"),
        ("train: {optimizer: 3}", "train.optimizer must be a text, got 3"),
        ("train: {milestones: [half]}", "train.milestones must be a number, got 'half'"),
        ("train: {amp: true}", "train.amp must be a text, got True"),
        ("data: {name: 7}", "data.name must be a text, got 7"),
        ("data: {name: ''}", "data.name must be a text, got ''"),
        ("data: {rows: 1.5}", "data.rows must be an integer, got 1.5"),
        ("networks: [3]", "networks must be a text, got 3"),
        ("seeds: ['0']", "seeds must be an integer, got '0'"),
        ("seeds: [true]", "seeds must be an integer, got True"),
        ("fractions: [1%]", "fractions must be a number, got '1%'"),
        ("methods: [3]", "methods must be names, or mappings with a name, got 3"),
        ("methods: [{lam: 1}]", "methods must be names, or mappings with a name, got {'lam': 1}"),
        ("methods: [{name: [craig]}]", r"methods.name must be a text, got \['craig'\]"),
        ("methods: [{name: craig, label: 3}]", "methods.label must be a text, got 3"),
        ("methods: [{name: craig, options: [lam]}]", r"methods.options must hold fields .* got \['lam'\]"),
        ("selection: {runs: two}", "selection.runs must be an integer, got 'two'"),
        (
            "selection: {train: {epochs_: 3}}",
            "selection.train has no field 'epochs_': did you mean 'epochs'?",
        ),
        ("paper_table: 1", "paper_table must be a text, got 1"),
    ],
)
def test_unknown_fields_and_wrong_types_are_named(recipe, part, words):
    refused(recipe, f"name: x\n{part}", error=TypeError, words=words)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("train: {epochs: -1}", "train.epochs must be an integer of at least 0, got -1"),
        ("train: {batch_size: 0}", "train.batch_size must be an integer of at least 1, got 0"),
        ("train: {evaluate_every: 0}", "train.evaluate_every must be an integer of at least 1, got 0"),
        ("train: {optimizer: adam}", "train.optimizer must be one of 'sgd', 'adamw', got 'adam'"),
        ("train: {schedule: linear}", "train.schedule must be one of .* got 'linear'"),
        ("train: {amp: half}", "train.amp must be one of None, 'bfloat16', 'float16', got 'half'"),
        ("train: {learning_rate: 0}", r"train.learning_rate must be in \(0, inf\), got 0"),
        ("train: {learning_rate: .nan}", r"train.learning_rate must be in \(0, inf\), got nan"),
        ("train: {learning_rate: .inf}", r"train.learning_rate must be in \(0, inf\), got inf"),
        (
            "train: {learning_rate: 1e-5}",
            "train.final_learning_rate must be at most train.learning_rate=1e-05",
        ),
        ("train: {momentum: 1}", r"train.momentum must be in \[0, 1\), got 1"),
        ("train: {weight_decay: -1}", "train.weight_decay must be in"),
        ("train: {label_smoothing: 1}", "train.label_smoothing must be in"),
        ("train: {decay: 0}", "train.decay must be in"),
        ("train: {milestones: [0.5, 1]}", r"train.milestones must be in \(0, 1\), got 1"),
        ("train: {warmup_epochs: -1}", "train.warmup_epochs must be in"),
        ("train: {clip_norm: 0}", "train.clip_norm must be in"),
        ("data: {rows: 0}", "data.rows must be an integer of at least 1, got 0"),
        ("data: {workers: -1}", "data.workers must be an integer of at least 0, got -1"),
        ("methods: [gradmach]", "unknown method 'gradmach': did you mean 'gradmatch'?"),
        ("methods: []", r"methods must not be empty, got \[\]"),
        ("networks: []", r"networks must not be empty, got \[\]"),
        ("fractions: []", r"fractions must not be empty, got \[\]"),
        ("seeds: []", r"seeds must not be empty, got \[\]"),
        ("fractions: [0]", r"fractions must be in \(0, 1\], got 0"),
        ("fractions: [1.5]", r"fractions must be in \(0, 1\], got 1.5"),
        ("seeds: [-1]", "seeds must be an integer of at least 0, got -1"),
        ("seeds: [1, 2, 1]", "seeds must differ, got 1 twice"),
        ("fractions: [0.1, 0.10]", "fractions must differ, got 0.1 twice"),
        ("networks: [mlp, mlp]", "networks must differ, got mlp twice"),
        ("methods: [craig, {name: craig, metric: dot}]", "methods must differ, got craig twice"),
        (
            "methods: [{name: craig, metric: dot, options: {metric: dot}}]",
            "craig has metric beside its options",
        ),
        ("selection: {networks: [mlp, mlp]}", "selection.networks must differ, got mlp twice"),
        ("selection: {epochs: [5, 5]}", "selection.epochs must differ, got 5 twice"),
        ("selection: {epochs: []}", "selection.epochs must name at least one number of epochs"),
        ("selection: {epochs: [-1]}", "selection.epochs must be an integer of at least 0, got -1"),
        ("selection: {runs: 0}", "selection.runs must be an integer of at least 1, got 0"),
        ("selection: {warm_start: 1}", r"selection.warm_start must be in \[0, 1\), got 1"),
        ("selection: {warm_start: 0.5}", "selection.warm_start=0.5 needs selection.reselect_every, got None"),
        (
            "selection: {reselect_every: 0}",
            "selection.reselect_every must be an integer of at least 1, got 0",
        ),
        ("selection: {train: {epochs: 5}}", "selection.train must not set epochs, got 5"),
        ("selection: {train: {momentum: 2}}", r"selection.train.momentum must be in \[0, 1\), got 2"),
        ("name: y", "names 'name' twice"),
        ("train: {epochs: 1, epochs: 2}", "names 'epochs' twice"),
        ("train: {epochs: ", "is not YAML: "),
        ("train: !!python/object:os.system {}", "is not YAML: could not determine a constructor"),
    ],
)
def test_values_out_of_range_are_named(recipe, part, words):
    refused(recipe, f"name: x\n{part}", error=ValueError, words=words)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", ValueError, "recipe.yaml must hold fields and values, got NoneType"),
        ("- uniform", ValueError, "recipe.yaml must hold fields and values, got list"),
        ("data: {name: digits}", TypeError, "ExperimentConfig needs a name"),
    ],
)
def test_a_text_that_is_no_recipe_is_refused(recipe, text, error, words):
    refused(recipe, text, error=error, words=words)


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("train.epochs", ValueError, "a setting must be written field=value, got 'train.epochs'"),
        ("=3", ValueError, "a setting must be written field=value, got '=3'"),
        ("train.=3", ValueError, "a setting must be written field=value, got 'train.=3'"),
        ("name.first=x", ValueError, "name of 'name.first=x' has no fields"),
        ("train.epochs.now=x", ValueError, "epochs of 'train.epochs.now=x' has no fields"),
        ("train.epoch=3", TypeError, "train has no field 'epoch': did you mean 'epochs'?"),
        ("train.epochs=", TypeError, "train.epochs must be an integer, got None"),
        ("seeds=[1,", TypeError, r"seeds must be an integer, got '\[1,'"),
        ("data=cifar10", TypeError, "data must hold fields and values, got 'cifar10'"),
    ],
)
def test_wrong_settings_are_named(recipe, override, error, words):
    refused(recipe, "name: x\ntrain: {epochs: 2}", override, error=error, words=words)


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    refused(load, "digits_tny", error=ValueError, words="got 'digits_tny': did you mean 'digits_tiny'?")
    refused(load, "qqq", error=ValueError, words="got 'qqq': there are digits_tiny, ")
    refused(load, tmp_path / "none.yaml", error=OSError, words="cannot read .*none.yaml: No such file")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    refused(load, tmp_path / "bytes.yaml", error=ValueError, words="bytes.yaml is not YAML: it is not text")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"networks": "resnet18"}, "networks must be a tuple of texts, got 'resnet18'"),
        ({"methods": ("uniform",)}, r"methods must be a tuple of MethodConfigs, got \('uniform',\)"),
        ({"seeds": [0]}, r"seeds must be a tuple of integers, got \[0\]"),
        ({"fractions": 0.1}, "fractions must be a tuple of numbers, got 0.1"),
    ],
)
def test_python_users_are_told_of_wrong_types_too(arguments, words):
    refused(lambda: ExperimentConfig("x", **arguments), error=TypeError, words=words)
