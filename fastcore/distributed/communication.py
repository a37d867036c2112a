"""The ranks that select together: collectives in which no rank waits for one that has failed."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

_HEAD, _SHORT = 16, 4080
"""Bytes of a letter: its head, the length of the text and whether the rank is well, and what fits beside it."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def on_every_rank(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Lets a function with an argument `group` run on all ranks of a group, with `group` the Ranks of it.

    Without a group it is called as it is. With one, an error on any rank is raised on all of them.
    """

    @functools.wraps(function)
    def joined(*args: _Arguments.args, **settings: _Arguments.kwargs) -> _Result:
        if settings.get("group") is None:
            return function(*args, **settings)
        ranks = join(settings["group"])
        settings["group"] = ranks
        with ranks.together():
            return function(*args, **settings)

    return joined


def join(group: Any) -> Ranks:
    """The ranks of a process group, or of all processes for "world", which is set up where it is not yet.

    Raises TypeError for anything else, ValueError where there is nothing to join.
    """
    if not dist.is_available():
        raise ValueError(f"group needs torch.distributed, which this build of torch lacks, got {group!r}")
    if isinstance(group, str) and group == "world":
        if not dist.is_initialized():
            _start()
        group = dist.group.WORLD
    if not isinstance(group, dist.ProcessGroup):
        outside = group is dist.GroupMember.NON_GROUP_MEMBER
        got = "a group that this rank is not in" if outside else repr(group)
        raise TypeError(f"group must be None, 'world' or a torch.distributed process group, got {got}")
    return Ranks(group)


def _start() -> None:
    missing = [
        name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise ValueError(
            f"group='world' needs torch.distributed: start with torchrun, or call init_process_group first "
            f"({', '.join(missing)} not set)"
        )
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    dist.init_process_group(backend)
    atexit.register(_stop)


def _stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class Ranks:
    """Collectives of one group. Every rank calls the same ones in the same order.

    Each of them starts with a letter of one size from every rank to every rank, which says whether the rank is
    well and holds what is short: so an error between two collectives ends the work of all ranks and leaves the
    group fit for use. Results are the same bits on every rank.

    Attributes:
        rank: number of this process in the group.
        size: number of processes.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        # "cpu:gloo,cuda:nccl"
        self._served = {part.partition(":")[0] for part in str(dist.get_backend_config(group)).split(",")}
        self._letters = torch.device("cpu")
        if "cpu" not in self._served:  # NCCL alone, over the GPU that the group was made for
            bound = getattr(group, "bound_device_id", None)
            self._letters = bound or torch.device("cuda", torch.cuda.current_device())
        self._over = False

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Runs a block that raises on every rank where it raises on one.

        A rank raises its own error; the others one of the same kind that names the rank.
        """
        try:
            yield
            self._send(b"")
        except Exception as error:
            if not self._over:
                text = f"{type(error).__name__}: {error}".encode()[:_SHORT]
                self._send(text, well=False)
            raise

    def exchange(self, value: Any) -> list[Any]:
        """A small value of every rank, by rank: what JSON can hold."""
        return [json.loads(text) for text in self._send(json.dumps(value).encode())]

    def agree(self, values: dict[str, str | None]) -> None:
        """Raises ValueError, on all ranks, where two ranks have other values for a name; None is no opinion."""
        every = self.exchange(values)
        for name in values:
            given = [(rank, other.get(name)) for rank, other in enumerate(every)]
            given = [(rank, text) for rank, text in given if text is not None]
            for rank, text in given:
                if text != given[0][1]:
                    raise ValueError(
                        f"{name} must be the same on all ranks, got {given[0][1]} on rank {given[0][0]} and "
                        f"{text} on rank {rank}"
                    )

    def one_record(self, info: dict[str, Any]) -> dict[str, Any]:
        """The record of a selection, the same on all ranks: that of rank 0, the longest time, the highest peak."""
        costs = ("seconds", "peak_bytes")
        every = self.exchange([info[name] for name in costs] + [info["device"], info["memory"]])
        highest = {name: max(each[at] for each in every) for at, name in enumerate(costs)}
        return info | highest | {"device": every[0][2], "memory": every[0][3], "ranks": self.size}

    def gather(self, values: Tensor) -> Tensor:
        """(ranks, ...) values of every rank, which have one shape."""
        if values.nbytes > _SHORT:
            self._send(b"")
            return self._gather(values)
        sent = self._send(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        joined = torch.frombuffer(bytearray(b"".join(sent)) or bytearray(1), dtype=torch.uint8)
        joined = joined[: self.size * values.nbytes]
        return joined.view(values.dtype).view(self.size, *values.shape).to(values.device)

    def gather_rows(self, values: Tensor, counts: list[int]) -> Tensor:
        """(sum, ...) values (count, ...) of every rank one after the other; counts are those of all ranks."""
        most = max(counts)
        padded = values.new_zeros(most, *values.shape[1:])
        padded[: len(values)] = values
        parts = self.gather(padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, added up in their order."""
        parts = self.gather(values)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def largest(self, values: Tensor) -> Tensor:
        """The largest over all ranks, element by element."""
        largest: Tensor = self.gather(values).amax(0)
        return largest

    def unite(self, values: Tensor) -> Tensor:
        """The sum over all ranks where at most one rank has another value than 0: exact, in any order."""
        if values.nbytes <= _SHORT:
            return self.sum(values)
        self._send(b"")
        moved = self._to_group(values).clone()
        self._call(dist.all_reduce, moved)
        return moved.to(values.device)

    def from_rank(self, source: int, values: Tensor) -> Tensor:
        """The values of one rank, on all; on the others `values` gives shape, dtype and device."""
        if values.nbytes <= _SHORT:
            return self.gather(values)[source]
        self._send(b"")
        moved = self._to_group(values).clone()
        self._call(dist.broadcast, moved, src=dist.get_global_rank(self.group, source))
        return moved.to(values.device)

    def move(self, values: Tensor, sent: list[int], received: list[int]) -> Tensor:
        """Sends the first sent[0] values to rank 0, the next sent[1] to rank 1, and returns what comes in."""
        self._send(b"")
        given = self._to_group(values)
        taken = given.new_empty(sum(received), *given.shape[1:])
        self._call(dist.all_to_all_single, taken, given, received, sent)
        return taken.to(values.device)

    def _send(self, text: bytes, well: bool = True) -> list[bytes]:
        """What every rank sends, by rank. Raises where one of the others is not well and this one is."""
        letter = np.zeros(_HEAD + _SHORT, np.uint8)
        letter[:_HEAD].view(np.int64)[:] = len(text), well
        letter[_HEAD : _HEAD + len(text)] = np.frombuffer(text[:_SHORT], np.uint8)
        letters = self._gather(torch.from_numpy(letter).to(self._letters)).cpu().numpy()
        heads = letters[:, :_HEAD].copy().view(np.int64)
        texts = [
            each[_HEAD : _HEAD + length].tobytes() for each, length in zip(letters, heads[:, 0], strict=True)
        ]
        if not heads[:, 1].all():
            self._over = True
            if well:
                rank = int(heads[:, 1].argmin())
                raise _error_of(rank, texts[rank].decode(errors="replace"))
            return texts
        longest = int(heads[:, 0].max())
        if longest > _SHORT:
            padded = np.zeros(longest, np.uint8)
            padded[: len(text)] = np.frombuffer(text, np.uint8)
            long = self._gather(torch.from_numpy(padded).to(self._letters)).cpu().numpy()
            texts = [each[:length].tobytes() for each, length in zip(long, heads[:, 0], strict=True)]
        return texts

    def _gather(self, values: Tensor) -> Tensor:
        given = self._to_group(values)
        parts = [torch.empty_like(given) for _ in range(self.size)]
        self._call(dist.all_gather, parts, given)
        return torch.stack(parts).to(values.device)

    def _to_group(self, values: Tensor) -> Tensor:
        served = values.device.type in self._served
        return values.to(values.device if served else self._letters).contiguous()

    def _call(self, collective: Callable[..., Any], *args: Any, **settings: Any) -> None:
        try:
            collective(*args, group=self.group, **settings)
        except RuntimeError as error:
            self._over = True
            reason = str(error).partition("\n")[0]
            raise RuntimeError(
                f"rank {self.rank} of {self.size} lost the others in {collective.__name__}: {reason}"
            ) from error


def _error_of(rank: int, text: str) -> Exception:
    """The error of another rank, "Kind: message"."""
    name, _, message = text.partition(": ")
    kind: Any = getattr(builtins, name, None)
    if kind in (ValueError, TypeError, MemoryError, NotImplementedError):
        error: Exception = kind(f"rank {rank}: {message}")
        return error
    return RuntimeError(f"rank {rank}: {text}")
