"""Matching pursuit as others run it: over the gradients themselves, n rows of C (D + 1) numbers.

Each adapter takes the data of a case and returns the call that is timed; the matrix is made before. A call returns
row numbers and weights for which sum w g is near the mean gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from fastcore.gradients import LastLayerGradients

LAM = 1e-3
"""Penalty on the weights, relative to the mean squared length of the gradients."""

Result = tuple[list[int], np.ndarray]
Run = Callable[[], Result]


@dataclass
class Gradients:
    """The input of one case."""

    gradients: LastLayerGradients
    k: int

    @cached_property
    def matrix(self) -> torch.Tensor:
        """(n, C (D + 1)) float32."""
        return self.gradients.materialise()

    @cached_property
    def ridge(self) -> float:
        """The penalty in absolute terms."""
        return LAM * float(self.gradients.squared_norms().mean())


def residual(data: Gradients, result: Result) -> float:
    """|b - sum w g| / |b| in float64, with b the mean gradient."""
    n = data.gradients.n
    weights = torch.zeros(n, dtype=torch.float64)
    weights[torch.tensor(result[0])] = torch.from_numpy(result[1])
    mean = data.gradients.weighted_sum(torch.full((n,), 1 / n, dtype=torch.float64))
    return float((mean - data.gradients.weighted_sum(weights)).norm() / mean.norm())


def rebuilding(data: Gradients, least_squares: bool = True) -> Run:
    """The pursuit of CORDS and DeepCore, from its description: every step takes the Gram matrix of the picks anew
    and solves for their weights by general least squares, whatever their signs.

    With a relative penalty and no row twice, unlike there, so that it is asked the same question. Without
    `least_squares` the system is solved by elimination, which is faster than what they do.
    """
    matrix, ridge = data.matrix, data.ridge

    def run() -> Result:
        mean = matrix.mean(0)
        rest, rows, free = mean, [], torch.ones(len(matrix), dtype=torch.bool)
        weights = mean[:0]
        while len(rows) < data.k:
            rows.append(int((matrix @ rest).masked_fill(~free, -torch.inf).argmax()))
            free[rows[-1]] = False
            picked = matrix[rows]
            gram = picked @ picked.T + ridge * torch.eye(len(rows))
            wanted = (picked @ mean).unsqueeze(1)
            solved = (
                torch.linalg.lstsq(gram, wanted)[0] if least_squares else torch.linalg.solve(gram, wanted)
            )
            weights = solved[:, 0]
            rest = mean - weights @ picked
        return rows, weights.double().numpy()

    return run


def non_negative(data: Gradients) -> Run:
    """The same with weights >= 0, by scipy's active set in every step; the Gram matrix only grows, in float64."""
    matrix, ridge = data.matrix, data.ridge

    def run() -> Result:
        mean = matrix.double().mean(0)
        target = (matrix.double() @ mean).numpy()
        gram = np.zeros((data.k, data.k))
        rest, rows, free = mean, [], torch.ones(len(matrix), dtype=torch.bool)
        weights = np.zeros(0)
        while len(rows) < data.k:
            correlations = torch.cat([part.double() @ rest for part in matrix.split(512)])
            rows.append(int(correlations.masked_fill(~free, -torch.inf).argmax()))
            free[rows[-1]] = False
            t, picked = len(rows), matrix[rows].double()
            gram[t - 1, :t] = gram[:t, t - 1] = (picked @ picked[-1]).numpy()
            triangle = np.linalg.cholesky(gram[:t, :t] + ridge * np.eye(t))
            weights, _ = nnls(
                triangle.T, solve_triangular(triangle, target[rows], lower=True), maxiter=100 * t
            )
            rest = mean - torch.from_numpy(weights) @ picked
        return rows, weights

    return run


def scikit_learn(data: Gradients) -> Run:
    """orthogonal_mp of scikit-learn, without a penalty and without signs, on the columns it would copy to."""
    from sklearn.linear_model import orthogonal_mp

    columns = np.asfortranarray(data.matrix.numpy().T)
    mean = columns.mean(1)

    def run() -> Result:
        weights = orthogonal_mp(columns, mean, n_nonzero_coefs=data.k)
        rows = np.flatnonzero(weights)
        return rows.tolist(), weights[rows].astype(np.float64)

    return run
