"""Make, once, a small trained network and the signals of its last layer that the benchmarks run on.

A ResNet-18 for small images, trained for a short time on Fashion-MNIST: three to six minutes on two cores. Its
embeddings h, logits and errors p - y of 5 000 training images and of 1 000 test images are kept beside the
weights. The training is short on purpose: it makes gradients like those of a real run, not a good classifier.

    python -m benchmarks.networks                # makes what is missing, prints where it is

Images: see `benchmarks/features.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.features import (
    IMAGES,
    LABELS,
    MissingError,
    cache_folder,
    image_folder,
    read_idx,
    write_whole,
)

TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
MEAN, DEVIATION = 0.2860, 0.3530  # of the training pixels, in [0, 1]
ROWS, VALIDATION = 5000, 1000
TRAINED, EPOCHS, BATCH, RATE = 6000, 2, 64, 0.05
QUANTITIES = ("delta", "h", "logits", "labels")
INSTALL = "make it: python -m benchmarks.networks"


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width != out:
            self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for small images: a 3 x 3 stem without pooling, 2-2-2-2 blocks, 512 features, linear `fc`.

    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.
    """

    def __init__(self, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        blocks: list[nn.Module] = []
        width = 64
        for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [BasicBlock(width, out, stride), BasicBlock(out, out, 1)]
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(width, classes)

    def embed(self, x: Tensor) -> Tensor:
        """The input of `fc`, (n, 512)."""
        return self.blocks(functional.relu(self.bn1(self.conv1(x)))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.embed(x))


def pictures(train: bool = True, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """The first images of Fashion-MNIST, (n, 1, 28, 28) float32 of mean 0 and deviation 1, and their labels."""
    folder = image_folder(None)
    images = read_idx(folder / (IMAGES if train else TEST_IMAGES))[:rows]
    labels = read_idx(folder / (LABELS if train else TEST_LABELS))[:rows]
    x = torch.from_numpy(images.astype(np.float32) / 255)[:, None]
    return (x - MEAN) / DEVIATION, torch.from_numpy(labels.astype(np.int64))


def batches(rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in random order; a last batch that is not full is left out."""
    order = torch.randperm(rows, generator=generator)
    return iter(order[: rows - rows % size].split(size))


def train(network: nn.Module, x: Tensor, y: Tensor, epochs: int = EPOCHS, seed: int = 0) -> None:
    """SGD with momentum and one cycle of the learning rate; says every so often where it is."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    network.to(memory_format=torch.channels_last).train()
    done, begin = 0, time.perf_counter()
    for _ in range(epochs):
        for rows in batches(len(x), BATCH, generator):
            flipped = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
            images = torch.where(flipped, x[rows].flip(3), x[rows])
            images = images.contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(network(images), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done % 20 == 0:
                seconds = time.perf_counter() - begin
                print(
                    f"step {done} of {steps}, loss {loss:.3f}, {seconds:.0f} s", file=sys.stderr, flush=True
                )


@torch.inference_mode()
def last_layer(network: ResNet18, x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    """h (n, 512), logits (n, C), delta = softmax(logits) - one-hot (n, C) in float32, and the labels."""
    network.eval()
    h = torch.cat([network.embed(part) for part in x.split(250)])
    logits = network.fc(h)
    delta = logits.double().softmax(1).scatter_(1, y[:, None], 0)
    delta.scatter_(1, y[:, None], -delta.sum(1, keepdim=True))  # p - 1 without cancellation
    arrays = {"delta": delta.float(), "h": h, "logits": logits, "labels": y}
    return {name: array.numpy() for name, array in arrays.items()}


def load_network(in_channels: int = 1, classes: int = 10) -> ResNet18:
    """The trained network, in eval mode; another number of classes gets a fresh random head, the same always."""
    network = ResNet18(in_channels)
    try:
        state = torch.load(cache_folder() / "resnet18" / "weights.pt", weights_only=True)
    except FileNotFoundError as error:
        raise MissingError(f"no network in {cache_folder() / 'resnet18'}; {INSTALL}") from error
    network.load_state_dict(state)
    if classes != 10:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network.fc = nn.Linear(network.fc.in_features, classes)
    return network.eval()


def load_signals(validation: bool = False) -> dict[str, np.ndarray]:
    """delta (n, 10), h (n, 512), logits (n, 10), labels (n,) of 5 000 training or 1 000 test images."""
    folder = cache_folder() / "resnet18" / ("validation" if validation else "train")
    try:
        return {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in QUANTITIES}
    except FileNotFoundError as error:
        raise MissingError(f"no signals in {folder}; {INSTALL}") from error


def make() -> Path:
    """Train the network and compute its signals, where they are missing; their folder."""
    folder = cache_folder() / "resnet18"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "weights.pt").exists():
        torch.manual_seed(0)
        network = ResNet18()
        train(network, *pictures(rows=TRAINED))
        torch.save(network.state_dict(), folder / "weights.pt.part")
        os.replace(folder / "weights.pt.part", folder / "weights.pt")
    network = load_network()
    facts = {"trained_rows": TRAINED, "epochs": EPOCHS}
    for name, is_train, rows in (("train", True, ROWS), ("validation", False, VALIDATION)):
        (folder / name).mkdir(exist_ok=True)
        if not all((folder / name / f"{quantity}.npy").exists() for quantity in QUANTITIES):
            arrays = last_layer(network, *pictures(is_train, rows))
            for quantity, array in arrays.items():
                write_whole(folder / name / f"{quantity}.npy", array)
        arrays = load_signals(not is_train)
        facts[f"accuracy_{name}"] = float((arrays["logits"].argmax(1) == arrays["labels"]).mean())
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    return folder


def main() -> int:
    """Command line; exit code 1 with one line when something is not installed."""
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    try:
        folder = make()
    except MissingError as error:
        print(f"networks: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
