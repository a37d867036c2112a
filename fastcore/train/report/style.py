"""How the pictures look: colours, markers, titles."""

from __future__ import annotations

import textwrap
from typing import Any

from fastcore.figures import INK, PALE

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


def bare(axes: Any) -> None:
    """Takes from axes what carries no information."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(color=PALE, labelcolor=INK, labelsize=8)
    axes.set_axisbelow(True)


def title(figure: Any, text: str) -> None:
    """What a figure shows, above it on the left; small where it is long, and then in two lines."""
    width, height = figure.get_size_inches()
    room = (width - 0.2) / 0.082 * 11  # points of a line times its characters
    wrapped = textwrap.fill(text, len(text) // 2 + 12) if len(text) > room / 7.5 else text
    size = min(11.0 if wrapped == text else 8.5, room / max(map(len, wrapped.splitlines())))
    figure.text(0.1 / width, 1 - 0.1 / height, wrapped, ha="left", va="top", fontsize=size, color=INK)
