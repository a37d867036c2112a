"""Training of a network on rows of a data set, to be repeated and resumed bit for bit."""

from fastcore.train.training.evaluation import evaluate
from fastcore.train.training.loop import fit
from fastcore.train.training.optimization import learning_rate
from fastcore.train.training.records import TrainingResult
from fastcore.train.training.rows import RowChooser, Rows

__all__ = ["RowChooser", "Rows", "TrainingResult", "evaluate", "fit", "learning_rate"]
