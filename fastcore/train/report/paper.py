"""The numbers of the DeepCore paper, and what is known of the code that they came from."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastcore.train.report.statistics import Difference

#: Tables of the paper, by the names that a recipe gives in ``paper_table``.
TABLES = (
    "table1_cifar10_resnet18",
    "table2_imagenet_resnet18",
    "table3_cross_architecture",
    "table4_pretrain_epochs",
)
#: Epochs that the paper trains a network for that selects, and one that is trained on the coreset.
SELECTION_EPOCHS, EPOCHS = 10, 200
_SEEDS = {"table2_imagenet_resnet18": 3}  # 5 in the others
_NAMES = {"random": "uniform", "kcenter": "k_center"}

_REVERSED = (
    "the published code reverses the order when the selection is not balanced; the paper's selections are "
    "balanced"
)
# Our words for where the published code computes something else than the paper defines.
NOTES = {
    "contextual_diversity": "the published code takes logarithms of probabilities that may be 0, so that "
    "divergences may be undefined",
    "herding": "the published code picks the farthest row where the definition takes the nearest",
    "least_confidence": "the published code ranks by the largest logit instead of the largest probability",
    "entropy": _REVERSED,
    "margin": _REVERSED,
    "forgetting": "the published code gives rows that were never learned 0 forgetting events, the fewest",
    "grand": "the published code differentiates the mean loss of a batch, so that norms depend on its size, "
    "and gives it probabilities where it takes logits",
    "cal": "the published code keeps the least divergent rows where the definition keeps the most divergent",
    "craig": "the published code differentiates the mean loss of a batch and adds 1 to every weight",
    "gradmatch": "the published code differentiates the mean loss of a batch, which changes how much its "
    "regularisation weighs",
    "glister": "the published code differentiates the mean loss of a batch, never refreshes the validation "
    "gradient and validates on the training rows",
}
_ABSENT = {
    ("imagenet", "deepfool"): "the paper has no number on ImageNet: the published code takes a backward "
    "pass for every class of every image",
}


@dataclass(frozen=True)
class Published:
    """A cell of a table of the paper: accuracy in %, mean and standard deviation over ``n`` seeds."""

    mean: float
    std: float
    n: int

    def above(self, other: Published) -> Difference:
        """By how much it lies above another cell; chance explains up to two standard errors."""
        return Difference(
            self.mean - other.mean, math.sqrt(self.std**2 / self.n + other.std**2 / other.n), 2.0
        )


# Data set, trained network, network that selects (None for none), its epochs (likewise), method, fraction.
Place = tuple[str, str, str | None, int | None, str, float]


@cache
def table(name: str) -> dict[Place, Published]:
    """The cells of a table of the paper under our names of methods."""
    text = (resources.files("fastcore.train.report") / "paper" / f"{name}.csv").read_text(encoding="utf-8")
    cells = {}
    for row in csv.DictReader(text.splitlines()):
        method = _NAMES.get(row["method"], row["method"])
        needs = None if method == "uniform" else "resnet18"
        network, selected_on = row.get("trained_on", "resnet18"), row.get("selected_on", needs)
        epochs = int(row.get("pretrain_epochs", SELECTION_EPOCHS))
        dataset = "imagenet" if "imagenet" in name else "cifar10"
        chosen = (None, None) if method == "uniform" else (selected_on, epochs)
        published = Published(float(row["accuracy_mean"]), float(row["accuracy_std"]), _SEEDS.get(name, 5))
        place: Place = (dataset, network, *chosen, method, float(row["fraction"]))
        cells[place] = published
    return cells


def published(place: Place, named: str | None = None) -> Published | None:
    """What the paper reports there, in the table that is named or else in another; None where it has no number."""
    for name in sorted(TABLES, key=lambda each: each != named):
        if place in table(name):
            return table(name)[place]
    return None


def order(dataset: str) -> dict[tuple[str, float], Published]:
    """Accuracies by method and fraction in table 2 for ImageNet, in table 1 for all other data sets."""
    name = TABLES[1] if dataset == "imagenet" else TABLES[0]
    return {(method, fraction): cell for (*_, method, fraction), cell in table(name).items()}


@cache
def methods() -> tuple[str, ...]:
    """Methods of the paper in the order of table 1, under our names."""
    return tuple(dict.fromkeys(method for (*_, method, _) in table(TABLES[0])))


def notes(shown: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What to say beside the paper's numbers, by method, for pairs of data set and method that are shown."""
    shown = set(shown)
    names = [*methods(), *sorted({method for _, method in shown} - set(methods()))]
    found = {}
    for name in names:
        datasets = sorted(dataset for dataset, method in shown if method == name)
        said = [_ABSENT[dataset, name] for dataset in datasets if (dataset, name) in _ABSENT]
        if datasets and name in NOTES:
            said.insert(0, NOTES[name])
        if said:
            found[name] = "; ".join(said)
    return found
