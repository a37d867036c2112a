"""Networks by name: the list of them, and how one is made for a size of image and a number of classes."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from fastcore import checks
from fastcore.train.networks import custom, vision
from fastcore.train.networks.alexnet import alexnet
from fastcore.train.networks.blocks import LARGE, Network, Shape
from fastcore.train.networks.inception import inception_v3
from fastcore.train.networks.lenet import lenet
from fastcore.train.networks.mlp import mlp
from fastcore.train.networks.mobilenet import mobilenet_v3
from fastcore.train.networks.resnet import resnet
from fastcore.train.networks.vgg import vgg
from fastcore.train.networks.wide_resnet import wide_resnet


@dataclass(frozen=True)
class _Form:
    """How a network is made for small images, and which of torchvision's takes large ones; None: ours too."""

    small: Callable[[Shape, int], Network]
    large: str | None = None


_FORMS = {
    "mlp": _Form(mlp),
    "lenet": _Form(lenet),
    "alexnet": _Form(alexnet, "alexnet"),
    **{f"vgg{depth}": _Form(partial(vgg, depth=depth), f"vgg{depth}_bn") for depth in (11, 13, 16, 19)},
    "inception_v3": _Form(inception_v3, "inception_v3"),
    **{
        f"resnet{depth}": _Form(partial(resnet, depth=depth), f"resnet{depth}")
        for depth in (18, 34, 50, 101, 152)
    },
    "wrn16_8": _Form(partial(wide_resnet, depth=16, widening=8)),
    "wrn28_10": _Form(partial(wide_resnet, depth=28, widening=10)),
    "wrn28_2": _Form(partial(wide_resnet, depth=28, widening=2)),
    "wrn50_2": _Form(partial(resnet, depth=50, widening=2), "wide_resnet50_2"),
    "wrn101_2": _Form(partial(resnet, depth=101, widening=2), "wide_resnet101_2"),
    "mobilenet_v3_large": _Form(partial(mobilenet_v3, size="large"), "mobilenet_v3_large"),
    "mobilenet_v3_small": _Form(partial(mobilenet_v3, size="small"), "mobilenet_v3_small"),
}


def names() -> list[str]:
    """The networks that ``build`` knows."""
    return list(_FORMS)


def build(name: str, *, shape: Sequence[int], classes: int, seed: int | None = None) -> nn.Module:
    """A freshly initialised network, on the CPU, that gives the logits of images; nothing is ever downloaded.

    ``name`` is one of ``names()``, or "package.module:function" of your own, called as
    ``function(shape=..., classes=...)``: any module whose output is logits. Ours are a ``Network``, with
    ``embedding(x)`` (b, D) and the linear layer ``head``, so that the logits are ``head(embedding(x))``.

    Images whose shorter side is below 96 pixels go through small-image forms, from 1 x 1 on; larger ones
    through torchvision's (``mlp``, ``lenet`` and the WRNs of 16 and 28 layers are ours at every size).

    Args:
        name: which network.
        shape: channels, height and width of an image.
        classes: number of classes.
        seed: what the initialisation depends on, alone; the state of torch's global generator is left as it
            was. None draws from the global generator.

    Raises:
        ValueError: for an unknown name (with the closest there is), a shape the network cannot take, or when
            it needs torchvision and there is none.
        TypeError: where your function gives no module.
    """
    shape = _shape(shape)
    checks.whole("classes", classes, 1)
    if seed is not None:
        checks.whole("seed", seed, 0)
    make = custom.maker(name) if isinstance(name, str) and ":" in name else _maker(name, shape)
    with _initialisation(seed):
        return make(shape, classes)


def _maker(name: Any, shape: Shape) -> Callable[[Shape, int], nn.Module]:
    if name not in names():
        close = difflib.get_close_matches(str(name), names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names())}"
        raise ValueError(f'network must be a name or "package.module:function", got {name!r}: {hint}')
    form = _FORMS[name]
    if form.large is None or min(shape[1:]) < LARGE:
        return form.small
    return partial(vision.build, name, form.large)


def _shape(shape: Any) -> Shape:
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(sizes) != 3:
        raise ValueError(f"shape must be channels, height and width of an image, got {shape!r}")
    c, h, w = (checks.whole("shape", size, 1) for size in sizes)
    return c, h, w


@contextlib.contextmanager
def _initialisation(seed: int | None) -> Iterator[None]:
    """Seeds a block and puts the generator back; without a seed the block draws from it as usual."""
    # A generator of a GPU would give other numbers: what depends on the seed alone is made on the CPU.
    device = "meta" if torch.get_default_device().type == "meta" else "cpu"
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.device(device))
        if seed is not None:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.default_generator.manual_seed(seed)
        yield
