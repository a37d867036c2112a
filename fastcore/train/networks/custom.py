"""Networks of the user's own, by the name of the function that makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fastcore.signals.networks import evaluating, logits_of
from fastcore.train.named import function_named
from fastcore.train.networks.blocks import Shape


def maker(name: str) -> Callable[[Shape, int], nn.Module]:
    """What makes the network "package.module:function". Raises ValueError where there is no such function."""
    function = function_named("network", name)
    return lambda shape, classes: _checked(name, function(shape=shape, classes=classes), shape, classes)


def _checked(name: str, network: Any, shape: Shape, classes: int) -> nn.Module:
    """The network, after a batch of zeros in eval mode, which changes nothing of it, gave logits."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"network {name!r} must make a torch.nn.Module, got {type(network).__name__}")
    first = next(network.parameters(), torch.empty(0))
    images = torch.zeros(2, *shape, device=first.device, dtype=first.dtype)
    with evaluating(network), torch.no_grad():
        try:
            logits = logits_of(network, images)
        except RuntimeError as error:  # torch's own errors may have many lines
            reason = str(error).partition("\n")[0]
            raise ValueError(f"network {name!r} fails for images of shape {shape}: {reason}") from error
    if logits.shape != (2, classes):
        raise ValueError(
            f"network {name!r} must give logits of shape (2, {classes}) for 2 images of shape {shape}, "
            f"got {tuple(logits.shape)}"
        )
    return network
