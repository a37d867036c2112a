"""Upper bounds on inner products by tensor cores, and float32 products only where they say that it matters.

An operand is rounded to what tensor cores read, so that what they leave out is known: with a = a' + r, b = b' + s,
a b - a' b' = r b + a' s, at most |r| |b| + |a'| |s|. These lengths are measured. Two more columns, (length, rest)
of a row and (rest, length) of a candidate, add this to the product itself, so that what comes out is a bound.

Counted for an H100, 1 281 167 rows of 528 numbers and 512 candidates: the float32 product is 0.69 TFLOP, 14 ms at
50 TFLOP/s. The bounds take 2 ms, a read and a write of them 2 ms, and each pair that may matter 2 KB of a row, all
of them 1.4 TB: from the cache at 5 TB/s 0.27 s times the share of the pairs, from memory 0.45 s. So float32
products take as long where a share between 1 / 45 and 1 / 27 of the pairs may matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.greedy.batches import pick
from fastcore.memory import TILE_BYTES, in_tiles
from fastcore.numerics import (
    LEAST,
    UNIT,
    round_to_tf32,
    round_up_to_tf32,
    tensor_core_error,
    tensor_cores,
)
from fastcore.ops.refine_products import refine_products

SHARE = 32
"""Where more than 1 / SHARE of the pairs may matter, float32 products of all of them are made."""

SAMPLE = 4096
"""Rows that say how many pairs may matter."""

LONGEST = 1e18
"""Of rows that are no longer, no sum comes near the largest float32."""


class UpperProducts:
    """Bounds on the inner products of candidates with all rows of sets (G, n, w) float32.

    `halves` is for rows that have another coordinate, sqrt(1/2): it adds 1/2 to each product, exactly.

    Attributes:
        columns: columns of n bounds made so far.
        underflow: what products below the range of float32 can take off a bound.
        pairs: float32 products made so far because their bound said that they may matter.
    """

    def __init__(self, rows: Tensor, width: int, halves: bool) -> None:
        sets, n, _ = rows.shape
        self.n, self.columns, self.pairs = n, 0, 0
        constants = 2 if halves else 0
        self._bound = width + constants
        self._operand = rows.new_zeros(sets, n, self.padded(width))
        self._operand[:, :, width : self._bound] = 0.5
        # The sum of the sizes of all terms is at most |a| |b| and what bounds the rests; with the constants, whose
        # product is 1/2, at most twice |a| |b|, where lengths are taken to be sqrt(1/2) at least.
        self._share: float = 1.0 if halves else 0.5
        self._shortest: float = 0.5**0.5 if halves else 0.0
        self._rounding = 1.01 * tensor_core_error(self._operand.shape[2])
        self.underflow = 4 * self._operand.shape[2] * LEAST

        def one(part: slice) -> None:
            self._round(rows[:, part, :width], part)

        in_tiles(one, n, sets * 32 * width, TILE_BYTES, rows.device)

    @staticmethod
    def padded(width: int) -> int:
        """Columns of the operand."""
        return -(-(width + 4) // 16) * 16

    def _round(self, rows: Tensor, part: slice) -> None:
        width = rows.shape[2]
        rounded = round_to_tf32(rows)
        self._operand[:, part, :width] = rounded
        exact, rounded = rows.double(), rounded.double()
        length = torch.maximum(exact.square().sum(2), rounded.square().sum(2)).sqrt_()
        length.clamp_(min=self._shortest)
        rest = (exact - rounded).square_().sum(2).sqrt_()
        rest += self._rounding * (self._share * length + rest)
        self._operand[:, part, self._bound] = round_up_to_tf32(length * (1 + 1e-6))
        self._operand[:, part, self._bound + 1] = round_up_to_tf32(rest * (1 + 1e-6))

    def hold(self, rows: Tensor) -> bool:
        """Whether bounds made on this device are above products in float64, for some of the rows.

        It should always be so. What is assumed about tensor cores is put to the test.
        """
        step, few = max(1, self.n // SAMPLE), max(1, self.n // 64)
        at = torch.arange(0, self.n, few, device=rows.device).expand(len(rows), -1)
        exact = pick(rows, at).double() @ rows[:, ::step].double().mT
        bounds = self._multiply(at, self._operand[:, ::step]).double()
        return bool((bounds >= exact - self.underflow).all())

    def bounds(self, at: Tensor) -> Tensor:
        """(G, B, n) float32 upper bounds for the candidates at positions (G, B), but for `underflow`."""
        self.columns += at.numel()
        return self._multiply(at, self._operand)

    def _multiply(self, at: Tensor, rows: Tensor) -> Tensor:
        candidates = pick(self._operand, at)
        ends = slice(self._bound, self._bound + 2)
        candidates[:, :, ends] = candidates[:, :, ends].flip(2)
        with tensor_cores():
            return torch.bmm(candidates, rows.mT)

    def least(self, coverage: Tensor, error: float) -> Tensor:
        """(G, n) float32: a bound that is not above it belongs to a similarity that is not above the coverage.

        `error` is how far the products of the operand are from the similarities.
        """
        value = coverage - (1 + 1e-6) * (error + self.underflow) - 4 * UNIT * coverage.abs()
        return torch.where(coverage == torch.inf, torch.inf, value).float()

    def pay(self, at: Tensor, least: Tensor) -> bool:
        """Whether few enough of the pairs of these candidates may matter."""
        step = max(1, self.n // SAMPLE)
        some = self._multiply(at, self._operand[:, ::step])
        return int((some > least[:, None, ::step]).sum()) * SHARE <= some.numel()

    def refined(self, at: Tensor, rows: Tensor, least: Tensor) -> Tensor:
        """(G, B, n) products of `rows` in float32 where they may matter, -inf elsewhere."""
        products = self.bounds(at)
        self.pairs += int(refine_products(products, rows, at.contiguous(), least).sum())
        return products
