"""Selection again and again while training: every few epochs the network as it stands chooses the rows anew."""

from fastcore.train.reselection.engine import Reselection, warm_epochs
from fastcore.train.reselection.loader import ReselectingLoader

__all__ = ["ReselectingLoader", "Reselection", "warm_epochs"]
