"""Networks that classify images: those of the DeepCore paper at every size it uses, and your own."""

from __future__ import annotations

from fastcore.train.networks.blocks import Network
from fastcore.train.networks.building import build, names

__all__ = ["Network", "build", "names"]
