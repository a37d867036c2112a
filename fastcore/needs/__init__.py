"""What a method needs, made from what the user has: arrays, gradients, signals, a record of training, a model."""

from fastcore.needs.extraction import EXTRACTION, run
from fastcore.needs.other_rows import preselected_of, validation_of
from fastcore.needs.source import Source
from fastcore.needs.storage import STORAGE

__all__ = ["EXTRACTION", "STORAGE", "Source", "preselected_of", "run", "validation_of"]
