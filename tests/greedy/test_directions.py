"""Rows seen along a few directions: the bound that graph cut skips rows by."""

from __future__ import annotations

import pytest
import torch

from fastcore.greedy import directions
from fastcore.greedy.directions import (
    PRODUCT_DIRECTIONS,
    seen_along_factors,
    seen_along_principal,
)
from fastcore.numerics import product_error


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


def products_of(rows: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Factors of products x (x) [1; y], for y from the rows, as they are given and multiplied, as float64."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(*rows.shape[:2], classes, generator=generator)
    x *= torch.logspace(0, -2, classes)
    both = torch.nn.functional.pad(rows.double(), (1, 0), value=1.0)
    return x, rows, (x.double().unsqueeze(3) * both.unsqueeze(2)).flatten(2)


def by_factors(rows: torch.Tensor, classes: int = 3) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Also the rows that are seen: each as long as the row that it was made from."""
    x, y, products = products_of(rows, classes)
    own = products.norm(dim=2, keepdim=True)
    lengths = rows.double().norm(dim=2)
    sizes = torch.full((len(rows),), float(rows.shape[1]), dtype=torch.float64)
    return *seen_along_factors((x / own).float(), y, lengths, sizes), lengths.unsqueeze(2) * products / own


def by_many_factors(rows: torch.Tensor) -> tuple[torch.Tensor, float, torch.Tensor]:
    return by_factors(rows, 20)


CASES = ("plain", "steep", "around a mean", "one line", "equal", "tiny", "huge", "of any length")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seen", [by_principal, by_factors, by_many_factors])
@pytest.mark.parametrize("picks", [1, 9])
def test_what_is_left_bounds_every_product_with_a_sum(case, seen, picks):
    rows = rows_of(case, 150, 24)
    coordinates, error, *others = seen(rows)
    exact = others[0] if others else rows.double()
    along, rest = coordinates[:, :-1].double(), coordinates[:, -1].double()
    sums, length = exact[:, :picks].sum(1), exact[:, :picks].norm(dim=2).sum(1)
    seen_sums = along[:, :, :picks].sum(2)
    left = sums.square().sum(1) - seen_sums.square().sum(1) + error * length.square()
    product = (exact @ sums.unsqueeze(2)).squeeze(2)
    missed = product - (along.mT @ seen_sums.unsqueeze(2)).squeeze(2)
    assert bool((left >= 0).all())
    assert bool((missed.abs() <= rest * left.sqrt().unsqueeze(1)).all())


@pytest.mark.parametrize("classes", [3, 20])
def test_directions_take_in_what_lies_along_them(classes: int) -> None:
    # Second factors in 5 of 40 dimensions and first ones in 3 of any: nearly nothing is left of their products.
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(1, 150, 5, generator=generator) @ torch.randn(5, 40, generator=generator)
    x = torch.randn(1, 150, 3, generator=generator) @ torch.randn(3, classes, generator=generator)
    both = torch.nn.functional.pad(rows, (1, 0), value=1.0)
    x /= x.norm(dim=2, keepdim=True) * both.norm(dim=2, keepdim=True)
    lengths = torch.linspace(1, 9, 150, dtype=torch.float64)[None]
    coordinates, _ = seen_along_factors(x, rows, lengths, torch.tensor([150.0], dtype=torch.float64))
    assert coordinates.shape == (1, PRODUCT_DIRECTIONS + 1, 150)
    assert float((coordinates[:, -1] / lengths).max()) < 0.05
    # The first direction is that of the sum of all rows.
    products = (lengths.unsqueeze(2).unsqueeze(3) * x.double().unsqueeze(3) * both.unsqueeze(2)).flatten(2)
    along = products @ torch.nn.functional.normalize(products.sum(1), dim=1).unsqueeze(2)
    assert torch.allclose(coordinates[:, 0].double(), along[:, :, 0], rtol=1e-3, atol=1e-3)


def test_what_is_left_allows_for_the_rounding_of_coordinates(monkeypatch) -> None:
    # All of these rows lies along the directions, and coordinates are longer by as much as they may be.
    exact, width = directions.factored_coordinates, 60
    off = 1 + 12**0.5 * product_error(width)
    monkeypatch.setattr(directions, "factored_coordinates", lambda *factors: off * exact(*factors))
    generator = torch.Generator().manual_seed(2)
    y = torch.rand(1, 150, 1, generator=generator) @ torch.rand(1, width, generator=generator)
    both = torch.nn.functional.pad(y, (1, 0), value=1.0)
    x = 0.5**0.5 * torch.ones(1, 150, 2) / both.norm(dim=2, keepdim=True)
    lengths = torch.ones(1, 150, dtype=torch.float64)
    coordinates, error = seen_along_factors(x, y, lengths, torch.tensor([150.0], dtype=torch.float64))
    products = (x.double().unsqueeze(3) * both.double().unsqueeze(2)).flatten(2)
    along, rest = coordinates[0, :-1].double(), coordinates[0, -1].double()
    total, seen = products[0].sum(0), along.sum(1)
    left = (total.square().sum() - seen.square().sum()).clamp(min=0) + error * 150**2
    missed = products[0] @ total - along.mT @ seen
    assert float(missed.abs().min()) > 0.8 * 150 * 12**0.5 * product_error(width)
    assert bool((missed.abs() <= rest * left.sqrt()).all())
