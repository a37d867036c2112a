"""GradMatch: orthogonal matching pursuit on gradients."""

from __future__ import annotations

from typing import Any

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.matching_pursuit import matching_pursuit
from fastcore.greedy.picks import Picks
from fastcore.registry import Context, method


@method(
    "gradmatch",
    needs=("gradients",),
    sharded=("gradients",),
    validation="optional",
    weights="own",
    cost="n·k·(C + d + k)",
    paper='Killamsetty et al., "GRAD-MATCH: gradient matching based data subset selection for efficient deep '
    'model training", 2021',
)
def gradmatch(
    gradients: Any, partition: Partition, *, lam: float = 1e-3, stop_at: float | None = None, context: Context
) -> Picks:
    """Rows and weights whose weighted gradients add up to the mean gradient: orthogonal matching pursuit.

    Helps when the weighted picks must reproduce the full gradient, re-selected every few epochs.

    With ``b`` the mean gradient of the ground set, or of its validation rows, and ``r = b - sum w g``, each step
    picks the row with the largest ``<g, r>`` and solves for all weights again: least squares with ``w >= 0`` and
    penalty ``lam * mean |g|^2 * |w|^2``. It picks k rows, or stops where ``|r|^2 <= stop_at * |b|^2``. When no row
    correlates with r any more (1e-6 of what it could), the rest is ranked by ``<g, b>`` and gets weight 0.

    Weights are non-negative and add up to 1; when balanced, those of a class add up to its share of the rows.
    ``info`` has the ``scale`` that makes them w, the ``residual`` |r| / |b|, and how many are ``active``, above 0.
    Gains are ``<g, r>``. Preselected rows are part of the sum. Weights belong to the whole selection.

    Published code takes an absolute ``lam = 1``, which for gradients of usual size makes the weights nearly equal
    and the picks the top k by ``<g, b>``; may pick a row twice or too few, and fills up at random. Here ``lam`` is
    relative, so that scaling all gradients changes nothing, and gradients stay in factored form.
    """
    checks.number("lam", lam, "(0, inf)")
    if stop_at is not None:
        checks.number("stop_at", stop_at, "(0, 1)")
    held = context.validation
    return matching_pursuit(
        gradients,
        partition,
        validation=None if held is None else (held.gradients, held.groups),
        lam=lam,
        stop_at=stop_at,
        preselected=context.preselected,
        memory=context.memory,
        progress=context.progress,
    )
