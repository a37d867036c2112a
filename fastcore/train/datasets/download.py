"""Files of data sets fetched by torchvision, which knows where they are and what they should hold."""

from __future__ import annotations

import importlib
from pathlib import Path

from fastcore.train.datasets.source import Source


def download(source: Source, root: Path) -> None:
    """Puts the files of a data set below ``root``, where torchvision puts them.

    Raises ImportError where torchvision is missing, OSError where it cannot fetch it.
    """
    assert source.torchvision is not None
    try:
        module = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a build for another torch
        raise ImportError(f"to download it torchvision is needed ({error})") from error
    for part in source.parts:
        try:
            getattr(module, source.torchvision)(str(root), download=True, **part)
        except Exception as error:  # no network, no space, no permission, a checksum that differs
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise OSError(f"cannot download {source.name} to {root}: {reason}") from error
