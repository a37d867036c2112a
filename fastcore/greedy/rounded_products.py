"""Inner products by tensor cores, of rows rounded to what these read, with bounds on what they leave out.

With a = a' + r and b = b' + s, a b - a' b' = r b + a' s, at most |r| |b| + |a'| |s|. These lengths are measured.
Two more columns, (length, rest) of a row and (rest, length) of a candidate, add this to the product itself, so
that what comes out is an upper bound.

Counted for an H100 and a pass of 512 candidates over 1 281 167 rows of 528 numbers. In float32 the product is 0.69
TFLOP, 14 ms at 50 TFLOP/s; by tensor cores 2 ms. Rounded products can be used as they are, where the gains of the
few best are taken in float64 anyway: 2 KB for each row that they may still add to, 0.9 ms if these are all rows.
Where float32 products are needed, `refine_products` reads and writes the bounds, 2 ms, and 2 KB of a row for each
pair that may matter, all of them 1.4 TB: from the cache at 5 TB/s 0.27 s times their share, from memory 0.45 s. So
float32 products take as long where a share between 1 / 45 and 1 / 27 of the pairs may matter.

A sweep has 1.73 PFLOP. Written and read again, the products take 13 TB, 4 s, beside 4 to 5 s by tensor cores.
Summed where they are made they take none of these, but the instructions for that reach 0.6 of the rate, and tiles
of 256 x 128 ask the second-level cache for 30 bytes a clock and multiprocessor, where it gives about 24: 7 s in
TF32, 3.5 s in float16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastcore.greedy.batches import pick
from fastcore.memory import TILE_BYTES, in_tiles
from fastcore.numerics import (
    LEAST,
    UNIT,
    round_to_half,
    round_to_tf32,
    round_up_to_half,
    round_up_to_tf32,
    tensor_core_error,
    tensor_cores,
)
from fastcore.ops.product_gains import product_gains
from fastcore.ops.refine_products import refine_products

SAMPLE = 4096
"""Rows that say how many pairs may matter."""

LONGEST = 1e18
"""Of rows that are no longer, no sum comes near the largest float32."""


class RoundedProducts:
    """Inner products of candidates with all rows of sets (G, n, w) float32.

    `halves` is for rows that have another coordinate, sqrt(1/2): it adds 1/2 to each product, exactly. In float16
    (`half`), which has as many bits behind the first as TF32, only gains can be had. Rows are no longer than
    `longest`; a power of two brings them to where float16 is exact enough.

    Attributes:
        columns: columns of n products made so far.
        underflow: what products below the range of float32 can take off a bound.
        pairs: float32 products made so far because a bound said that they may matter.
    """

    def __init__(
        self, rows: Tensor, width: int, halves: bool, half: bool = False, longest: float = 1.0
    ) -> None:
        sets, n, _ = rows.shape
        self._half = half
        self._scale = 2.0 ** (14 - math.frexp(longest)[1]) if half else 1.0
        self.n, self.columns, self.pairs = n, 0, 0
        self._bound = width + 2 * halves
        kind = torch.float16 if half else torch.float32
        self._operand = rows.new_zeros(sets, n, self.padded(width), dtype=kind)
        self._operand[:, :, width : self._bound] = 0.5 * self._scale
        # The sum of the sizes of all terms is at most |a| |b| and what bounds the rests; with the constants, whose
        # product is 1/2, at most twice |a| |b|, where lengths are taken to be sqrt(1/2) at least.
        self._share: float = 1.0 if halves else 0.5
        self._shortest: float = 0.5**0.5 * self._scale if halves else 0.0
        self._rounding = 1.01 * tensor_core_error(self._operand.shape[2])
        self.underflow = 4 * self._operand.shape[2] * LEAST / self._scale**2

        def one(part: slice) -> None:
            self._round(rows[:, part, :width], part)

        in_tiles(one, n, sets * 32 * width, TILE_BYTES, rows.device)
        self._most = self._ends(self._operand)

    @staticmethod
    def padded(width: int) -> int:
        """Columns of the operand."""
        return -(-(width + 4) // 16) * 16

    def _round(self, rows: Tensor, part: slice) -> None:
        width = rows.shape[2]
        nearest, above = (
            (round_to_half, round_up_to_half) if self._half else (round_to_tf32, round_up_to_tf32)
        )
        exact = rows.double() * self._scale
        rounded = nearest(exact.float())
        self._operand[:, part, :width] = rounded
        rounded = rounded.double()
        length = torch.maximum(exact.square().sum(2), rounded.square().sum(2)).sqrt_()
        length.clamp_(min=self._shortest)
        rest = (exact - rounded).square_().sum(2).sqrt_()
        rest += self._rounding * (self._share * length + rest)
        self._operand[:, part, self._bound] = above(length * (1 + 1e-6))
        self._operand[:, part, self._bound + 1] = above(rest * (1 + 1e-6))

    def _ends(self, operand: Tensor) -> tuple[float, float]:
        """The largest length and the largest rest of rows."""
        length, rest = operand[:, :, self._bound : self._bound + 2].flatten(0, 1).amax(0).tolist()
        return length, rest

    def hold(self, rows: Tensor) -> bool:
        """Whether bounds made on this device are above products in float64, for some of the rows.

        It should always be so. What is assumed about tensor cores is put to the test.
        """
        at, some, exact = self._sampled(rows)
        bounds = self._upper(at, some).double()
        return bool((bounds >= exact - self.underflow).all())

    def _sampled(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (G, b) of some candidates, some rows of the operand, and their products in float64."""
        step, few = max(1, self.n // SAMPLE), max(1, self.n // 64)
        at = torch.arange(0, self.n, few, device=rows.device).expand(len(rows), -1)
        return at, self._operand[:, ::step], pick(rows, at).double() @ rows[:, ::step].double().mT

    def gains(self, at: Tensor, coverage: Tensor) -> Tensor:
        """(G, B) float64, at least what candidates at positions (G, B) add to a coverage (G, n) less `underflow`.

        The products are not written out.
        """
        return self._gains(at, self._operand, coverage)

    def _gains(self, at: Tensor, rows: Tensor, coverage: Tensor) -> Tensor:
        square = self._scale**2
        with tensor_cores():
            return product_gains(rows, self._turned(at), coverage * square) / square

    def sums_hold(self, rows: Tensor) -> bool:
        """Whether gains made on this device are above those in float64, for some of the rows."""
        at, some, exact = self._sampled(rows)
        coverage = exact.mean(1)
        gains = self._gains(at, some.contiguous(), coverage - self.underflow)
        least = (exact - coverage.unsqueeze(1)).clamp_(min=0).sum(2)
        return bool((gains >= least * (1 - 1e-12)).all())

    def bounds(self, at: Tensor) -> Tensor:
        """(G, B, n) float32 upper bounds for the candidates at positions (G, B), but for `underflow`."""
        self.columns += at.numel()
        return self._upper(at, self._operand)

    def near(self, at: Tensor) -> tuple[Tensor, float]:
        """(G, B, n) float32 products of candidates at positions (G, B), and their error but for `underflow`."""
        self.columns += at.numel()
        candidates = pick(self._operand, at)
        (length, rest), (longest, most) = self._ends(candidates), self._most
        candidates[:, :, self._bound :] = 0
        error = (length * most + rest * longest) * (1 + 1e-12)
        return self._multiply(candidates, self._operand), error

    def _turned(self, at: Tensor) -> Tensor:
        """Candidates as their products with rows are upper bounds."""
        candidates, ends = pick(self._operand, at), slice(self._bound, self._bound + 2)
        candidates[:, :, ends] = candidates[:, :, ends].flip(2)
        return candidates

    def _upper(self, at: Tensor, rows: Tensor) -> Tensor:
        return self._multiply(self._turned(at), rows)

    def _multiply(self, candidates: Tensor, rows: Tensor) -> Tensor:
        with tensor_cores():
            return torch.bmm(candidates, rows.mT)

    def least(self, coverage: Tensor, error: float) -> Tensor:
        """(G, n) float32: a bound that is not above it belongs to a similarity that is not above the coverage.

        `error` is how far the products of the operand are from the similarities, and `underflow`.
        """
        value = coverage - (1 + 1e-6) * error - 4 * UNIT * coverage.abs()
        return torch.where(coverage == torch.inf, torch.inf, value).float()

    def active(self, at: Tensor, least: Tensor) -> float:
        """The share of the pairs of these candidates that may matter, from a sample of the rows."""
        step = max(1, self.n // SAMPLE)
        some = self._upper(at, self._operand[:, ::step])
        return float((some > least[:, None, ::step]).mean(dtype=torch.float32))

    def refined(self, at: Tensor, rows: Tensor, least: Tensor) -> Tensor:
        """(G, B, n) products of `rows` in float32 where they may matter, -inf elsewhere."""
        products = self.bounds(at)
        self.pairs += int(refine_products(products, rows, at.contiguous(), least).sum())
        return products
