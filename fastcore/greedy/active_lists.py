"""The rows that facility-location candidates still add to, kept so that no similarity is made twice.

They only become fewer as the coverage grows: a candidate that was evaluated once, and has few enough of them, is
evaluated through them from then on.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHARE = 16
"""Lists of more than a share of 1 / SHARE of all rows are not kept: they save little."""

WIDE = 4
"""Blocks of the best candidates whose bounds are brought up to date together."""


class ActiveLists:
    """Lists of the candidates of one set: the rows with similarity > coverage - error, and those similarities.

    Memory: 8 bytes for each of `room` entries of every candidate; a CPU takes it as lists are filled.

    Attributes:
        count: (n,) entries of every list, -1 where there is none.
        refreshed: bounds taken from lists so far.
    """

    def __init__(self, n: int, room: int, device: torch.device) -> None:
        self.room, self.refreshed = room, 0
        self.count = torch.full((n,), -1, dtype=torch.int64, device=device)
        self._rows = torch.empty(n, room, dtype=torch.int32, device=device)
        self._values = torch.empty(n, room, dtype=torch.float32, device=device)
        self._fresh = torch.zeros(n, dtype=torch.bool, device=device)

    @classmethod
    def within(cls, limit: int, n: int, device: torch.device) -> ActiveLists | None:
        """Lists that take at most `limit` bytes, or None where they would hold next to nothing."""
        room = min(n // SHARE, limit // (8 * n))
        return cls(n, room, device) if room > 0 else None

    def _agreed(self, at: Tensor, fits: Tensor) -> Tensor:
        """(B,) which of the candidates at positions (B,), whose rows of this process fit, get a list."""
        return fits

    def listed(self, at: Tensor) -> Tensor:
        """(B,) whether the candidates at positions (B,) have a list."""
        return self.count[at] >= 0

    def outdate(self) -> None:
        """Says that the coverage has grown: no bound is up to date."""
        self._fresh.zero_()

    def tighten(self, bounds: Tensor, coverage: Tensor, error: float, block: int) -> None:
        """Lowers bounds (n,) until those among the `block` largest that come from lists are up to date."""
        while True:
            best = bounds.topk(min(WIDE * block, len(bounds))).indices
            stale = self.listed(best) & ~self._fresh[best] & (bounds[best] > 0)
            if not bool(stale[:block].any()):
                return
            for at in best[stale].split(block):
                bounds[at] = torch.minimum(bounds[at], self._bounds(at, coverage, error))
                self._fresh[at] = True
                self.refreshed += len(at)

    def keep(self, at: Tensor, similarity: Tensor, coverage: Tensor, error: float) -> None:
        """Keeps the lists of candidates at positions (B,) where they fit, from their similarities (B, n)."""
        new = ~self.listed(at)
        if not bool(new.any()):
            return
        least = (coverage - error).float()
        least = torch.nextafter(least, torch.full_like(least, -torch.inf))
        active = similarity > least
        count = active.sum(1)
        fits = self._agreed(at, (count <= self.room) & new)
        b, row = (active & fits.unsqueeze(1)).nonzero(as_tuple=True)
        entries = count * fits
        place = torch.arange(len(row), device=row.device) - (entries.cumsum(0) - entries)[b]
        self._rows[at[b], place] = row.int()
        self._values[at[b], place] = similarity[b, row]
        self.count[at[fits]] = count[fits]

    def similarity(self, at: Tensor, listed: Tensor, out: Tensor) -> None:
        """Writes similarities of those candidates that are listed (B,) to out (B, n), -inf where none matters."""
        rows, values, inside = self._of(at[listed])
        b, e = inside.nonzero(as_tuple=True)
        out.fill_(-torch.inf)[listed.nonzero()[:, 0][b], rows[b, e]] = values[b, e]

    def _bounds(self, at: Tensor, coverage: Tensor, error: float) -> Tensor:
        rows, values, inside = self._of(at)
        gains = (values.double() - coverage[rows * inside] + error).clamp_(min=0)
        # What lies behind the last entry may be anything, NaN too.
        return gains.masked_fill_(~inside, 0.0).sum(1) * (1 + 1e-12)

    def _of(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, similarities and which of them are entries, (B, E) for the longest of the lists at (B,)."""
        count = self.count[at]
        entries = max(1, int(count.max()))
        inside = torch.arange(entries, device=at.device) < count.unsqueeze(1)
        return self._rows[at, :entries].long(), self._values[at, :entries], inside
