"""What a run changes around it and puts back: random state, kernels, training mode, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import nn

from fastcore.train.datasets.seeds import mixed


@contextlib.contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Runs a block after which every submodule is in the mode, training or not, that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        network.train(modes[0][1])  # a network may do more than set flags when it changes its mode
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def kernels(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Runs a block with deterministic kernels only, or with the fastest ones."""
    cudnn, fill = torch.backends.cudnn, torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    flags = cudnn.deterministic, cudnn.benchmark
    algorithms = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        if deterministic and device.type == "cuda" and workspace is None:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(deterministic)
        # Memory that nothing has written is not read by what we run: filling it would only cost time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = flags
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(algorithms, warn_only=warned)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


class Randomness:
    """Random numbers of a run that are a pure function of (seed, epoch, step), whatever drew some before.

    A context manager: afterwards torch's generators are as they were. So a checkpoint needs no random state, and
    neither tests nor loaders shift the dropout of the steps that follow.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._generators = [torch.default_generator]
        self._devices: list[Any] = []
        if device.type == "cuda":
            torch.cuda.init()
            self._generators.append(torch.cuda.default_generators[device.index])
            self._devices = [device.index]

    def __enter__(self) -> Randomness:
        self._fork = torch.random.fork_rng(devices=self._devices)
        self._fork.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._fork.__exit__(*exc)

    def at(self, epoch: int, step: int) -> None:
        """Sets the generators for a step; -1 stands for what comes before the first step."""
        number = mixed("step", self._seed, epoch, step)
        for generator in self._generators:
            generator.manual_seed(number)


class Interrupts:
    """Notes the first Ctrl-C instead of raising KeyboardInterrupt; the second raises at once.

    A context manager. Only the main thread can do so, and a Ctrl-C that is ignored stays ignored: elsewhere
    nothing changes.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.noted = False
        self._wanted = wanted
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        here = threading.current_thread() is threading.main_thread()
        if self._wanted and here and signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = True
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
