"""The nearest hyperplane so far, one candidate class at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from fastcore.ops import implementation
from fastcore.ops.choice import TIE


def deepfool_step(normals: Tensor, values: Tensor, nearest: Tensor, step: Tensor, least: float) -> None:
    """Fold one candidate hyperplane a row into the nearest one so far and the step onto it, in place.

    normals (rows, pixels) float32 is w, the gradient of f = (candidate logit - predicted logit) by the input;
    values (rows,) float64 is f. The distance of the hyperplane is |f| / ||w||: +inf where w = 0, NaN where w
    or f is not finite. If it is below nearest (rows,) float64 by more than a tie, so that a tie stays with the
    earlier candidate, nearest becomes the distance and step (rows, pixels) float32 becomes
    max(|f|, least) / ||w||^2 * w. A NaN distance makes nearest NaN for good. Reads each normal once from memory.
    """
    implementation("deepfool_step", deepfool_step_reference, normals)(normals, values, nearest, step, least)


def deepfool_step_reference(
    normals: Tensor, values: Tensor, nearest: Tensor, step: Tensor, least: float
) -> None:
    squares = normals.double().square().sum(1)
    distance = torch.where(squares > 0, values.abs() / squares.sqrt(), torch.inf)
    distance.masked_fill_(~(squares + values).isfinite(), torch.nan)
    nearer = distance < nearest * (1 - TIE)
    scale = values.abs().clamp(min=least) / squares
    moved = (scale.unsqueeze(1) * normals).float()
    step.copy_(torch.where(nearer.unsqueeze(1), moved, step))
    nearest.copy_(torch.where(nearer | distance.isnan(), distance, nearest))
