"""Synthetic inputs, made on the device from a seed: clustered rows like the pooled features of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import fastcore

TILE = 1 << 16  # rows made at once
NOISE = 0.7


def generator(device: torch.device, seed: int) -> torch.Generator:
    """A seeded source of random numbers on the device. Another kind of device gives other numbers."""
    return torch.Generator(device).manual_seed(seed)


def labels(n: int, classes: int, device: torch.device) -> Tensor:
    """(n,) class of every row; sizes differ by one at most."""
    return torch.arange(n, device=device) % classes


def features(n: int, width: int, classes: int, device: torch.device, seed: int = 0) -> Tensor:
    """(n, width) float32: relu(centre of the class + noise), so that no number is negative."""
    source = generator(device, seed)
    centres = torch.randn(classes, width, generator=source, device=device)
    out = torch.empty(n, width, device=device)
    for start in range(0, n, TILE):
        part = out[start : start + TILE].normal_(std=NOISE, generator=source)
        part += centres[torch.arange(start, start + len(part), device=device) % classes]
        part.clamp_(min=0)
    return out


def logits(n: int, classes: int, device: torch.device, seed: int = 1) -> Tensor:
    """(n, classes) float32: noise, and 6 more for the row's own class."""
    source = generator(device, seed)
    out = torch.empty(n, classes, device=device).normal_(std=1.5, generator=source)
    out[torch.arange(n, device=device), labels(n, classes, device)] += 6
    return out


def probabilities(n: int, classes: int, device: torch.device) -> Tensor:
    """(n, classes) float32: softmax of such logits."""
    out = logits(n, classes, device)
    for start in range(0, n, TILE):
        out[start : start + TILE] = out[start : start + TILE].softmax(1)
    return out


def gradients(
    n: int, present: int, classes: int, width: int, device: torch.device, seed: int = 0
) -> fastcore.LastLayerGradients:
    """Last-layer gradients of a network of `classes` classes, of rows of the first `present` of them."""
    source = generator(device, seed + 1)
    delta = torch.empty(n, classes, device=device)
    own = labels(n, present, device)
    for start in range(0, n, TILE):
        part = delta[start : start + TILE].normal_(std=1.5, generator=source)
        rows = torch.arange(len(part), device=device)
        mine = own[start : start + TILE]
        part[rows, mine] += 6
        part.copy_(part.softmax(1))
        part[rows, mine] -= 1
    return fastcore.LastLayerGradients(delta, features(n, width, present, device, seed))


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        changed = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut = nn.Identity() if same else nn.Sequential(changed, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.branch(x) + self.shortcut(x))


def resnet18(classes: int, device: torch.device, scale: int = 1) -> nn.Module:
    """A ResNet-18 for images of 224 x 224 with random weights, in eval mode; channels divided by `scale`."""
    widths = [64 // scale, 128 // scale, 256 // scale, 512 // scale]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        stem = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        layers = [stem, nn.BatchNorm2d(widths[0]), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = widths[0]
        for stage, outputs in enumerate(widths):
            layers += [_Residual(inputs, outputs, 2 if stage else 1), _Residual(outputs, outputs, 1)]
            inputs = outputs
        head = nn.Linear(inputs, classes)
        nn.init.normal_(head.weight, std=0.05)
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return model.to(device).eval()


def images(n: int, side: int, device: torch.device, seed: int = 2) -> Tensor:
    """(n, 3, side, side) float32 noise of standard deviation 1."""
    return torch.randn(n, 3, side, side, generator=generator(device, seed), device=device)
