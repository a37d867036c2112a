"""The data sets by name, and how a configuration becomes one."""

from __future__ import annotations

import difflib
from pathlib import Path

from fastcore.train.config import DataConfig
from fastcore.train.datasets.augmentation import Augmentation
from fastcore.train.datasets.base import LabelledSet, Splits
from fastcore.train.datasets.cifar import read_cifar10, read_cifar100
from fastcore.train.datasets.custom import call
from fastcore.train.datasets.digits import read_digits
from fastcore.train.datasets.download import download
from fastcore.train.datasets.folders import FolderSet
from fastcore.train.datasets.idx import read_mnist, read_qmnist
from fastcore.train.datasets.imagenet import read_imagenet, read_tiny_imagenet
from fastcore.train.datasets.source import MissingFileError, Source
from fastcore.train.datasets.svhn import read_svhn

_DIGITS = tuple("0123456789")
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_CROP = Augmentation(padding=4)
_CROP_AND_FLIP = Augmentation(padding=4, flip=True)

SOURCES = {
    source.name: source
    for source in (
        Source(
            name="mnist",
            read=read_mnist,
            mean=(0.1307,),
            std=(0.3081,),
            published="http://yann.lecun.com/exdb/mnist/",
            folders=("MNIST/raw", "MNIST", "mnist"),
            augmentation=_CROP,
            class_names=_DIGITS,
            torchvision="MNIST",
        ),
        Source(
            name="qmnist",
            read=read_qmnist,
            mean=(0.1308,),
            std=(0.3088,),
            published="https://github.com/facebookresearch/qmnist",
            folders=("QMNIST/raw", "QMNIST", "qmnist"),
            augmentation=_CROP,
            class_names=_DIGITS,
            torchvision="QMNIST",
            parts=({"what": "train"}, {"what": "test"}),
        ),
        Source(
            name="fashion_mnist",
            read=read_mnist,
            mean=(0.2861,),
            std=(0.3530,),
            published="https://github.com/zalandoresearch/fashion-mnist",
            folders=("FashionMNIST/raw", "FashionMNIST", "fashion_mnist", "fashion-mnist"),
            augmentation=_CROP_AND_FLIP,
            class_names=_CLOTHES,
            torchvision="FashionMNIST",
        ),
        Source(
            name="svhn",
            read=read_svhn,
            mean=(0.4377, 0.4438, 0.4728),
            std=(0.1980, 0.2010, 0.1970),
            published="http://ufldl.stanford.edu/housenumbers/",
            folders=("SVHN", "svhn"),
            augmentation=_CROP,
            class_names=_DIGITS,
            torchvision="SVHN",
            parts=({"split": "train"}, {"split": "test"}),
        ),
        Source(
            name="cifar10",
            read=read_cifar10,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            published="https://www.cs.toronto.edu/~kriz/cifar.html",
            folders=("CIFAR10", "cifar10", "cifar-10"),
            augmentation=_CROP_AND_FLIP,
            torchvision="CIFAR10",
        ),
        Source(
            name="cifar100",
            read=read_cifar100,
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            published="https://www.cs.toronto.edu/~kriz/cifar.html",
            folders=("CIFAR100", "cifar100", "cifar-100"),
            augmentation=_CROP_AND_FLIP,
            torchvision="CIFAR100",
        ),
        Source(
            name="tiny_imagenet",
            read=read_tiny_imagenet,
            mean=(0.4802, 0.4481, 0.3975),
            std=(0.2770, 0.2691, 0.2821),
            published="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            folders=("tiny-imagenet-200", "tiny_imagenet", "tiny-imagenet"),
            augmentation=_CROP_AND_FLIP,
        ),
        Source(
            name="imagenet",
            read=read_imagenet,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            published="https://www.image-net.org/download.php",
            folders=("imagenet", "ImageNet", "ILSVRC2012"),
            in_memory=False,
        ),
        Source(
            name="digits",
            read=read_digits,
            mean=(0.0,),  # both are taken from the images
            std=(1.0,),
            published="scikit-learn",
            augmentation=Augmentation(padding=1),
            class_names=_DIGITS,
        ),
    )
}


def names() -> list[str]:
    """Names of the data sets that are read from their standard files."""
    return list(SOURCES)


def load(config: DataConfig) -> Splits:
    """The data set of a configuration, on the CPU: from standard files, or from a function of the user's.

    Small images come as one tensor of bytes; those of ImageNet stay in their files. A function is called with
    the configuration, or with nothing where it takes nothing; it gives ``Splits``, or a pair (train, test) of
    what ``from_dataset`` takes.

    Raises:
        OSError: for a file that is missing (which, where it was looked for, where it is published) or unreadable.
        ValueError: for an unknown name, for a damaged file, naming it, and for more rows than there are.
        ImportError: where a package that reads the format is missing.
    """
    source = None if ":" in config.name else _source(config.name)
    splits = call(config) if source is None else _read(source, config)
    train = _limited(splits.train, config.rows, "data.rows")
    test = _limited(splits.test, config.test_rows, "data.test_rows")
    if source is not None and source.in_memory:
        train, test = (_in_memory(part, source, config.workers) for part in (train, test))
    for part in (train, test):
        part.workers = config.workers
    return Splits(train, test)


def _in_memory(dataset: LabelledSet, source: Source, workers: int) -> LabelledSet:
    """Image files that fit in memory are read here, after the limit of rows."""
    return dataset.in_memory(source.augmentation, workers) if isinstance(dataset, FolderSet) else dataset


def _source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    close = difflib.get_close_matches(name, SOURCES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(SOURCES)}"
    raise ValueError(f"data.name must be a data set or package.module:function, got {name!r}: {hint}")


def _read(source: Source, config: DataConfig) -> Splits:
    """The splits of a source, whose files are fetched where some are missing and that is allowed."""
    root = Path(config.root).expanduser()
    try:
        return source.read(source, root)
    except MissingFileError as error:
        if source.torchvision is None:
            raise MissingFileError(f"{error}: get it from {source.published}") from None
        if not config.download:
            remedy = f"fetch it with --download (data.download=true) or from {source.published}"
            raise MissingFileError(f"{error}: {remedy}") from None
        missing = error
    try:
        download(source, root)
    except ImportError as error:
        raise MissingFileError(f"{missing}: {error}; or get it from {source.published}") from error
    return source.read(source, root)


def _limited(dataset: LabelledSet, rows: int | None, argument: str) -> LabelledSet:
    if rows is None:
        return dataset
    if rows > len(dataset):
        raise ValueError(f"{argument} must be at most the {len(dataset)} rows of {dataset.name}, got {rows}")
    return dataset.first(rows)
