"""A network that is looked at and left as it was: its modes, its logits, the layer that makes them."""

from __future__ import annotations

import contextlib
import copy
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastcore.inputs import as_device


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Runs a block with the model in eval mode; afterwards every submodule has the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    switched = any(mode for _, mode in modes)
    try:
        if switched:
            model.eval()
        yield
    finally:
        if switched:
            model.train(modes[0][1])  # a model may do more than set flags when it changes its mode
        for module, mode in modes:
            module.training = mode


def unwrapped(model: Any) -> nn.Module:
    """The network itself, without the wrappers of ``torch.compile`` and data parallelism, which hide hooks."""
    while isinstance(model, nn.Module):
        if "_orig_mod" in model._modules:
            model = model._modules["_orig_mod"]
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model
    raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def placed(model: nn.Module, device: Any) -> tuple[nn.Module, torch.device, torch.dtype]:
    """The model on a device, that device, and the dtype of its parameters.

    None means where the model is. On another device a copy of it runs: the user's stays where it is.
    """
    parameters = [*model.parameters(), *model.buffers()]
    dtype = next((each.dtype for each in parameters if each.is_floating_point()), torch.float32)
    here = parameters[0].device if parameters else torch.device("cpu")
    wanted = as_device(device)
    if wanted is None or all(_same(each.device, wanted) for each in parameters):
        return model, wanted or here, dtype
    return copy.deepcopy(model).to(wanted), wanted, dtype


def _same(here: torch.device, wanted: torch.device) -> bool:
    return here.type == wanted.type and (here.index or 0) == (wanted.index or 0)


def logits_of(model: nn.Module, inputs: Any) -> Tensor:
    """What the model gives for a batch: its logits, in the shape it gives them.

    A dict of inputs is passed as keywords, a tuple as positions. Of a dict or an object with ``logits`` those
    are taken, of a tuple or a list the first entry. Raises TypeError for anything else.
    """
    if isinstance(inputs, Mapping):
        output = model(**inputs)
    elif isinstance(inputs, tuple):
        output = model(*inputs)
    else:
        output = model(inputs)
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise TypeError(
            f"model must return logits, a tuple that begins with them or an object with .logits, but "
            f"{type(model).__name__} returned {type(output).__name__}"
        )
    return output


class Tap:
    """Reads the input of one layer whenever the model runs; a context manager.

    The layer is the linear one whose output is the model's logits, found on a first batch, or the one that the
    user named. It must run once in a forward pass.
    """

    def __init__(self, model: nn.Module, layer: nn.Module) -> None:
        self._model, self.layer = model, layer
        self._name = name_of(model, layer)
        self._inputs: list[Any] = []

    def __enter__(self) -> Tap:
        self._hook = self.layer.register_forward_pre_hook(self._keep, with_kwargs=True)
        return self

    def __exit__(self, *exc: object) -> None:
        self._hook.remove()

    def _keep(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = args[0] if args else next(iter(kwargs.values()), None)
        # A copy: the layers after it may change their input in place.
        self._inputs.append(value.detach().clone() if isinstance(value, Tensor) else value)

    def run(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Logits of a batch and (b, D) embeddings. Raises ValueError where the layer's input is no (b, D)."""
        self._inputs.clear()
        logits = logits_of(self._model, inputs)
        if len(self._inputs) != 1:
            raise ValueError(_runs(self._model, self._name, len(self._inputs)))
        h = self._inputs.pop()
        if not isinstance(h, Tensor) or h.ndim != 2 or len(h) != len(logits):
            shape = f"shape {tuple(h.shape)}" if isinstance(h, Tensor) else f"a {type(h).__name__}"
            raise ValueError(
                f"layer {self._name!r} of {type(self._model).__name__} must take embeddings of shape "
                f"({len(logits)}, width), one row for each input, but takes {shape}: name another with layer="
            )
        return logits, h


def last_linear(model: nn.Module, inputs: Any) -> nn.Linear:
    """The linear layer whose output is the logits of the model, found by running it on a batch.

    That ``linear(h)`` is the logits is checked, so that delta ⊗ [1; h] is the gradient by this layer. Raises
    ValueError, naming the model, where there is no such layer. ``Tap`` sees to it that it runs only once.
    """
    calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        h = args[0] if args else next(iter(kwargs.values()), None)
        # Outputs of another rank are no logits, and those of all layers together may be large.
        if isinstance(layer, nn.Linear) and isinstance(h, Tensor) and h.ndim == 2 == output.ndim:
            calls.append((layer, h.detach().clone(), output.detach().clone()))

    with contextlib.ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                hook = module.register_forward_hook(keep, with_kwargs=True)
                hooks.callback(hook.remove)
        logits = logits_of(model, inputs)
    for layer, h, output in reversed(calls):
        if output.shape == logits.shape and _close(output, logits):
            name = name_of(model, layer)
            if not _close(functional.linear(h, layer.weight, layer.bias), logits):
                raise ValueError(
                    f"layer {name!r} of {type(model).__name__} is a {type(layer).__name__} that gives something "
                    "else than weight · input + bias: name the layer whose input you want with layer="
                )
            return layer
    raise ValueError(
        f"{type(model).__name__} has no linear layer whose output is the logits it returns"
        f"{_linear_layers(model)}: name the layer whose input is the embedding with layer=, and let the model "
        "return logits, not probabilities"
    )


def named_layer(model: nn.Module, layer: str | nn.Module) -> nn.Module:
    """The submodule of that name. Raises ValueError, with the closest name there is, when there is none."""
    if isinstance(layer, nn.Module):
        name_of(model, layer)  # it must be a part of the model
        return layer
    names: dict[str, nn.Module] = dict(model.named_modules())
    if not isinstance(layer, str):
        raise TypeError(f"layer must be a name or a module of the model, got {type(layer).__name__}")
    if layer not in names:
        close = difflib.get_close_matches(layer, names, n=1)
        hint = f": did you mean {close[0]!r}?" if close else _linear_layers(model)
        raise ValueError(f"layer must name a module of {type(model).__name__}, got {layer!r}{hint}")
    return names[layer]


def name_of(model: nn.Module, layer: nn.Module) -> str:
    """The name of a submodule. Raises ValueError when it is none."""
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    if layer in names:
        return names[layer]
    raise ValueError(f"layer must be a module of {type(model).__name__}, got another {type(layer).__name__}")


def makes_logits(layer: nn.Module, h: Tensor, logits: Tensor) -> bool:
    """Whether the logits are a linear function of the embeddings by this layer's weights."""
    if not isinstance(layer, nn.Linear) or h.shape[1] != layer.in_features:
        return False
    return logits.shape == (len(h), layer.out_features) and _close(
        functional.linear(h, layer.weight, layer.bias), logits
    )


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding in the coarser of the two dtypes. NaN equals NaN: its own error comes later."""
    eps = max(torch.finfo(each.dtype).eps for each in (a, b))
    a, b = a.double(), b.double()
    scale = float(torch.nan_to_num(b, posinf=0.0, neginf=0.0).abs().max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=64 * eps * scale, equal_nan=True)


def _runs(model: nn.Module, name: str, times: int) -> str:
    how = "does not run" if times == 0 else f"runs {times} times"
    return (
        f"layer {name!r} of {type(model).__name__} {how} in one forward pass, it must run once: name another "
        "with layer="
    )


def _linear_layers(model: nn.Module) -> str:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        return " (it has no linear layer at all)"
    few = ", ".join(map(repr, names[-3:]))
    return f" (its {'last ' if len(names) > 3 else ''}linear layers: {few})"
