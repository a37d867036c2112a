"""Data sets that a function of the user's makes, by its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from fastcore.train.config import DataConfig
from fastcore.train.datasets.base import Splits
from fastcore.train.datasets.wrapping import from_dataset
from fastcore.train.named import function_named

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def call(config: DataConfig) -> Splits:
    """What the function "package.module:function" gives, called with the configuration or with nothing.

    It gets the configuration where it has an argument that it must be given, or one that is called config. It
    gives ``Splits``, a pair (train, test), or a mapping with both. Raises ValueError and TypeError that name it.
    """
    function = function_named("data.name", config.name)
    parameters = inspect.signature(function).parameters.values()
    named = any(each.name == "config" for each in parameters)
    needed = any(each.default is each.empty and each.kind in _BY_POSITION for each in parameters)
    made = function(config=config) if named else function(config) if needed else function()
    if isinstance(made, Splits):
        return made
    if isinstance(made, Mapping) and {"train", "test"} <= set(made):
        made = made["train"], made["test"]
    if not isinstance(made, tuple | list) or len(made) != 2:
        kind = type(made).__name__
        raise TypeError(f"{config.name} must give Splits, or a pair (train, test) of data sets, got {kind}")
    return from_dataset(*made, name=config.name)
