"""Rows that stay as they are, on the host or in a type of 16 or 8 bits, and are read a tile at a time.

Engines hold the rows of a batch as `x`: a float32 tensor (G, n, d) on the device, or `Streamed` where the one
ground set of the batch is too large for that. What they do with all rows goes through the functions here, which
take both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastcore.memory import TILE_BYTES, current, in_tiles, readable, retried, tile_rows, tiles
from fastcore.ops import project as project_op
from fastcore.ops import squared_norms as squared_norms_op
from fastcore.ops import weighted_sum as weighted_sum_op

STREAM_BYTES = 8 * TILE_BYTES
"""Of a tile on its way: many times what a bus needs to be busy, and little to wait for at the start."""


CONVERTED_BYTES = 32 << 20
"""Float32 copies of a tile stay in the second-level cache of a GPU: 50 MB on an H100. A CPU takes smaller ones."""


class StoredRows:
    """(n, d) rows of any type, for work on a device in float32.

    Attributes:
        table: (n, d) of any real dtype and strides, on the host or on the device; may be a memory map.
        device: where the work is done.
        asked: the user wants no float32 copy, also where there is room for one.
    """

    dtype, layout, ndim = torch.float32, torch.strided, 2

    def __init__(self, table: Tensor, device: torch.device, asked: bool = False) -> None:
        self.table, self.device, self.asked = table, device, asked
        self.shape = table.shape

    def __len__(self) -> int:
        return len(self.table)

    @property
    def local(self) -> bool:
        """Whether the rows are on the device where the work is done: to read one costs its conversion."""
        return self.table.device == self.device

    def __getitem__(self, at: Tensor | slice) -> Tensor:
        """Some rows in float32, on the device."""
        return self.converted(self.table[at.to(self.table.device) if isinstance(at, Tensor) else at])

    def converted(self, rows: Tensor) -> Tensor:
        """Rows of the table in float32, on the device."""
        # The bus takes the narrower type.
        moved = rows.to(self.device) if rows.element_size() <= 4 else rows.float().to(self.device)
        return moved.float().contiguous()


class Streamed:
    """The rows of one ground set (1, n, d), that are read a tile at a time.

    Attributes:
        rows: where they are.
        numbers: (n,) with the table, which of them; None for all.
    """

    def __init__(self, rows: StoredRows, numbers: Tensor | None = None) -> None:
        self.rows, self.numbers = rows, None if numbers is None else numbers.to(rows.table.device)
        self.device, self.dtype, self.local = rows.device, rows.dtype, rows.local
        self.shape = torch.Size((1, len(rows) if numbers is None else len(numbers), rows.shape[1]))

    def __getitem__(self, sets: slice) -> Streamed:
        """The same: slices of ground sets, of which there is one."""
        return self

    def take(self, positions: Tensor) -> Tensor:
        """(1, P, d) on the device, the rows at positions (1, P); -1 gives any row."""
        at = positions[0].clamp(min=0).to(self.rows.table.device)
        return self.rows[at if self.numbers is None else self.numbers[at]][None]

    def part(self, part: slice) -> Tensor:
        """(1, t, d) on the device."""
        return self.rows.converted(self.stored(part))[None]

    def most(self) -> int:
        """Rows that are converted at once, where they are on the device."""
        return max(1, CONVERTED_BYTES // (4 * self.shape[2]))

    def tiles(self, row_bytes: int, start: int = 0) -> Iterator[tuple[slice, Tensor]]:
        """Slices that cover the rows from `start` on, and those rows (1, t, d) on the device.

        `row_bytes` is what the work on a row takes beside it. From the host, the next tile is on its way
        meanwhile. A tile is good until the next one is asked for.
        """
        n, width = self.shape[1:]
        most = max(1, min(n - start, self.most() if self.local else STREAM_BYTES // (4 * width)))
        usual = TILE_BYTES if self.local else 2 * TILE_BYTES
        step = tile_rows(self.device, row_bytes + 8 * width, usual, most)
        parts = [slice(first, min(first + step, n)) for first in range(start, n, step)]
        if self.device.type == "cuda" and not self.local:
            return self._copies(parts, step)
        convert = _Conversion(self) if self.local else self.part
        return ((part, convert(part)) for part in parts)

    def stored(self, part: slice) -> Tensor:
        """(t, d) as they are."""
        return self.rows.table[part if self.numbers is None else self.numbers[part]]

    def _copies(self, parts: list[slice], step: int) -> Iterator[tuple[slice, Tensor]]:
        """Two buffers on either side. While the device works on one, the host fills the other."""
        width, device = self.shape[2], self.device
        work, copying = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        table = self.rows.table
        narrow = table.element_size() <= 4  # then it is the device that converts
        dtype = table.dtype if narrow else self.dtype
        pinned = self.numbers is None and table.is_pinned() and narrow
        here = [
            torch.empty(0 if pinned else step, width, dtype=dtype, pin_memory=not pinned) for _ in range(2)
        ]
        there = [torch.empty(step, width, dtype=dtype, device=device) for _ in range(2)]
        copied, read = ([torch.cuda.Event() for _ in range(2)] for _ in range(2))

        def fetch(i: int) -> None:
            b, count = i % 2, parts[i].stop - parts[i].start
            copied[b].synchronize()  # the host must not write what is still being copied
            source = self.stored(parts[i])
            if not pinned:
                source = here[b][:count].copy_(source)
            with torch.cuda.stream(copying):
                copying.wait_event(read[b])
                there[b][:count].copy_(source, non_blocking=True)
                copied[b].record(copying)

        copying.wait_stream(work)  # which may still use the memory of the buffers
        try:
            for i, part in enumerate(parts):
                if i == 0:
                    fetch(0)
                if i + 1 < len(parts):
                    fetch(i + 1)
                work.wait_event(copied[i % 2])
                yield part, there[i % 2][None, : part.stop - part.start].float()
                read[i % 2].record(work)
        finally:
            work.wait_stream(copying)  # the buffers go back to the stream that took them


class _Conversion:
    """Parts of rows that are on the device in float32, one after the other in the same memory.

    On a CPU the first touch of new memory costs more than the conversion.
    """

    def __init__(self, x: Streamed) -> None:
        self._x = x
        self._room: Tensor | None = None

    def __call__(self, part: slice) -> Tensor:
        """(1, t, d), good until the next call."""
        count = part.stop - part.start
        if self._room is None or not count <= len(self._room) < 2 * count:
            self._room = None  # before there is another
            self._room = torch.empty(count, self._x.shape[2], dtype=self._x.dtype, device=self._x.device)
        return self._room[:count].copy_(self._x.stored(part))[None]


Rows = Tensor | Streamed


def each_tile(
    work: Callable[[slice, Tensor], None],
    x: Rows,
    row_bytes: int,
    usual: int = TILE_BYTES,
    most: int | None = None,
) -> None:
    """work(slice, rows) for all rows (G, n, d) in tiles, of at most `most`; see `in_tiles`."""
    n = x.shape[1]
    if isinstance(x, Tensor):
        in_tiles(lambda part: work(part, x[:, part]), n, row_bytes, usual, x.device, most or n)
        return
    if x.local:
        most, row_bytes = min(most or n, x.most()), row_bytes + 4 * x.shape[2]
        convert = _Conversion(x)
        in_tiles(lambda part: work(part, convert(part)), n, row_bytes, usual, x.device, most)
        return
    done = 0

    def rest() -> None:
        nonlocal done
        for part, rows in x.tiles(row_bytes, done):
            work(part, rows)
            done = part.stop

    retried(rest)


def row_tiles(x: Rows, row_bytes: int, usual: int = TILE_BYTES) -> Iterator[tuple[slice, Tensor]]:
    """Slices that cover all rows (G, n, d), and those rows, for work that is repeated as a whole."""
    if isinstance(x, Streamed):
        return x.tiles(row_bytes)
    return ((part, x[:, part]) for part in tiles(x.shape[1], row_bytes, usual, x.device))


def project(x: Rows, direction: Tensor) -> Tensor:
    """(G, n) float64 inner product of every row with a direction (G, d)."""
    if isinstance(x, Tensor):
        return project_op.project(x, direction)
    return _per_row(x, lambda rows: project_op.project(rows, direction))


def squared_norms(x: Rows) -> Tensor:
    """(G, n) float64 squared norm of every row."""
    if isinstance(x, Tensor):
        return squared_norms_op.squared_norms(x)
    return _per_row(x, squared_norms_op.squared_norms)


def weighted_sum(x: Rows, weights: Tensor) -> Tensor:
    """(G, d) float64 sum of all rows, each times its weight (G, n)."""
    if isinstance(x, Tensor):
        return weighted_sum_op.weighted_sum(x, weights)
    total = weights.new_zeros(1, x.shape[2])

    def add(part: slice, rows: Tensor) -> None:
        total.add_(weighted_sum_op.weighted_sum(rows, weights[:, part].contiguous()))

    each_tile(add, x, 16)
    return total


def _per_row(x: Streamed, measure: Callable[[Tensor], Tensor]) -> Tensor:
    out = torch.empty(1, x.shape[1], dtype=torch.float64, device=x.device)

    def write(part: slice, rows: Tensor) -> None:
        out[:, part] = measure(rows)

    each_tile(write, x, 16)
    return out


def fits(size: int, device: torch.device, copy: bool = False) -> bool:
    """Whether `size` bytes of rows are moved to a device, or copied there, in float32; or else read in tiles.

    A copy of what is on the device already counts towards what the user allows beside the data.
    """
    plan = current()
    shares = plan.of(device)
    # With rows on several processes each holds its own: there is room for more processes instead.
    return size <= shares.resident and (not copy or size <= shares.copy) or not plan.alone


def resident_only(x: Any, what: str) -> None:
    """Raises MemoryError where rows are on the host and `what` would read them over and over."""
    if isinstance(x, StoredRows | Streamed) and not x.local:
        size = readable(4 * x.shape[-2] * x.shape[-1])
        raise MemoryError(
            f"{what} reads rows over and over, and {size} of them do not fit beside its work on {x.device}: use "
            "device='cpu', fewer rows or columns, or labels"
        )
