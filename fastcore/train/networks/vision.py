"""torchvision's networks, for large images."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastcore.train.networks.blocks import Network, Shape


def build(name: str, model: str, shape: Shape, classes: int) -> Network:
    """A network of torchvision without pretrained weights, its last linear layer taken out as the head.

    What stands before that layer, dropout included, belongs to the embedding. AlexNet and VGG (with batch norm)
    have no deterministic backward pass on CUDA for images of another size than 224 x 224. Raises ValueError where
    torchvision is missing or does not fit torch, and for images that have not 3 channels.
    """
    size = " x ".join(map(str, shape))
    models = _models(f"network {name!r} at {size}")
    if shape[0] != 3:
        raise ValueError(f"network {name!r} takes images of 3 channels at this size, got {size}")
    options = {"aux_logits": False, "init_weights": True} if name == "inception_v3" else {}
    body = getattr(models, model)(weights=None, num_classes=classes, **options)
    if shape[1:] == (224, 224) and name.startswith(("alexnet", "vgg")):
        body.avgpool = nn.Identity()  # pools n x n maps to n x n, and is not deterministic on CUDA
    head = _detach_last_linear(body)
    return Network(body, head)


def _models(what: str) -> Any:
    try:
        from torchvision import models
    except ImportError as error:
        raise ValueError(
            f"{what} comes from torchvision, which is missing: pip install torchvision"
        ) from error
    except RuntimeError as error:  # its operators are not there
        raise ValueError(f"{what} comes from torchvision, whose build does not fit this torch") from error
    return models


def _detach_last_linear(model: nn.Module) -> nn.Linear:
    """The last linear layer of a model, which an identity replaces there."""
    name, head = [each for each in model.named_modules() if isinstance(each[1], nn.Linear)][-1]
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, nn.Identity())
    assert isinstance(head, nn.Linear)
    return head
