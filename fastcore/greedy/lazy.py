"""Greedy maximization of any objective by evaluating gains: naive, lazy, and the sampled variants.

All in float64 and one pick at a time, with a Python loop over ground sets: these optimizers exist for
comparison and for sampled selection. The native engines return the picks of ``naive`` far sooner.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastcore.budget import Partition
from fastcore.gradients import LastLayerGradients
from fastcore.greedy.objectives import FacilityLocation, GraphCut, LogDet, Objective
from fastcore.greedy.picks import Counter, Picks
from fastcore.greedy.sharded import ShardedView
from fastcore.numerics import full_precision
from fastcore.rows import resident_only
from fastcore.similarity import Outside, Similarity

_FIRST_BATCH = 8


@full_precision()
def maximize(
    objective_name: str,
    view: Similarity | ShardedView,
    partition: Partition,
    *,
    optimizer: str,
    preselected: Outside | None = None,
    generator: torch.Generator | None = None,
    progress: Counter | None = None,
    epsilon: float = 0.01,
    beta: float = 0.9,
    lam: float = 1.0,
    ridge: float | None = None,
) -> Picks:
    """Picks of every ground set by greedy maximization of an objective, ties to the lowest row.

    - ``naive`` evaluates every candidate for every pick. Exact.
    - ``lazy`` evaluates only candidates whose last known gain could still win. Exact, the same picks: Minoux,
      "Accelerated greedy algorithms for maximizing submodular set functions", 1978.
    - ``stochastic`` evaluates ceil(n / k * ln(1 / epsilon)) random candidates a pick: at least
      1 - 1/e - epsilon of the optimum in expectation, monotone objectives. Mirzasoleiman et al.,
      "Lazier than lazy greedy", AAAI 2015.
    - ``approximate_lazy`` accepts the best candidate known once its gain is at least ``beta`` times every
      bound that could beat it: every pick is worth at least beta times the best one (a negative bound is not
      discounted).
    - ``lazier_than_lazy`` is ``lazy`` inside the random sample of ``stochastic``.

    Old gains are bounds only while gains shrink. Where they may grow (graph cut with negative similarities or
    a negative lam) every candidate of the step is evaluated, and ``lazy`` is ``naive``.

    Args:
        objective_name: "facility_location", "graph_cut" or "log_det".
        preselected: (m,) int64 row numbers already in the coreset, or (m, d) features or m
            gradients of outside rows.
        generator: source of the samples, on the CPU.
        ridge: what log_det adds to the diagonal; by default 1e-3 of its mean over all rows.

    Returns picks with ``info["evaluations"]``, the gains computed, and ``info["shrinks"]``.
    """
    resident_only(getattr(getattr(view, "local", view), "features", None), f"optimizer={optimizer!r}")
    sampled, discount = optimizer in ("stochastic", "lazier_than_lazy"), 1.0
    if optimizer == "approximate_lazy":
        discount = beta
    most = int(partition.budgets.max()) if partition.sets else 0
    picks = torch.full((partition.sets, most), -1, dtype=torch.int64, device="cpu")
    gains = torch.zeros((partition.sets, most), dtype=torch.float64, device="cpu")
    evaluations, shrinks = 0, True
    for g, budget in enumerate(partition.budgets.tolist()):
        if budget == 0:
            continue
        rows = partition.rows[partition.offsets[g] : partition.offsets[g + 1]]
        objective = _objective(objective_name, view, rows, lam, ridge)
        search = _Search(objective, optimizer in ("naive", "stochastic"), discount)
        if isinstance(preselected, LastLayerGradients) or preselected is not None and preselected.dim() == 2:
            objective.condition(preselected)
        elif preselected is not None:
            for position in torch.isin(rows, preselected).nonzero()[:, 0].tolist():
                search.take(position)
        size = math.ceil(len(rows) / budget * math.log(1 / epsilon)) if sampled else len(rows)
        for step in range(budget):
            pool = search.free()
            if sampled and size < len(pool):
                pool = pool[torch.randperm(len(pool), generator=generator, device="cpu")[:size].sort().values]
            position, gain = search.best(pool)
            search.take(position)
            picks[g, step], gains[g, step] = rows[position], gain
            if progress is not None:
                progress.update(1)
        evaluations += search.evaluations
        shrinks = shrinks and objective.shrinks
    return Picks(picks, gains, info={"evaluations": evaluations, "shrinks": shrinks})


def _objective(
    name: str, view: Similarity | ShardedView, rows: Tensor, lam: float, ridge: float | None
) -> Objective:
    if isinstance(view, ShardedView):
        return view.objective(name, lam, ridge)
    if name == "facility_location":
        return FacilityLocation(view, rows)
    if name == "graph_cut":
        return GraphCut(view, rows, lam)
    if name == "log_det":
        if ridge is None:
            ridge = 1e-3 * float(view.diagonal().mean()) or 1e-3  # 1e-3 where all rows are zero
        return LogDet(view, rows, ridge)
    raise ValueError(f"objective must be facility_location, graph_cut or log_det, got {name!r}")


class _Search:
    """The candidates of one ground set, with the last known gain of each as its bound."""

    def __init__(self, objective: Objective, exhaustive: bool, discount: float) -> None:
        self.objective, self.discount = objective, discount
        self.exhaustive = exhaustive or not objective.shrinks
        self.bounds = torch.full((len(objective.rows),), torch.inf, dtype=torch.float64, device="cpu")
        self.taken = torch.zeros(len(objective.rows), dtype=torch.bool, device="cpu")
        self.evaluations = 0

    def free(self) -> Tensor:
        """Positions not yet taken, ascending."""
        return (~self.taken).nonzero()[:, 0]

    def take(self, position: int) -> None:
        """Adds a candidate to the chosen rows."""
        self.objective.add(position)
        self.taken[position] = True

    def best(self, pool: Tensor) -> tuple[int, float]:
        """The best candidate of the pool, which is ascending, and its gain.

        Evaluates the candidates with the largest bounds, twice as many each time, until no bound reaches the
        best gain found (or only does so before the discount).
        """
        bounds, fresh = self.bounds[pool], torch.zeros(len(pool), dtype=torch.bool, device="cpu")
        batch = len(pool) if self.exhaustive else _FIRST_BATCH
        while True:
            best = float(bounds[fresh].max()) if fresh.any() else -math.inf
            bar = self.objective.bar(best)
            reach = torch.where(bounds > 0, self.discount * bounds, bounds)
            rivals = (~fresh & (reach >= bar)).nonzero()[:, 0]
            if len(rivals) == 0:
                break
            # Without any knowledge of a gain there is nothing to be lazy about: those are evaluated first.
            unknown = int((bounds[rivals] == torch.inf).sum())
            order = bounds[rivals].sort(descending=True, stable=True).indices
            some = rivals[order[: max(batch, unknown)]]
            bounds[some] = self.objective.gains(pool[some].to(self.objective.rows.device)).cpu()
            fresh[some] = True
            self.evaluations += len(some)
            batch *= 2
        self.bounds[pool] = bounds
        tied = fresh & (bounds >= bar)
        first = int(tied.nonzero()[0])
        return int(pool[first]), float(bounds[first])
