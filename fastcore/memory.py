"""How much memory the loops of a selection may take, and what happens when there is less than it seemed.

A plan belongs to one selection and is found by whoever asks (a context variable, so that threads have their own).
It divides the free memory of a device into shares. Loops ask for the rows of a tile when they start, and no
result depends on the answer. Where memory runs out in the middle, the smallest unit of work that can be repeated
is, with pieces of half the size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

TILE_BYTES = 8 << 20
"""Tiles of this size stay in the cache of a CPU."""

BATCH_BYTES = 64 << 20
"""Copies of the rows of several classes, on a CPU."""

LARGEST_TILE = 1 << 30
"""On a GPU: enough to fill it many times over, and not more than a share of its memory."""

SMALLEST = 64 << 10
"""Pieces below this size are not the reason why memory runs out."""

UNBOUNDED = 1 << 62

T = TypeVar("T")

_sizes: ContextVar[dict[str, int] | None] = ContextVar("fastcore_sizes", default=None)


@dataclass
class Shares:
    """What loops on one device may take, in bytes.

    Attributes:
        free: what was free when it was first asked for; of the CPU, when the plan was made.
        tile: scratch of a few rows at a time.
        batch: copies of the rows of ground sets that are treated side by side.
        block: a table, or what the candidates of a pass have with all rows.
        resident: rows that are moved to the device from the host; more are streamed.
        copy: float32 copies of rows that are on the device in another type; more are converted in tiles.
    """

    free: int
    tile: int = UNBOUNDED
    batch: int = UNBOUNDED
    block: int = UNBOUNDED
    resident: int = UNBOUNDED
    copy: int = UNBOUNDED


@dataclass
class Plan:
    """The memory of one selection.

    Attributes:
        limit: the user's, in bytes, or None.
        shares: by device.
        retries: how often memory ran out, and a part of the work was repeated in smaller pieces.
        streamed: bytes of rows in float32, where they are not kept so but read a tile at a time, or 0.
        storage: the type that features are kept in, or None without features.
        alone: no other process waits for the next step of this one: work may be repeated.
    """

    limit: int | None = None
    free: int = 0
    shares: dict[torch.device, Shares] = field(default_factory=dict)
    retries: int = 0
    streamed: int = 0
    storage: str | None = None
    alone: bool = True
    _asked: dict[tuple[torch.device, str], int] = field(default_factory=dict)

    def of(self, device: torch.device) -> Shares:
        """The shares of a device, made when it is first asked for."""
        if device not in self.shares:
            # On a CPU every loop knows what suits a cache.
            shares = Shares(self.free, copy=2 * self.free // 5 if self.free else UNBOUNDED)
            if device.type == "cuda":
                free = free_bytes(device)
                # Facility location has the rows twice, beside its block.
                resident = 2 * free // 5
                shares = Shares(
                    free, min(LARGEST_TILE, free // 16), free // 8, free // 3, resident, copy=resident
                )
            if self.limit is not None:
                shares.tile = max(TILE_BYTES, min(shares.tile, self.limit // 4))
                shares.batch = max(2 * TILE_BYTES, min(shares.batch, self.limit // 2))
                shares.block = max(2 * TILE_BYTES, min(shares.block, self.limit))
                shares.copy = max(2 * TILE_BYTES, min(shares.copy, self.limit))
            for kind, size in (_sizes.get() or {}).items():
                setattr(shares, kind, size)
            self.shares[device] = shares
        return self.shares[device]

    def count(self, kind: str, device: torch.device, item_bytes: int, usual: int) -> int:
        """How many items of this size make a tile, a batch or a block, at least 1; `usual` bytes on a CPU."""
        share: int = getattr(self.of(device), kind)
        item_bytes = max(1, item_bytes)
        return max(1, (share if device.type == "cuda" else min(share, usual)) // item_bytes)

    def note(self, kind: str, device: torch.device, items: int, item_bytes: int) -> None:
        """Remembers a piece that was taken: if memory runs out, there could be fewer items in it."""
        if items > 1 and items * item_bytes > SMALLEST:
            key = device, kind
            self._asked[key] = max(self._asked.get(key, 0), items * item_bytes)

    def facts(self, device: torch.device) -> dict[str, Any]:
        """What was planned for a device, for `info`."""
        shares = self.of(device)
        usual = (TILE_BYTES, BATCH_BYTES) if device.type != "cuda" else (shares.tile, shares.batch)
        return {
            "free": shares.free,
            "limit": self.limit,
            "tile": min(shares.tile, usual[0]),
            "batch": min(shares.batch, usual[1]),
            "streamed": self.streamed > 0,
            "storage": self.storage,
            "retries": self.retries,
        }

    def run(self, work: Callable[[], T]) -> T:
        """See `retried`."""
        if not self.alone:
            return work()
        outside, self._asked = self._asked, {}
        before = {device: replace(shares) for device, shares in self.shares.items()}
        again = True  # once without smaller pieces, after torch gave back what it keeps
        try:
            while True:
                try:
                    return work()
                except RuntimeError as error:
                    if not ran_out(error):
                        raise
                    if not self._halve():
                        if not again:
                            self._restore(before)
                            raise
                        again = False
                # Here the error is gone, and with it what its frames held.
                self._asked = {}
                self.retries += 1
                if torch.cuda.is_initialized():  # our own launches cannot use what torch keeps
                    torch.cuda.empty_cache()
        finally:
            for key, size in self._asked.items():
                outside[key] = max(outside.get(key, 0), size)
            self._asked = outside

    def _halve(self) -> bool:
        for (device, kind), size in self._asked.items():
            setattr(self.of(device), kind, max(SMALLEST, size // 2))
        return bool(self._asked)

    def _restore(self, before: dict[torch.device, Shares]) -> None:
        # Smaller pieces were no help: whoever repeats more than this starts from the size that was.
        self.shares.update(before)
        self._asked = {}


@contextlib.contextmanager
def sizes(**shares: int) -> Iterator[None]:
    """Plans made in a block have these `Shares`, by name, on any device: for tests."""
    token = _sizes.set(shares)
    try:
        yield
    finally:
        _sizes.reset(token)


_plan: ContextVar[Plan | None] = ContextVar("fastcore_memory", default=None)


def current() -> Plan:
    """The plan of the selection that runs here; outside of one, a plan without a limit."""
    return _plan.get() or Plan()


@contextlib.contextmanager
def plan(limit: int | None = None) -> Iterator[Plan]:
    """A plan for a block, which ends with a MemoryError that says what to do where memory runs out for good."""
    made = Plan(limit, _available())
    token = _plan.set(made)
    try:
        yield made
    except RuntimeError as error:
        if not ran_out(error):
            raise
        raise MemoryError(_advice(made, error)) from error
    finally:
        _plan.reset(token)


def retried(work: Callable[[], T]) -> T:
    """work(), again in smaller pieces for as long as memory runs out and there are pieces to make smaller.

    `work` must be safe to repeat: it changes nothing before the last thing in it that takes memory. When smaller
    pieces do not help, the error goes on to whoever can repeat more.
    """
    known = _plan.get()
    if known is not None:
        return known.run(work)
    token = _plan.set(made := Plan())
    try:
        return made.run(work)
    finally:
        _plan.reset(token)


def tile_rows(device: torch.device, row_bytes: int, usual: int = TILE_BYTES, n: int | None = None) -> int:
    """Rows of `row_bytes` each (of n) that make a tile, at least 1: of at most `usual` bytes on a CPU."""
    plan = current()
    rows = plan.count("tile", device, row_bytes, usual)
    rows = rows if n is None else max(1, min(rows, n))
    plan.note("tile", device, rows, row_bytes)
    return rows


def tiles(
    n: int, row_bytes: int, usual: int = 2 * TILE_BYTES, device: torch.device | None = None
) -> Iterator[slice]:
    """Slices that cover n rows, each a tile: see `tile_rows`. Without a device it is the CPU."""
    step = tile_rows(device or torch.device("cpu"), row_bytes, usual, n)
    return (slice(start, start + step) for start in range(0, n, step))


def in_tiles(
    work: Callable[[slice], None], n: int, row_bytes: int, usual: int, device: torch.device, most: int = 0
) -> None:
    """work(slice) for slices that cover n rows, of at most `most` where given; a slice that memory does not
    suffice for is made smaller, and those before it are not repeated.

    `work` must change nothing before the last thing in it that takes memory.
    """
    start = 0

    def one() -> int:
        step = tile_rows(device, row_bytes, usual, n)
        part = slice(start, min(n, start + min(step, most or step)))
        work(part)
        return part.stop

    while start < n:
        start = retried(one)


def block_rows(device: torch.device, row_bytes: int, wanted: int) -> int:
    """Candidates to take into a pass, at most `wanted`, when each has `row_bytes` with all rows."""
    plan = current()
    rows = min(wanted, plan.count("block", device, row_bytes, wanted * row_bytes))
    plan.note("block", device, rows, row_bytes)
    return rows


def table_fits(device: torch.device, size: int, limit: int) -> bool:
    """Whether a table of `size` bytes may be kept, when `limit` are allowed and memory did not run out with it."""
    plan = current()
    fits = size <= min(limit, plan.of(device).block)
    if fits:
        plan.note("block", device, 2, size // 2)
    return fits


def spare_bytes(device: torch.device) -> int:
    """A third of the memory that is free on a device: what tables such as n x n similarities may take."""
    return free_bytes(device) // 3


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device, with what torch keeps of it without use."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + max(0, kept)
    return _available()


def ran_out(error: BaseException) -> bool:
    """Whether an error says that a device had too little memory: torch's, an NVIDIA library's, or our ops'."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    words = ("out of memory", "_STATUS_ALLOC_FAILED", "calling `cublasCreate", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _advice(plan: Plan, error: BaseException) -> str:
    said = str(error).split("\n")[0].strip().rstrip(".")
    free = "; ".join(f"{readable(free_bytes(device))} are free on {device}" for device in plan.shares)
    other = "device='cpu', " if any(device.type == "cuda" for device in plan.shares) else ""
    return (
        f"{said}{f' ({free})' if free else ''}, and smaller pieces did not help ({plan.retries} tried): use "
        f"{other}fewer rows or fewer columns, or labels, so that the classes are taken one after the other"
    )


def _available() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 8 << 30  # where the system does not say


def readable(count: int) -> str:
    """A number of bytes in words: 1536 is "1.5 KB"."""
    size = float(count)
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
