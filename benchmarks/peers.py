"""One adapter for each library that fastcore is measured against, and the loop that users write.

An adapter takes the data of a case, brings it into the form its library likes best, which is not timed,
and returns the call that is. All are asked the same question: same start row, same similarity, exact greedy.
Where a library is not installed its adapter raises ImportError, and it is left out of the table.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unittest import mock

import numpy as np
import torch

Run = Callable[[], Any]
START = 0
LAM = 1.0


@dataclass
class Data:
    """The input of one case; the similarities are made when a method wants them."""

    features: torch.Tensor  # (n, d) float32
    k: int

    def cosine(self) -> torch.Tensor:
        """Cosines, (n, n) float32, symmetric to the last bit."""
        unit = torch.nn.functional.normalize(self.features)
        product = unit @ unit.T
        return (product + product.T).mul_(0.5)

    @cached_property
    def similarity(self) -> torch.Tensor:
        """(1 + cos) / 2, (n, n) float32."""
        return self.cosine().mul_(0.5).add_(0.5)

    @cached_property
    def similarity_double(self) -> np.ndarray:
        """The same numbers in float64."""
        return self.similarity.numpy().astype(np.float64)


# ---- k-center -----------------------------------------------------------------------------------


def torch_loop(data: Data) -> Run:
    """Farthest-first as users write it: keep the nearest distance, one matrix-vector product a pick."""
    features = data.features

    def run() -> list[int]:
        picks = [START]
        norms = (features * features).sum(1)
        nearest = torch.full_like(norms, torch.inf)
        while len(picks) < data.k:
            last = picks[-1]
            distances = norms + norms[last] - 2 * (features @ features[last])
            nearest = torch.minimum(nearest, distances)
            picks.append(int(nearest.argmax()))
        return picks

    return run


def fpsample(data: Data) -> Run:
    """The plain sampler of fpsample: its bucket trees refuse wide rows, NPDU is not exact."""
    import fpsample as library

    points = np.asfortranarray(data.features.numpy())  # the layout that it would else copy into
    return lambda: library.fps_sampling(points, data.k, start_idx=START)


def torch_fps(data: Data) -> Run:
    """torch-fps: C++ on the CPU, built by torch at the first call."""
    import torch_fps as library

    points = data.features[None]
    mask = torch.ones(points.shape[:2], dtype=torch.bool)
    start = torch.tensor([START])
    return lambda: library.farthest_point_sampling(points, mask, data.k, start_idx=start)[0].numpy()


# ---- facility location --------------------------------------------------------------------------


def apricot(data: Data) -> Run:
    """The lazy greedy of apricot as it comes: every `fit` compiles its numba kernels again."""
    from apricot import FacilityLocationSelection

    similarity = data.similarity_double

    def run() -> Any:
        selector = FacilityLocationSelection(data.k, metric="precomputed", optimizer="lazy", verbose=False)
        return selector.fit(similarity).ranking

    return run


def apricot_compiled(data: Data) -> Run:
    """The same with the kernels compiled before, which apricot offers no way to do."""
    fit = apricot(data)

    def run() -> Any:
        with mock.patch.multiple("apricot.functions.facilityLocation", **_compiled_once()):
            return fit()

    return run


@functools.cache
def _compiled_once() -> dict[str, Any]:
    module = importlib.import_module("apricot.functions.facilityLocation")

    names = ("calculate_gains", "calculate_gains_sieve")
    return {name: functools.cache(getattr(module, name)) for name in names}


def submodlib_facility_location(data: Data) -> Run:
    """LazyGreedy of submodlib on its own copy of the similarity, made before."""
    from submodlib import FacilityLocationFunction

    similarity = data.similarity.numpy()
    function = FacilityLocationFunction(n=len(similarity), mode="dense", separate_rep=False, sijs=similarity)
    return functools.partial(_maximize, function, data.k)


def submodlib_graph_cut(data: Data, shifted: bool = True) -> Run:
    """LazyGreedy of submodlib; its gain is sum_i s_ij - lambda (2 sum_{i in S} s_ij + s_jj), which is ours.

    Without the shift, on plain cosines, the picks are the same and its lazy bounds hold longer. That is exact
    here because no cosine of these features is negative.
    """
    from submodlib import GraphCutFunction

    similarity = (data.similarity if shifted else data.cosine()).numpy()
    function = GraphCutFunction(n=len(similarity), mode="dense", lambdaVal=LAM, ggsijs=similarity)
    function.cpp_ggsijs = function.ggsijs = None  # lists of Python floats; the C++ object has its own copy
    return functools.partial(_maximize, function, data.k)


def _maximize(function: Any, k: int) -> list[int]:
    options = {"stopIfZeroGain": False, "stopIfNegativeGain": False, "show_progress": False}
    return [row for row, _ in function.maximize(budget=k, optimizer="LazyGreedy", **options)]
