"""How the pictures look: colours, markers, and figures as bytes."""

from __future__ import annotations

import io
from typing import Any

INK, PALE, FAINT = "#333333", "#767676", "#e6e6e6"

# The families of the DeepCore paper, each with a colour of Okabe and Ito that colour-blind readers tell apart,
# and a marker that tells them apart in print.
_FAMILIES = {
    "geometry": ("#009E73", "^", "contextual_diversity herding k_center"),
    "uncertainty": ("#D55E00", "s", "least_confidence entropy margin"),
    "error": ("#CC79A7", "D", "forgetting grand el2n"),
    "decision boundary": ("#56B4E9", "v", "cal deepfool"),
    "gradient matching": ("#E69F00", "P", "craig gradmatch"),
    "bilevel": ("#8C6D31", "X", "glister"),
    "submodular": ("#0072B2", "o", "facility_location graph_cut log_det"),
}
_FAMILY_OF = {method: family for family, (_, _, methods) in _FAMILIES.items() for method in methods.split()}


def family(method: str) -> str:
    """What kind of method it is; empty for one that the paper does not sort."""
    return _FAMILY_OF.get(method, "")


def look(method: str) -> tuple[str, str]:
    """Colour and marker of a method."""
    return _FAMILIES[_FAMILY_OF[method]][:2] if method in _FAMILY_OF else (INK, "o")


def pyplot() -> Any:
    """Matplotlib's pyplot on a backend that needs no display. Raises ImportError with what to install."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "fastcore-coreset[train]"') from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def drawn(figure: Any, kinds: tuple[str, ...]) -> dict[str, bytes]:
    """A figure as files of some kinds, the same bytes each time: "png", "svg" or "pdf"."""
    plt = pyplot()
    # No dates and no random names, so that a picture only changes when what it shows does.
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    files = {}
    for kind in kinds:
        image = io.BytesIO()
        with plt.rc_context({"svg.hashsalt": "fastcore"}):
            figure.savefig(image, format=kind, dpi=150, metadata=metadata[kind])
        files[kind] = image.getvalue()
    plt.close(figure)
    return files


def bare(axes: Any) -> None:
    """Takes from axes what carries no information."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(color=PALE, labelcolor=INK, labelsize=8)
    axes.set_axisbelow(True)


def title(figure: Any, text: str) -> None:
    """What a figure shows, above it on the left; small where it is long."""
    width, height = figure.get_size_inches()
    size = min(11.0, max(6.0, 11 * (width - 0.2) / (0.082 * len(text))))
    figure.text(0.1 / width, 1 - 0.1 / height, text, ha="left", va="top", fontsize=size, color=INK)
