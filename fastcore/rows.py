"""Rows that stay in the memory of the host, and are read by a device a tile at a time.

Engines hold the rows of a batch as `x`: a tensor (G, n, d) on the device, or `Streamed` where the one ground
set of the batch is too large for it. What they do with all rows goes through the functions here, which take both.
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


class HostRows:
    """(n, d) rows on the host, for work on a device in float32.

    Attributes:
        table: (n, d) on the CPU, of any real dtype and strides; may be a memory map, of which tiles are read.
        device: where the work is done.
    """

    dtype, layout, ndim = torch.float32, torch.strided, 2

    def __init__(self, table: Tensor, device: torch.device) -> None:
        self.table, self.device = table, device
        self.shape = table.shape

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, at: Tensor | slice) -> Tensor:
        """Some rows, on the device."""
        rows = self.table[at.cpu() if isinstance(at, Tensor) else at]
        return rows.float().contiguous().to(self.device)


class Streamed:
    """The rows of one ground set (1, n, d), on the host.

    Attributes:
        rows: where they are.
        numbers: (n,) on the CPU, which of them; None for all.
    """

    def __init__(self, rows: HostRows, numbers: Tensor | None = None) -> None:
        self.rows, self.numbers = rows, numbers
        self.device, self.dtype = rows.device, rows.dtype
        self.shape = torch.Size((1, len(rows) if numbers is None else len(numbers), rows.shape[1]))

    def __getitem__(self, sets: slice) -> Streamed:
        """The same: slices of ground sets, of which there is one."""
        return self

    def take(self, positions: Tensor) -> Tensor:
        """(1, P, d) on the device, the rows at positions (1, P); -1 gives any row."""
        at = positions[0].clamp(min=0).cpu()
        return self.rows[at if self.numbers is None else self.numbers[at]][None]

    def tiles(self, row_bytes: int, start: int = 0) -> Iterator[tuple[slice, Tensor]]:
        """Slices that cover the rows from `start` on, and those rows (1, t, d) on the device.

        `row_bytes` is what the work on a row takes beside it. The next tile is on its way meanwhile. A tile is
        good until the next one is asked for.
        """
        n, width = self.shape[1:]
        most = max(1, min(n - start, STREAM_BYTES // (4 * width)))
        step = tile_rows(self.device, row_bytes + 8 * width, 2 * TILE_BYTES, most)
        parts = [slice(first, min(first + step, n)) for first in range(start, n, step)]
        if self.device.type == "cuda":
            return self._copies(parts, step)
        return ((part, self._on_host(part).float().contiguous()[None]) for part in parts)

    def _on_host(self, part: slice) -> Tensor:
        return self.rows.table[part if self.numbers is None else self.numbers[part]]

    def _copies(self, parts: list[slice], step: int) -> Iterator[tuple[slice, Tensor]]:
        """Two buffers on either side. While the device works on one, the host fills the other."""
        width, device = self.shape[2], self.device
        work, copying = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        pinned = self.numbers is None and self.rows.table.is_pinned() and self.rows.table.dtype == self.dtype
        here = [torch.empty(0 if pinned else step, width, pin_memory=not pinned) for _ in range(2)]
        there = [torch.empty(step, width, device=device) for _ in range(2)]
        copied, read = ([torch.cuda.Event() for _ in range(2)] for _ in range(2))

        def fetch(i: int) -> None:
            b, count = i % 2, parts[i].stop - parts[i].start
            copied[b].synchronize()  # the host must not write what is still being copied
            source = self._on_host(parts[i])
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
                yield part, there[i % 2][: part.stop - part.start][None]
                read[i % 2].record(work)
        finally:
            work.wait_stream(copying)  # the buffers go back to the stream that took them


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


def fits(size: int, device: torch.device) -> bool:
    """Whether rows of `size` bytes are moved to a device from the host, or stay there and are streamed."""
    plan = current()
    # With rows on several processes each holds its own: there is room for more processes instead.
    return size <= plan.of(device).resident or not plan.alone


def resident_only(x: Any, what: str) -> None:
    """Raises MemoryError where rows are on the host and `what` would read them over and over."""
    if isinstance(x, HostRows | Streamed):
        size = readable(4 * x.shape[-2] * x.shape[-1])
        raise MemoryError(
            f"{what} reads rows over and over, and {size} of them do not fit beside its work on {x.device}: use "
            "device='cpu', fewer rows or columns, or labels"
        )
