"""Small data sets in the files that the real ones are published in."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

IDX_CODES = {"uint8": 0x08, "int32": 0x0C, "float32": 0x0D}


def pixels(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Random bytes (n, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def cycling(n: int, classes: int) -> np.ndarray:
    """Labels 0, 1, ..., classes - 1, 0, 1, ..."""
    return np.arange(n) % classes


def idx(array: np.ndarray) -> bytes:
    """An array as the content of an idx file."""
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, IDX_CODES[str(array.dtype)], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path: Path, data: bytes) -> Path:
    """Writes a file with its folders; a path that ends in .gz is gzipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def mnist(folder: Path, train: int = 20, test: int = 10, ending: str = "", side: int = 28) -> None:
    """A data set in files of MNIST's names."""
    for prefix, n, seed in (("train", train, 1), ("t10k", test, 2)):
        write(folder / f"{prefix}-images-idx3-ubyte{ending}", idx(pixels(n, side, side, seed=seed)))
        write(folder / f"{prefix}-labels-idx1-ubyte{ending}", idx(cycling(n, 10).astype(np.uint8)))


def qmnist(folder: Path, n: int = 20) -> None:
    """QMNIST, with the eight columns of its labels."""
    for part in ("train", "test"):
        columns = np.full((n, 8), 77, np.int32)
        columns[:, 0] = cycling(n, 10)
        write(folder / f"qmnist-{part}-images-idx3-ubyte.gz", idx(pixels(n, 28, 28)))
        write(folder / f"qmnist-{part}-labels-idx2-int.gz", idx(columns))


def python2_pickle(images: np.ndarray, **lists: list[Any]) -> bytes:
    """The pickle of Python 2 that CIFAR is published in: {"data": bytes (n, d), name: list, ...}."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    raw = images.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + number(0)
        + b"\x85"
        + text("b")
        + b"\x87R"
        b"(" + number(1) + number(images.shape[0]) + number(images.shape[1]) + b"\x86"
        b"cnumpy\ndtype\n" + text("u1") + number(0) + number(1) + b"\x87R"
        b"(" + number(3) + text("|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
        b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )
    held = text("data") + array
    for name, values in lists.items():
        items = (text(value) if isinstance(value, str) else number(value) for value in values)
        held += text(name) + b"](" + b"".join(items) + b"e"
    return b"\x80\x02}(" + held + b"u."


def python3_pickle(images: np.ndarray, protocol: int, **lists: list[Any]) -> bytes:
    """The same as Python writes it now."""
    return pickle.dumps({"data": images, **lists}, protocol=protocol)


def cifar10(folder: Path, n: int = 10) -> None:
    """CIFAR-10 with n images in each of its six files."""
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        labels = cycling(n, 10).tolist()
        write(folder / name, python2_pickle(pixels(n, 3072, seed=seed), labels=labels))
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    write(folder / "batches.meta", pickle.dumps({"label_names": names}, protocol=2))


def cifar100(folder: Path, n: int = 200) -> None:
    """CIFAR-100 with n images in each of its two files."""
    for seed, name in enumerate(("train", "test")):
        coarse, fine = cycling(n, 20).tolist(), cycling(n, 100).tolist()
        data = python2_pickle(pixels(n, 3072, seed=seed), coarse_labels=coarse, fine_labels=fine)
        write(folder / name, data)
    meta = {"fine_label_names": [f"fine{i}" for i in range(100)], "coarse_label_names": ["c"] * 20}
    write(folder / "meta", pickle.dumps(meta, protocol=2))


def archive(folder: Path, path: Path) -> None:
    """A folder as a .tar.gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)


def svhn(folder: Path, n: int = 20) -> None:
    """SVHN: labels 1 to 10, of which 10 is the digit 0."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    for seed, part in enumerate(("train", "test")):
        labels = (cycling(n, 10) + 1).astype(np.uint8)[:, None]
        savemat(folder / f"{part}_32x32.mat", {"X": pixels(32, 32, 3, n, seed=seed), "y": labels})


def image(array: np.ndarray, kind: str = "JPEG") -> bytes:
    """A picture (h, w, 3) or (h, w) as the content of a file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def flat(level: int, height: int = 64, width: int = 64, channels: int = 3) -> np.ndarray:
    """A picture of one level, which JPEG keeps."""
    return np.full((height, width, channels) if channels == 3 else (height, width), level, np.uint8)


def tiny_imagenet(folder: Path, wnids: tuple[str, ...] = ("n02", "n01", "n03"), each: int = 4) -> None:
    """Tiny-ImageNet: image i of class c (in the order of wnids.txt) has level 50 c + i; the first are grey."""
    words, annotations = [], []
    for c, wnid in enumerate(wnids):
        words.append(f"{wnid}\tname of {wnid}, and another")
        for i in range(each):
            picture = image(flat(50 * c + i, channels=1 if i == 0 else 3))
            write(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", picture)
        write(folder / "train" / wnid / f"{wnid}_boxes.txt", b"")
        write(folder / "val" / "images" / f"val_{c}.JPEG", image(flat(50 * c + 40)))
        annotations.append(f"val_{c}.JPEG\t{wnid}\t0\t0\t62\t62")
    write(folder / "wnids.txt", "\n".join(wnids).encode())
    write(folder / "words.txt", "\n".join(words).encode())
    write(folder / "val" / "val_annotations.txt", "\n".join(annotations).encode())


def imagenet(folder: Path, wnids: tuple[str, ...] = ("n01", "n02"), each: int = 3) -> None:
    """Class folders of pictures of several sizes; image i of class c has level 100 c + i."""
    for part in ("train", "val"):
        for c, wnid in enumerate(wnids):
            for i in range(each):
                picture = flat(100 * c + i, 300 + 20 * i, 280)
                write(folder / part / wnid / f"{wnid}_{i}.JPEG", image(picture))
