"""The plain torch loops that users write: one pick after the other, each over all the data.

`loop(data)` does what is done once, and is not timed; the function it returns makes that many picks. In float64
the same loops are the judges of our first picks. No code is shared with fastcore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from benchmarks.peers import Data, torch_loop

Loop = Callable[[int], list[int]]
START = 0
LAM = 1.0
LEAST = 1e-12  # a probability below this counts as this
TIE = 1e-12  # relative: what is nearer counts as equal where a loop judges
TILE = 4096
WIDE_TILE = 1 << 17
TILE_BYTES = 2 << 30


def best(values: Tensor) -> int:
    """The lowest row of the largest value; in float64, where a loop judges, of those tied but for rounding."""
    if values.dtype != torch.float64:
        return int(values.argmax())
    most = values.max()
    return int((values >= most - TIE * most.abs()).byte().argmax())


def k_center(x: Tensor) -> Loop:
    """Farthest first, from row 0."""
    x = x - x.mean(0) if x.dtype == torch.float64 else x  # products of centred rows cancel less
    return lambda picks: torch_loop(Data(x, picks))()


def herding(x: Tensor) -> Loop:
    """The row nearest to (t + 1) mean - sum of the picks."""
    mean, norms = x.mean(0), x.square().sum(1)

    def run(count: int) -> list[int]:
        picks, wanted, closed = list[int](), mean.clone(), torch.zeros_like(norms)
        while len(picks) < count:
            scores = 2 * (x @ wanted) - norms - closed
            picks.append(best(scores))
            closed[picks[-1]] = torch.inf
            wanted += mean - x[picks[-1]]
        return picks

    return run


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1, eps=1e-30)


def graph_cut(x: Tensor) -> Loop:
    """Graph cut on (1 + cos) / 2, whose constants change no pick."""
    u = _unit(x)
    first = 0.5 * (u @ u.sum(0)) - 0.5 * LAM * u.square().sum(1)

    def run(count: int) -> list[int]:
        picks, gains = list[int](), first.clone()
        while len(picks) < count:
            picks.append(best(gains))
            gains -= LAM * (u @ u[picks[-1]])
            gains[picks[-1]] = -torch.inf
        return picks

    return run


def facility_location(x: Tensor) -> Loop:
    """Facility location on a dense (1 + cos) / 2, every gain again for every pick."""
    u = _unit(x)
    similarity = (u @ u.T).mul_(0.5).add_(0.5)
    return facility_location_of(similarity)


def facility_location_of(similarity: Tensor) -> Loop:
    """The same from a ready matrix."""

    def run(count: int) -> list[int]:
        picks, covered = list[int](), torch.zeros_like(similarity[0])
        closed = torch.zeros_like(covered)
        while len(picks) < count:
            parts = [(tile - covered).clamp_(min=0).sum(1) for tile in similarity.split(TILE)]
            picks.append(best(torch.cat(parts) - closed))
            closed[picks[-1]] = torch.inf
            covered = torch.maximum(covered, similarity[picks[-1]])
        return picks

    return run


def facility_location_tiled(x: Tensor) -> Loop:
    """The same without the matrix: a product of all rows with all rows for every pick but the first."""
    u = _unit(x)
    few = max(1, TILE_BYTES // (u.element_size() * len(u)))

    def run(count: int) -> list[int]:
        picks, covered = list[int](), torch.zeros_like(u[:, 0])
        gains = 0.5 * len(u) + 0.5 * (u @ u.sum(0))
        while True:
            gains[picks] = -torch.inf
            picks.append(best(gains))
            if len(picks) >= count:
                return picks
            covered = torch.maximum(covered, (u @ u[picks[-1]]).mul_(0.5).add_(0.5))
            tiles = ((part @ u.T).mul_(0.5).add_(0.5).sub_(covered) for part in u.split(few))
            gains = torch.cat([tile.clamp_(min=0).sum(1) for tile in tiles])

    return run


def log_det(x: Tensor) -> Loop:
    """Incremental Cholesky of (1 + cos) / 2 plus 1e-3 of its mean diagonal, a column a pick."""
    u = _unit(x)

    def run(count: int) -> list[int]:
        picks, rows = list[int](), torch.zeros(count, len(u), dtype=u.dtype, device=u.device)
        pivots = torch.full_like(u[:, 0], 1 + 1e-3)
        while len(picks) < count:
            j, t = best(pivots), len(picks)
            column = (u @ u[j]).mul_(0.5).add_(0.5) - rows[:t, j] @ rows[:t]
            root = pivots[j].sqrt()
            rows[t] = column / root
            rows[t, j] = root
            pivots -= rows[t].square()
            picks.append(j)
            pivots[picks] = -torch.inf
        return picks

    return run


def contextual_diversity(p: Tensor) -> Loop:
    """Farthest first by symmetric divergence, from row 0."""
    p = p.clamp(min=LEAST)
    logs = p.log()

    def distances(j: int) -> Tensor:
        parts = zip(p.split(WIDE_TILE), logs.split(WIDE_TILE), strict=True)
        return torch.cat([((q - p[j]) * (log_q - logs[j])).sum(1) / 2 for q, log_q in parts])

    def run(count: int) -> list[int]:
        picks, nearest = [START], distances(START)
        while len(picks) < count:
            picks.append(best(nearest))
            nearest = torch.minimum(nearest, distances(picks[-1]))
        return picks

    return run


def torch_fps(x: Tensor) -> Loop:
    """torch-fps, where it is installed."""
    import torch_fps as library

    mask = torch.ones(1, len(x), dtype=torch.bool, device=x.device)
    start = torch.tensor([START], device=x.device)

    def run(count: int) -> list[int]:
        picks: list[int] = library.farthest_point_sampling(x[None], mask, count, start_idx=start)[0].tolist()
        return picks

    return run


def triton_submodular(name: str) -> Callable[[Tensor], Loop]:
    """triton-submodular on a ready (1 + cos) / 2, where it is installed; `name` is that of its function."""

    def prepare(x: Tensor) -> Loop:
        from triton_submodular import functions

        u = _unit(x)
        function = getattr(functions, name)((u @ u.T).mul_(0.5).add_(0.5), metric=None)

        def run(count: int) -> list[int]:
            picks: list[int] = function.maximize(count, "LazyGreedyTriton")[0].tolist()
            return picks

        return run

    return prepare


def first_difference(ours: Iterable[int], theirs: Iterable[int]) -> int | None:
    """The step at which two lists of picks part, None where the shorter one is a prefix of the other."""
    return next((t for t, (a, b) in enumerate(zip(ours, theirs)) if a != b), None)
