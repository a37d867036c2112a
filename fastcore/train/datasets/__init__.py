"""Data sets to train on: standard files on disk, or any data set of the user's."""

from fastcore.train.datasets.augmentation import Augmentation
from fastcore.train.datasets.base import LabelledSet, Splits
from fastcore.train.datasets.batches import TrainingBatch, TrainingBatches
from fastcore.train.datasets.catalogue import load, names
from fastcore.train.datasets.folders import FolderSet
from fastcore.train.datasets.images import ImageSet
from fastcore.train.datasets.itemset import ItemSet
from fastcore.train.datasets.wrapping import from_dataset

__all__ = [
    "Augmentation",
    "FolderSet",
    "ImageSet",
    "ItemSet",
    "LabelledSet",
    "Splits",
    "TrainingBatch",
    "TrainingBatches",
    "from_dataset",
    "load",
    "names",
]
