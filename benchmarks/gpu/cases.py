"""The table of cases, cheapest first: sizes, targets, and the formulas of what must be moved and computed.

n rows of width d, k picks, C classes; m rows and b picks in a class. A float32 number is 4 bytes.
"""

from __future__ import annotations

from typing import Any

import torch

import fastcore
from benchmarks.gpu import data, loops, loops_by_class
from benchmarks.gpu.balanced import FACTORED, Balanced, loop_and_factored
from benchmarks.gpu.case import IMAGENET, PER_CLASS, PLAIN, PREFIX, SMALL, Case, Data, Size, Work
from benchmarks.gpu.deepfool import DEEPFOOL
from benchmarks.refcheck import FacilityLocation, GraphCut, Herding, KCenter
from fastcore.numerics import assume_tensor_cores

WIDTH, CLASSES, CLUSTERS = 512, 1000, 1000
VALIDATION = 50  # rows of a class
ONE_PERCENT = 12_812
BLOCK = 512

# ---- inputs -----------------------------------------------------------------------------------------------


def _narrow(size: Size) -> int:
    """Width or classes: the full number, or 16 at the tiny sizes of a quick run."""
    return WIDTH if size.n >= 1000 else 16


def _classes(size: Size) -> int:
    return CLASSES if size.n >= 1000 else 12


def _features(size: Size, device: torch.device) -> Data:
    return Data(data.features(size.n, _narrow(size), min(CLUSTERS, size.n // 4), device))


def _balanced(size: Size, device: torch.device) -> Data:
    rows = data.features(size.n, _narrow(size), size.classes, device)
    return Data(rows, data.labels(size.n, size.classes, device))


def _probabilities(size: Size, device: torch.device) -> Data:
    return Data(data.probabilities(size.n, _classes(size), device))


def _signals(size: Size, device: torch.device) -> Data:
    rows = data.features(size.n, _narrow(size), size.classes, device)
    signals = fastcore.Signals(embeddings=rows, logits=data.logits(size.n, _classes(size), device))
    return Data(signals, data.labels(size.n, size.classes, device), {"ties": "row"})


def _gradients(size: Size, device: torch.device) -> Data:
    rows = data.gradients(size.n, size.classes, _classes(size), _narrow(size), device)
    return Data(rows, data.labels(size.n, size.classes, device))


def _with_validation(size: Size, device: torch.device) -> Data:
    made = _gradients(size, device)
    m = size.classes * min(VALIDATION, max(2, size.n // size.classes))
    held = data.gradients(m, size.classes, _classes(size), _narrow(size), device, seed=7)
    made.more["validation"] = (held, data.labels(m, size.classes, device))
    made.more["eta"] = (
        1e-3 if size.n >= 1000 else 0.1
    )  # long embeddings: larger steps leave no loss after a few
    return made


# ---- bytes and operations ---------------------------------------------------------------------------------


def _k_center(size: Size, info: dict[str, Any]) -> Work:
    """Every (row, pick) product once: 2 n k d; the features once a pass."""
    d = _narrow(size)
    return Work(4.0 * size.n * d * info.get("passes", -(-size.k // BLOCK)), 2.0 * size.n * size.k * d)


def _graph_cut(size: Size, info: dict[str, Any]) -> Work:
    """Norms, total, mean direction, and one product of all rows a pass: 3 + p reads of the features."""
    reads, d = 3 + info.get("passes", 1), _narrow(size)
    return Work(4.0 * size.n * d * reads, 2.0 * size.n * d * reads)


def _herding(size: Size, info: dict[str, Any]) -> Work:
    """One read of the 8-bit copy of the features a pick; the plain loop reads four times as much."""
    d = _narrow(size)
    return Work(1.0 * size.n * d * size.k, 2.0 * size.n * d * size.k)


def _contextual(size: Size, info: dict[str, Any]) -> Work:
    """Products of 2 C numbers a (row, pick) in float32; the probabilities once a pass."""
    c = _classes(size)
    return Work(4.0 * size.n * c * info.get("passes", 1), 4.0 * size.n * size.k * c)


def _cal(size: Size, info: dict[str, Any]) -> Work:
    """All pairs within a class: 2 n m d; the features, and the probabilities of 10 neighbours and the row, twice.

    A probability of a neighbour is one addition; a row has C entropies and C products with logarithms.
    """
    m, d, c = size.n / size.classes, _narrow(size), _classes(size)
    return Work(4.0 * size.n * (d + 12 * c), 2.0 * size.n * m * d + 14.0 * size.n * c)


def _glister(size: Size, info: dict[str, Any]) -> Work:
    """A pick takes the products of m rows with v validation rows: C classes, and a table of v numbers a row."""
    m, c = size.n / size.classes, _classes(size)
    v = min(VALIDATION, max(2, size.n // size.classes))
    return Work(4.0 * size.k * m * (c + 2 * v), 2.0 * size.k * m * v * (c + 1), "float64")


def _facility_balanced(size: Size, info: dict[str, Any]) -> Work:
    """One m x m product a class: 2 n m d; its entries written, then read for the first gains and e times more."""
    m, d = size.n / size.classes, _narrow(size)
    evaluations = info.get("evaluations", size.n) / size.n
    return Work(4.0 * size.n * (d + m * (2 + evaluations)), 2.0 * size.n * m * d)


def _facility_whole(size: Size, info: dict[str, Any]) -> Work:
    """A column of n products for every one that was computed, the first sweep included: 2 n d, written and read
    where they are not summed inside the product.

    A pair that is refined takes a product in float32; the rows for it are read from a cache.
    """
    d = _narrow(size)
    columns = max(float(info.get("columns", 0)), float(size.n))
    rounded = float(info.get("tensor_core_columns", 0))
    moved = 4.0 * size.n * (columns * d / BLOCK + 2 * (columns - info.get("fused_columns", 0)))
    plain = 2.0 * d * (size.n * (columns - rounded) + info.get("refined_pairs", 0))
    if rounded * size.n * 2.0 * d < 8 * plain:  # tensor cores are about that much faster
        return Work(moved, plain)
    return Work(moved, 2.0 * d * size.n * columns, "tf32")


def _log_det(size: Size, info: dict[str, Any]) -> Work:
    """k columns of n products, and k^2 / 2 products of Cholesky rows, in float64; the rows read once a pass."""
    n, k, d = size.n, size.k, _narrow(size)
    return Work(8.0 * n * k * (1 + info.get("passes", 1) / 2), 2.0 * n * k * (d + k / 2), "float64")


def _gradmatch(size: Size, info: dict[str, Any]) -> Work:
    """A column of m products of C + D a pick, and correlations by the b columns so far, in float64."""
    m, width, b = size.n / size.classes, _classes(size) + _narrow(size), size.k / size.classes
    return Work(size.k * m * (4.0 * width + 4.0 * b), 2.0 * size.k * m * (width + b / 2), "float64")


def _craig(size: Size, info: dict[str, Any]) -> Work:
    """Half of an m x m product of C + D a class in float64; entries as in facility location."""
    m, width = size.n / size.classes, _classes(size) + _narrow(size)
    evaluations = info.get("evaluations", size.n) / size.n
    return Work(4.0 * size.n * (width + m * (2 + evaluations)), 1.0 * size.n * m * width, "float64")


# ---- what peers must move and compute -------------------------------------------------------------------------


def _read_a_pick(size: Size, info: dict[str, Any]) -> Work:
    """One product of all rows with one of them a pick: 2 n d, and n d numbers read."""
    d = _narrow(size)
    return Work(4.0 * size.n * d * size.k, 2.0 * size.n * d * size.k)


def _divergence_a_pick(size: Size, info: dict[str, Any]) -> Work:
    """Probabilities and their logarithms read for every pick; two differences, a product and a sum each."""
    c = _classes(size)
    return Work(8.0 * size.n * c * size.k, 4.0 * size.n * c * size.k)


def _dense_a_pick(size: Size, info: dict[str, Any]) -> Work:
    """The n x n products once; the matrix read, compared and added up for every pick."""
    n = float(size.n)
    return Work(4.0 * n * n * size.k, 2.0 * n * n * (_narrow(size) + size.k))


def _cholesky(size: Size, info: dict[str, Any]) -> Work:
    """A column of n products a pick, and one product with the rows so far; features and rows read for each."""
    n, k, d = float(size.n), size.k, _narrow(size)
    return Work(4.0 * n * k * (d + k / 2), 2.0 * n * k * (d + k / 2))


def _dense_by_class(size: Size, info: dict[str, Any]) -> Work:
    """m x m products a class; the matrix read for each of its picks."""
    m, d = size.n / size.classes, _narrow(size)
    return Work(4.0 * m * (size.n + size.k * m), 2.0 * m * (size.n * d + size.k * m))


def _craig_loop(size: Size, info: dict[str, Any]) -> Work:
    """Gradients of C (D + 1) numbers written and read, their m x m products, and the matrix for each pick."""
    m, wide = size.n / size.classes, _classes(size) * (_narrow(size) + 1)
    return Work(8.0 * size.n * wide + 4.0 * size.k * m * m, 2.0 * m * (size.n * wide + size.k * m))


def _craig_factored(size: Size, info: dict[str, Any]) -> Work:
    """The m x m products from the factors, and the matrix for each pick."""
    m, width = size.n / size.classes, _classes(size) + _narrow(size)
    return Work(4.0 * m * (size.n + size.k * m), 2.0 * m * (size.n * width + size.k * m))


def _written_out(size: Size, info: dict[str, Any]) -> Work:
    """m gradients of C (D + 1) numbers read, and multiplied with one, for each pick."""
    m, wide = size.n / size.classes, _classes(size) * (_narrow(size) + 1)
    return Work(4.0 * wide * (2 * size.n + size.k * m), 2.0 * wide * size.k * m)


def _gradmatch_factored(size: Size, info: dict[str, Any]) -> Work:
    """The m x m products from the factors; the columns of the picks so far for each pick."""
    m, b, width = size.n / size.classes, size.k / size.classes, _classes(size) + _narrow(size)
    return Work(4.0 * m * (size.n + size.k * b / 2), 2.0 * m * (size.n * width + size.k * b / 2))


def _glister_factored(size: Size, info: dict[str, Any]) -> Work:
    """A C x D gradient of v validation rows, and its products with the factors of m rows, for each pick."""
    m, c, d = size.n / size.classes, _classes(size), _narrow(size)
    v = min(VALIDATION, max(2, size.n // size.classes))
    return Work(4.0 * size.k * ((m + v) * (c + d) + 2 * c * d), 2.0 * size.k * (m + v) * c * d)


class Float32(Case):
    """The same selection without tensor cores, to compare with."""

    def select(self, data: Data, size: Size, **options: Any) -> Any:
        """The selection that is timed."""
        with assume_tensor_cores(False):
            return super().select(data, size, **options)


# ---- the table --------------------------------------------------------------------------------------------


def _whole(*targets: tuple[int, float]) -> tuple[Size, ...]:
    """50 000 and 200 000 rows, then all of them with each (k, target)."""
    large = (Size(IMAGENET, k, target) for k, target in targets)
    return Size(50_000, 500), Size(200_000, 2000), *large


def _by_class(share: float, target: float) -> tuple[Size, ...]:
    """39, 156 and 1 000 classes of 1 281 rows, and that share of the rows."""
    counts = ((39, None), (156, None), (CLASSES, target))
    return tuple(Size(PER_CLASS * c, round(PER_CLASS * c * share), t, classes=c) for c, t in counts)


TINY = (Size(400, 40),)
TINY_BALANCED = (Size(400, 40, classes=6),)
ROW = {"start": loops.START}
ANY_K = "k is 1 % of the rows, as for the methods beside it: all rows are scored, whatever k is"
BOTH_K = (
    "k is 1 % of the rows, as for the methods beside it, and 10 %, as for other balanced ones: one target"
)

_ALL = (
    Case(
        "k_center", "k_center", _whole((ONE_PERCENT, 2.0), (128_117, 15.0)), (Size(240, 24), *TINY), _features,
        _k_center,
        options=ROW, loop=loops.k_center, peers={"torch-fps": loops.torch_fps}, objective=KCenter,
        peer_work={PLAIN: _read_a_pick, "torch-fps": _read_a_pick}, seconds=15.0,
    ),
    Balanced(
        "facility_location_balanced", "facility_location", _by_class(0.1, 0.8), TINY_BALANCED, _balanced,
        _facility_balanced,
        pickers={PLAIN: loops_by_class.facility_location}, peer_work={PLAIN: _dense_by_class},
    ),
    Case(
        "graph_cut", "graph_cut", _whole((ONE_PERCENT, 2.0)), TINY, _features, _graph_cut,
        loop=loops.graph_cut, peers={"triton-submodular": loops.triton_submodular("GraphCut")}, objective=GraphCut,
        peer_work={PLAIN: _read_a_pick},
    ),
    Case(
        "herding", "herding", _whole((ONE_PERCENT, 8.0)), TINY, _features, _herding,
        loop=loops.herding, objective=Herding, peer_work={PLAIN: _read_a_pick},
    ),
    Case(
        "log_det", "log_det", (Size(20_000, 400), Size(50_000, 1000), Size(100_000, 2000, 1.0)), TINY, _features,
        _log_det, loop=loops.log_det, peer_work={PLAIN: _cholesky}, grows=True,
    ),
    Balanced(
        "gradmatch", "gradmatch", _by_class(0.1, 2.0), TINY_BALANCED, _gradients, _gradmatch, classes=CLASSES,
        pickers=loop_and_factored(loops_by_class.gradmatch, loops_by_class.gradmatch_factored),
        peer_work={PLAIN: _written_out, FACTORED: _gradmatch_factored},
    ),
    Balanced(
        "craig", "craig", _by_class(0.1, 1.5), TINY_BALANCED, _gradients, _craig, classes=CLASSES,
        pickers=loop_and_factored(loops_by_class.craig, loops_by_class.craig_factored),
        peer_work={PLAIN: _craig_loop, FACTORED: _craig_factored},
    ),
    Balanced(
        "cal", "cal", _by_class(0.01, 3.0), TINY_BALANCED, _signals, _cal, classes=CLASSES,
        pickers={PLAIN: loops_by_class.cal}, peer_work={PLAIN: _cal}, remark=ANY_K,
    ),
    Balanced(
        "glister", "glister", (*_by_class(0.01, 15.0), _by_class(0.1, 15.0)[-1]), TINY_BALANCED, _with_validation,
        _glister, classes=CLASSES,
        pickers=loop_and_factored(loops_by_class.glister, loops_by_class.glister_factored),
        peer_work={PLAIN: _written_out, FACTORED: _glister_factored}, remark=BOTH_K,
    ),
    Case(
        "contextual_diversity", "contextual_diversity", _whole((ONE_PERCENT, 4.0)), TINY, _probabilities,
        _contextual, options=ROW, width=0, classes=CLASSES, loop=loops.contextual_diversity,
        peer_work={PLAIN: _divergence_a_pick},
    ),
    DEEPFOOL,
    Float32(
        "facility_location_float32", "facility_location", (Size(200_000, 2000),), TINY, _features, _facility_whole,
        judge=loops.facility_location_tiled, prefix=lambda size: PREFIX if size.n <= SMALL else 3,
        remark="the same as facility_location without tensor cores, to see what they are worth",
    ),
    Case(
        "facility_location", "facility_location",
        (Size(50_000, 500), Size(200_000, 2000), Size(IMAGENET, ONE_PERCENT, 120.0, limit=150.0)), TINY, _features,
        _facility_whole, loop=loops.facility_location, judge=loops.facility_location_tiled,
        prefix=lambda size: PREFIX if size.n <= SMALL else 3 if size.n <= 200_000 else 1,
        peers={"triton-submodular": loops.triton_submodular("FacilityLocation")}, objective=FacilityLocation,
        peer_work={PLAIN: _dense_a_pick}, judged_steps=2,
    ),
)  # fmt: skip

CASES: dict[str, Any] = {case.name: case for case in _ALL}
