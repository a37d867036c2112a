"""Rows seen along a few directions: the bound that graph cut skips rows by, and the choice of landmarks."""

from __future__ import annotations

import pytest
import torch

from fastcore.greedy.directions import (
    LANDMARK_DIRECTIONS,
    seen_along_landmarks,
    seen_along_principal,
)
from fastcore.ops.spanning import spanning


def rows_of(case: str, n: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    rows = torch.randn(2, n, width, generator=generator)
    if case == "steep":  # most of every row lies along a few directions
        rows *= torch.logspace(0, -3, width)
    elif case == "around a mean":
        rows = 0.1 * rows + torch.ones(width)
    elif case == "one line":
        rows = rows[:, :, :1] * torch.ones(width)
    elif case == "equal":
        rows = rows[:, :1].expand(-1, n, -1).contiguous()
    elif case == "tiny":
        rows *= 1e-12
    elif case == "huge":
        rows *= 1e15
    elif case == "of any length":
        rows *= torch.logspace(-15, 15, n).unsqueeze(1)
    return rows


def by_principal(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    exact = rows.double()
    scale = torch.ones(rows.shape[:2], dtype=torch.float64)
    sizes = torch.full((len(rows),), float(rows.shape[1]), dtype=torch.float64)
    return seen_along_principal(rows, scale, exact.square().sum(2), exact.sum(1), sizes)


def by_landmarks(rows: torch.Tensor, error: float = 1e-6) -> tuple[torch.Tensor, float]:
    """With cosines that are off by `error`."""
    exact = torch.nn.functional.normalize(rows.double(), dim=2, eps=1e-300)
    marks = exact[:, ::5]
    cosines = marks @ exact.mT
    signs = torch.randint(0, 2, cosines.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    off = (cosines + error * signs).float()
    return seen_along_landmarks(off, marks @ marks.mT, rows.double().norm(dim=2), error + 1e-7)


def by_rough_landmarks(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    return by_landmarks(rows, 1e-3)


CASES = ("plain", "steep", "around a mean", "one line", "equal", "tiny", "huge", "of any length")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seen", [by_principal, by_landmarks, by_rough_landmarks])
@pytest.mark.parametrize("picks", [1, 9])
def test_what_is_left_bounds_every_product_with_a_sum(case, seen, picks):
    rows = rows_of(case, 150, 24)
    coordinates, error = seen(rows)
    exact, along, rest = rows.double(), coordinates[:, :-1].double(), coordinates[:, -1].double()
    sums, length = exact[:, :picks].sum(1), exact[:, :picks].norm(dim=2).sum(1)
    seen_sums = along[:, :, :picks].sum(2)
    left = sums.square().sum(1) - seen_sums.square().sum(1) + error * length.square()
    product = (exact @ sums.unsqueeze(2)).squeeze(2)
    missed = product - (along.mT @ seen_sums.unsqueeze(2)).squeeze(2)
    assert bool((left >= 0).all())
    assert bool((missed.abs() <= rest * left.sqrt().unsqueeze(1)).all())


def test_directions_take_in_what_lies_along_them():
    # Rows in 12 of 40 dimensions lie wholly along 24 directions of 30 landmarks: nearly nothing is left.
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(1, 150, 12, generator=generator) @ torch.randn(12, 40, generator=generator)
    coordinates, _ = by_landmarks(rows)
    assert coordinates.shape == (1, LANDMARK_DIRECTIONS + 1, 150)
    assert float((coordinates[:, -1] / rows.norm(dim=2)).max()) < 0.02
    # The first direction is that of the sum of all rows.
    along = rows.double() @ torch.nn.functional.normalize(rows.double().sum(1), dim=1).unsqueeze(2)
    assert torch.allclose(coordinates[:, 0].double(), along[:, :, 0], rtol=1e-3, atol=1e-3)


def test_landmarks_span_every_group_of_rows():
    # Of ten groups, each around its own axis, one has 91 rows and the others have one each.
    axes = torch.eye(10, 30, dtype=torch.float64)
    group = torch.cat([torch.zeros(91, dtype=torch.long), torch.arange(1, 10)])
    generator = torch.Generator().manual_seed(0)
    rows = axes[group]
    rows[:, 10:] += 0.01 * torch.randn(100, 20, generator=generator, dtype=torch.float64)
    order = torch.randperm(100, generator=generator)
    both = torch.stack([rows, rows[order]])
    chosen = spanning(both @ both.mT, 10)
    assert sorted(group[chosen[0]].tolist()) == list(range(10))
    assert sorted(group[order[chosen[1]]].tolist()) == list(range(10))


def test_every_landmark_takes_in_the_most_that_one_row_can():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(12, 8, generator=generator, dtype=torch.float64)
    chosen = spanning((rows @ rows.T)[None].clone(), 4)[0].tolist()

    # The rest of the Gram matrix in its own terms: what one row takes in is ||G r||^2 / r'Gr.
    gram = rows @ rows.T
    for step, row in enumerate(chosen):
        taken = gram.square().sum(0) / gram.diagonal().clamp(min=1e-300)
        taken[chosen[:step]] = -1
        assert int(taken.argmax()) == row
        gram = gram - torch.outer(gram[:, row], gram[row]) / gram[row, row]
    basis = torch.linalg.qr(rows[chosen].T).Q
    assert torch.allclose(gram, rows @ rows.T - rows @ basis @ basis.T @ rows.T, atol=1e-10)


def test_no_more_landmarks_than_rows_differ_is_no_error():
    rows = torch.ones(1, 6, 3, dtype=torch.float64)
    assert spanning(rows @ rows.mT, 4).shape == (1, 4)
    assert spanning(torch.zeros(1, 6, 6, dtype=torch.float64), 6).shape == (1, 6)
