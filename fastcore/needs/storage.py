"""In which type, and where, the features or the matrix of a selection are kept, once they are checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastcore import inputs
from fastcore.memory import current, tiles
from fastcore.ops.asymmetry import asymmetry
from fastcore.rows import StoredRows, Streamed, fits, squared_norms

STORAGE = (None, "given", "float32", "float16", "bfloat16")
_ROUNDED = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def kept(table: Tensor, device: Any, storage: str | None) -> tuple[Tensor | StoredRows, dict[str, Any]]:
    """Features (n, d) for a device, checked, in float32 on it, or as they are, to be read a tile at a time.

    And what is known of them since then: the squared norms (n,) of the rows. `storage` is None for float32 where
    there is room for it, "float32" in any case, "given" for the type that the table has, and "float16" or
    "bfloat16" to round it to that type first. Narrow rows that are not yet on the device are moved to it where
    there is room for them. Raises what ``inputs.as_features`` does.
    """
    target = table.device if device is None else torch.device(device)
    if storage in _ROUNDED:
        table = _rounded(table, _ROUNDED[storage])
    if storage == "float32" or not _stays(table, target, storage):
        current().storage = "float32"
        rows = inputs.as_float32(table, target)
        squares = squared_norms(rows[None])[0]
        inputs.check_rows(table, squares)
        return rows, {"norms": squares}
    if table.element_size() < 4 and fits(table.element_size() * table.numel(), target):
        table = table.to(target)
    stored = StoredRows(table, target, storage is not None)
    squares = squared_norms(Streamed(stored))[0]
    inputs.check_rows(table, squares)
    current().storage = str(table.dtype).removeprefix("torch.")
    current().streamed = 4 * table.numel()
    return stored, {"norms": squares}


def kept_matrix(data: Any, device: Any, pairs: str) -> tuple[Tensor, dict[str, Any]]:
    """What ``inputs.as_matrix`` gives, and whether it is known to be symmetric.

    Of a dense matrix of similarities that is, one pass says so and that it is finite.
    """
    given = inputs.as_square(data, pairs)
    if given.layout != torch.strided or pairs != "similarity":
        return inputs.as_matrix(given, device, pairs), {}
    matrix = inputs.as_float32(given, device)
    symmetric = not bool(asymmetry(matrix[None]).any())
    if not symmetric:
        inputs.check_entries(matrix, given)
    return matrix, {"symmetric": symmetric}


def _stays(table: Tensor, target: torch.device, storage: str | None) -> bool:
    """Whether there is to be no float32 copy of all rows."""
    size, here = 4 * table.numel(), table.device == target
    copied = table.dtype != torch.float32 or not table.is_contiguous()
    if storage is not None and (table.element_size() < 4 or (here and copied)):
        return True
    return (table.device.type == "cpu" or here) and not fits(size, target, here and copied)


def _rounded(table: Tensor, dtype: torch.dtype) -> Tensor:
    """The rows in a narrower type, where they are."""
    if table.dtype == dtype:
        return table
    out = torch.empty(table.shape, dtype=dtype, device=table.device)
    for part in tiles(len(table), 4 * table.shape[1], device=table.device):
        rows = table[part]
        out[part] = rows
        lost = out[part].isinf() & rows.isfinite()
        if bool(lost.any()):
            row, column = lost.nonzero()[0].tolist()
            name = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"storage={name!r} holds numbers up to {torch.finfo(dtype).max:g}, got "
                f"{float(rows[row, column]):g} at row {part.start + row}, column {column}"
            )
    return out
