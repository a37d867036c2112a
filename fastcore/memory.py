"""How much memory an engine may take for tables of its own, and rows a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def spare_bytes(device: torch.device) -> int:
    """A third of the memory that is free on a device: what tables such as n x n similarities may take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 3
    return _available() // 3


def tiles(n: int, row_bytes: int, limit: int = 16 << 20) -> Iterator[slice]:
    """Slices that cover n rows, each of rows that take at most ``limit`` bytes together, or of one row."""
    step = max(1, limit // row_bytes)
    return (slice(start, start + step) for start in range(0, n, step))


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
