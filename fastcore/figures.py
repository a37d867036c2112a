"""Pictures as files: matplotlib without a display, and the ink that all of them share."""

from __future__ import annotations

import io
from typing import Any

INK, PALE, FAINT = "#333333", "#767676", "#e6e6e6"


def pyplot() -> Any:
    """Matplotlib's pyplot on a backend that needs no display. Raises ImportError with what to install."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install matplotlib") from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def drawn(figure: Any, kinds: tuple[str, ...] = ("png",)) -> dict[str, bytes]:
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
