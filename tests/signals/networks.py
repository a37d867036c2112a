"""Small networks and data sets for the tests of signals."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

CLASSES = 5


class Small(nn.Module):
    """Convolution, BatchNorm and dropout before two linear layers; in training all of them would show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.hidden = nn.Linear(4 * 16, 12)
        self.fc = nn.Linear(12, CLASSES)

    def embed(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x))).flatten(1)
        return torch.relu(self.hidden(self.drop(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.embed(x))


def small() -> Small:
    """A network with BatchNorm statistics that differ from those of any batch, in training mode."""
    torch.manual_seed(1)
    model = Small()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2.0)
    return model.train()


class Wrap(nn.Module):
    """The small network with something done to its output."""

    def __init__(self, change, inner=None) -> None:
        super().__init__()
        self.inner = small() if inner is None else inner
        self.change = change

    def forward(self, x):
        return self.change(self.inner(x))


class Tokens(nn.Module):
    """A linear layer that runs on tokens (b, tokens, width), pooled or not."""

    def __init__(self, pool):
        super().__init__()
        self.fc, self.pool = nn.Linear(6, 4), pool

    def forward(self, x):
        z = self.fc(x.squeeze(1))
        return z.mean(1) if self.pool else z


def data(n: int = 37) -> tuple[Tensor, Tensor]:
    """Inputs (n, 1, 6, 6) and labels (n,)."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(n, 1, 6, 6, generator=generator)
    return x, torch.randint(0, CLASSES, (n,), generator=generator)


class Items(Dataset):
    """A data set that makes each item with a function of x, y and the row."""

    def __init__(self, make, n: int = 37) -> None:
        self.x, self.y = data(n)
        self.make = make

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int):
        return self.make(self.x[row], int(self.y[row]), row)
