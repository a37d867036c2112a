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

import torch
import torch.distributed as dist
from torch import Tensor

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

    Before each of them all ranks say whether they are well, so that an error between two collectives ends the
    work of all ranks, and leaves the group fit for use. Results are the same bits on every rank.

    Attributes:
        rank: number of this process in the group.
        size: number of processes.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        served = {part.partition(":")[0] for part in str(dist.get_backend_config(group)).split(",")}
        self._served = served
        cpu = torch.device("cpu")
        self._messages = cpu if "cpu" in served else torch.device("cuda", torch.cuda.current_device())
        self._over = False

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Runs a block that raises on every rank where it raises on one.

        A rank raises its own error; the others one of the same kind that names the rank.
        """
        try:
            yield
            self._check()
        except Exception as error:
            if not self._over:
                self._tell(f"{type(error).__name__}: {error}", well=False)
            raise

    def exchange(self, value: Any) -> list[Any]:
        """A small value of every rank, by rank: what JSON can hold."""
        self._check()
        return [json.loads(text) for text in self._texts(json.dumps(value))]

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
        every = self.exchange([info[name] for name in costs] + [info["device"]])
        highest = {name: max(each[at] for each in every) for at, name in enumerate(costs)}
        return info | highest | {"device": every[0][2], "ranks": self.size}

    def gather(self, values: Tensor) -> Tensor:
        """(ranks, ...) values of every rank, which have one shape."""
        self._check()
        return self._gather(values)

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
        self._check()
        moved = self._to_group(values).clone()
        self._call(dist.all_reduce, moved)
        return moved.to(values.device)

    def from_rank(self, source: int, values: Tensor) -> Tensor:
        """The values of one rank, on all; on the others `values` gives shape, dtype and device."""
        self._check()
        moved = self._to_group(values).clone()
        self._call(dist.broadcast, moved, src=dist.get_global_rank(self.group, source))
        return moved.to(values.device)

    def move(self, values: Tensor, sent: list[int], received: list[int]) -> Tensor:
        """Sends the first sent[0] values to rank 0, the next sent[1] to rank 1, and returns what comes in."""
        self._check()
        given = self._to_group(values)
        taken = given.new_empty(sum(received), *given.shape[1:])
        self._call(dist.all_to_all_single, taken, given, received, sent)
        return taken.to(values.device)

    def _check(self) -> None:
        """Raises where a rank has failed."""
        failed = torch.zeros(1, dtype=torch.int32, device=self._messages)
        self._call(dist.all_reduce, failed, op=dist.ReduceOp.MAX)
        if int(failed):
            self._tell("", well=True)

    def _tell(self, text: str, well: bool) -> None:
        """Tells all ranks how this one failed, or learns, where it is well, how others did, and raises that."""
        if not well:
            failed = torch.ones(1, dtype=torch.int32, device=self._messages)
            self._call(dist.all_reduce, failed, op=dist.ReduceOp.MAX)
        texts = self._texts(text)
        self._over = True
        if well:
            rank, text = next((rank, text) for rank, text in enumerate(texts) if text)
            name, _, message = text.partition(": ")
            kind = getattr(builtins, name, RuntimeError)
            kind = kind if kind in (ValueError, TypeError, MemoryError, NotImplementedError) else RuntimeError
            raise kind(f"rank {rank}: {message if kind is not RuntimeError else text}")

    def _texts(self, text: str) -> list[str]:
        code = torch.frombuffer(bytearray(text.encode()) or bytearray(1), dtype=torch.uint8)
        length = torch.tensor([len(text.encode())])
        lengths = [int(count) for count in self._gather(length)]
        padded = torch.zeros(max(1, *lengths), dtype=torch.uint8)
        padded[: lengths[self.rank]] = code[: lengths[self.rank]]
        parts = self._gather(padded)
        return [bytes(part[:count].tolist()).decode() for part, count in zip(parts, lengths, strict=True)]

    def _gather(self, values: Tensor) -> Tensor:
        given = self._to_group(values)
        parts = [torch.empty_like(given) for _ in range(self.size)]
        self._call(dist.all_gather, parts, given)
        return torch.stack(parts).to(values.device)

    def _to_group(self, values: Tensor) -> Tensor:
        device = values.device if values.device.type in self._served else self._messages
        if values.device.type == "cuda" and "cuda" not in self._served:
            device = torch.device("cpu")
        return values.to(device).contiguous()

    def _call(self, collective: Callable[..., Any], *args: Any, **settings: Any) -> None:
        try:
            collective(*args, group=self.group, **settings)
        except RuntimeError as error:
            self._over = True
            reason = str(error).partition("\n")[0]
            raise RuntimeError(
                f"rank {self.rank} of {self.size} lost the others in {collective.__name__}: {reason}"
            ) from error
