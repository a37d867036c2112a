"""GLISTER: picks by the loss on validation rows."""

from __future__ import annotations

from typing import Any

from fastcore import checks
from fastcore.budget import Partition
from fastcore.greedy.batches import row_mask
from fastcore.greedy.gradient_ascent import gradient_ascent, held_out
from fastcore.greedy.picks import Picks
from fastcore.registry import Context, method


@method(
    "glister",
    needs=("gradients",),
    validation="required",
    sharded=("gradients",),
    cost="n·k·C·min(d, m) / refresh, with m validation rows",
    paper='Killamsetty et al., "GLISTER: generalization based data subset selection", 2021',
)
def glister(
    gradients: Any,
    partition: Partition,
    *,
    eta: float = 0.1,
    refresh: int = 1,
    split: float | None = None,
    context: Context,
) -> Picks:
    """Rows whose gradient steps lower the loss on validation rows most.

    Helps when the validation rows are what counts: shifted, imbalanced or noisily labelled training data.

    Each pick is the row with the largest ``<g, v>``, its gain, where v is the gradient of the mean validation loss
    of its class, or of all rows when not balanced. After every ``refresh`` picks the last layer moves by ``-eta``
    times the sum of their gradients and v is taken again, exactly and without the network: the logits of a
    validation row shift by ``-eta * delta_pick * (1 + <h_pick, h>)``. Preselected rows have moved it before.

    Needs ``validation=``, rows that are not among the data, or ``split``, a share of the data, drawn with the seed
    from each class, that serves as validation rows and is never picked. A larger ``refresh`` makes it cheaper;
    where embeddings are long, a smaller ``eta`` keeps the steps small.

    Published code has a slip by which v never changes, and is often run with the training rows as validation.
    """
    checks.number("eta", eta, "(0, inf)")
    checks.whole("refresh", refresh, 1)
    given, closed = context.validation, None
    if given is not None and split is None:
        validation = given.gradients, given.groups
    elif given is None and split is not None:
        rows, groups = context.held_out or held_out(partition, split, context.preselected, context.generator)
        validation = gradients[rows.to(gradients.device)], groups
        closed = row_mask(rows, gradients.n, gradients.device)
    else:
        both = "neither" if given is None else "both"
        raise ValueError(f"glister needs exactly one of validation= and split=, got {both}")
    rest = {"preselected": context.preselected, "progress": context.progress}
    return gradient_ascent(gradients, partition, validation, eta=eta, refresh=refresh, closed=closed, **rest)
