"""Lets a torchvision whose compiled operators do not fit this torch be imported: only its networks are used."""

from __future__ import annotations

from typing import Any

import pytest
import torch

_SCHEMAS = ("nms", "qnms")
_kept: list[Any] = []  # a library takes its operators with it


def define() -> None:
    """Declares the operators whose meta kernels torchvision registers when imported, where they are missing."""
    for name in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(library)


def models() -> Any:
    """The module ``torchvision.models``; the test is skipped where there is none."""
    define()
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs torchvision: {error}")
    return models
