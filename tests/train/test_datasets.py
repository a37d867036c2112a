"""Data sets in memory: what they offer, and the files of the MNIST family."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch

import fastcore
from fastcore.train.config import DataConfig
from fastcore.train.datasets import Augmentation, ImageSet, Splits, load, names
from tests.train import files


def digits(**settings) -> Splits:
    return load(DataConfig(name="digits", **settings))


def test_names_are_those_of_the_protocol() -> None:
    assert set(names()) == set(
        "mnist qmnist fashion_mnist svhn cifar10 cifar100 tiny_imagenet imagenet digits".split()
    )
    with pytest.raises(ValueError, match="data.name must be .* got 'cifra10': did you mean 'cifar10'?"):
        load(DataConfig(name="cifra10"))


def test_digits_are_split_by_class_the_same_each_time() -> None:
    data, again = digits(), digits()
    assert (len(data.train), len(data.test)) == (1198, 599)
    assert data.train.shape == data.test.shape == (1, 8, 8) and data.train.classes == 10
    share = data.test.labels.bincount() / (data.test.labels.bincount() + data.train.labels.bincount())
    assert ((share - 1 / 3).abs() < 0.01).all()
    assert data.train.fingerprint == again.train.fingerprint != data.test.fingerprint
    images = torch.stack([data.train[row][0] for row in range(len(data.train))])
    assert images.mean().abs() < 1e-5 and abs(images.std() - 1) < 1e-3
    assert data.train.images.max() == 255 and len(data.train.images.unique()) == 17


def test_an_item_is_the_normalised_image_and_its_label() -> None:
    pixels = files.pixels(4, 3, 5, 6)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    data = ImageSet(pixels, [0, 2, 1, 2], mean=mean, std=std, augmentation=Augmentation(4, True))
    assert (len(data), data.classes, data.shape) == (4, 3, (3, 5, 6))
    for row in range(4):
        image, label = data[row]
        expected = (pixels[row] / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
        assert image.dtype == torch.float32 and np.allclose(image.numpy(), expected, atol=1e-6)
        assert label == [0, 2, 1, 2][row] and isinstance(label, int)
        assert np.array_equal(data.picture(row), pixels[row].transpose(1, 2, 0))
    assert torch.equal(data[-1][0], data[3][0]) and len(list(data)) == 4  # a loop over it ends
    grey = ImageSet(pixels[:, 0], [0, 0, 1, 1])
    assert grey.shape == (1, 5, 6) and np.array_equal(grey.picture(2), pixels[2, 0])


def test_sequential_gives_the_items_in_whole_batches_and_draws_no_random_number() -> None:
    data = digits(rows=50).train
    state = torch.get_rng_state()
    batches = list(data.sequential(16))
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 2]
    images, labels = (torch.cat(parts) for parts in zip(*batches))
    assert torch.equal(labels, data.labels)
    assert torch.equal(images, torch.stack([data[row][0] for row in range(50)]))


def test_signals_read_a_data_set_and_its_loader_alike() -> None:
    data = digits(rows=30).train
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.Linear(5, 10))
    expected = model(torch.stack([data[row][0] for row in range(30)])).detach()
    for form in (data, data.sequential(7)):
        signals = fastcore.signals.compute(model, form, batch_size=8, progress=False)
        assert torch.equal(signals.labels, data.labels)
        assert torch.allclose(signals.logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "rows", "kept"),
    [
        ([5, 5, 5], 7, [3, 2, 2]),  # equal shares, the spare row to the first class
        ([9, 2, 9], 8, [3, 2, 3]),
        ([9, 1, 3], 11, [7, 1, 3]),  # small classes give all, the others the rest
        ([4, 0, 4], 3, [2, 0, 1]),
        ([2, 3, 4], 9, [2, 3, 4]),
    ],
)
def test_first_rows_of_every_class_in_equal_shares(sizes, rows, kept) -> None:
    labels = torch.repeat_interleave(torch.tensor(sizes))[torch.randperm(sum(sizes))]
    data = ImageSet(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1), labels, classes=3)
    some = data.first(rows)
    assert some.labels.bincount(minlength=3).tolist() == kept
    places = some.images.flatten().long()
    assert torch.equal(places.sort().values, places) and torch.equal(labels[places], some.labels)
    for label, count in enumerate(kept):
        assert torch.equal(places[some.labels == label], (labels == label).nonzero().flatten()[:count])
    with pytest.raises(ValueError, match=f"rows must be at most the {sum(sizes)} rows"):
        data.first(sum(sizes) + 1)


def test_a_fingerprint_tells_contents_apart_and_survives_a_move() -> None:
    pixels, labels = files.pixels(6, 1, 4, 4), [0, 1, 2, 0, 1, 2]
    base = {"mean": (0.5,), "augmentation": Augmentation(4, False)}
    data = ImageSet(pixels, labels, **base)
    touched = pixels.copy()
    touched[5, 0, 3, 3] ^= 1
    others = [
        ImageSet(touched, labels, **base),
        ImageSet(pixels, labels[::-1], **base),
        ImageSet(pixels, labels, **{**base, "mean": (0.4,)}),
        ImageSet(pixels, labels, **{**base, "augmentation": Augmentation(4, True)}),
        ImageSet(pixels.reshape(6, 1, 2, 8), labels, **base),
        ImageSet(pixels, labels, classes=4, **base),
        data.first(3),
    ]
    assert len({each.fingerprint for each in (data, *others)}) == len(others) + 1
    assert (
        ImageSet(torch.from_numpy(pixels.copy()), labels, name="else", **base).fingerprint == data.fingerprint
    )
    assert data.to("meta").fingerprint == data.fingerprint and data.to("cpu") is data


@pytest.mark.parametrize(
    ("images", "labels", "known", "message"),
    [
        (np.zeros((2, 3, 3), np.float32), [0, 1], {}, "images of x must be uint8, got torch.float32"),
        (np.zeros((2, 3), np.uint8), [0, 1], {}, r"must have shape \(n, c, h, w\), got \(2, 3\)"),
        (np.zeros((2, 3, 3), np.uint8), [0], {}, "as many labels as images, got 1 and 2"),
        (np.zeros((2, 3, 3), np.uint8), [0, 3], {"classes": 3}, "must be in 0 .. 2, got 3 at row 1"),
        (np.zeros((2, 3, 3), np.uint8), [0, -1], {}, "must be in 0 .. 0, got -1 at row 1"),
        (np.zeros((0, 3, 3), np.uint8), [], {}, "x must not be empty"),
        (
            np.zeros((2, 3, 3), np.uint8),
            [0, 1],
            {"class_names": ["a"]},
            "must be 2 names, one a class, got 1",
        ),
        (np.zeros((2, 3, 3), np.uint8), [0, 1], {"std": (0.0,)}, r"std must be in \(0, inf\), got 0.0"),
        (np.zeros((2, 3, 3), np.uint8), [0, 1], {"mean": (0.1, 0.2)}, "mean must have 1 or 1 numbers"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, labels, known, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ImageSet(images, labels, name="x", **known)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw")])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_files_are_found_in_the_root_and_where_torchvision_puts_them(
    tmp_path, name, folder, ending
) -> None:
    decoy = {"mnist": "FashionMNIST/raw", "fashion_mnist": "MNIST/raw"}[name]
    files.mnist(tmp_path / decoy, train=30)
    for place in (tmp_path / folder, tmp_path / "plain"):
        files.mnist(place, train=20, test=10, ending=ending)
    for root in (tmp_path, tmp_path / "plain"):
        data = load(DataConfig(name=name, root=str(root)))
        assert (len(data.train), len(data.test), data.train.name) == (20, 10, name)
        assert np.array_equal(data.train.images.numpy()[:, 0], files.pixels(20, 28, 28, seed=1))
        assert np.array_equal(data.test.images.numpy()[:, 0], files.pixels(10, 28, 28, seed=2))
        assert data.train.labels.tolist() == files.cycling(20, 10).tolist()
        assert data.train.augmentation.flip == (name == "fashion_mnist")
        assert data.train.class_names[9] == {"mnist": "9", "fashion_mnist": "Ankle boot"}[name]


def test_the_class_of_qmnist_is_the_first_column_of_its_labels(tmp_path) -> None:
    files.qmnist(tmp_path / "QMNIST" / "raw")
    data = load(DataConfig(name="qmnist", root=str(tmp_path)))
    assert data.test.labels.tolist() == files.cycling(20, 10).tolist() and len(data.test) == 20
    assert (data.train.mean, data.train.std) == ((0.1308,), (0.3088,))


def test_limits_of_rows(tmp_path) -> None:
    files.mnist(tmp_path, train=20, test=10)
    data = load(DataConfig(name="mnist", root=str(tmp_path), rows=12, test_rows=5))
    assert data.train.labels.bincount().tolist() == [2, 2, *[1] * 8]
    assert data.test.labels.tolist() == [0, 1, 2, 3, 4] and data.test.classes == 10
    for setting, most in (("rows", 20), ("test_rows", 10)):
        with pytest.raises(
            ValueError, match=f"data.{setting} must be at most the {most} rows of mnist, got 99"
        ):
            load(DataConfig(name="mnist", root=str(tmp_path), **{setting: 99}))


def test_a_missing_file_is_named_with_the_places_and_the_remedy(tmp_path) -> None:
    files.mnist(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load(DataConfig(name="mnist", root=str(tmp_path)))
    message = str(caught.value)
    for part in ("t10k-labels-idx1-ubyte", str(tmp_path / "MNIST/raw"), "--download", "data.download=true"):
        assert part in message
    assert "\n" not in message


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (IMAGES, lambda data: b"\0\1" + data[2:], "is no idx file: it begins with 00 01 08 03"),
        (IMAGES, lambda data: b"", "is no idx file: it begins with nothing"),
        (IMAGES, lambda data: data[:10], "is cut short: its header needs 16 bytes, got 10"),
        (IMAGES, lambda data: data[:-1], r"its header \(20, 28, 28\) makes 15696 bytes, got 15695"),
        (IMAGES, lambda data: data + b"\0", "makes 15696 bytes, got 15697"),
        (IMAGES, lambda data: gzip.compress(data)[:-50], "is a damaged gzip file"),
        (IMAGES, lambda data: data[:4] + b"\xff" + data[5:], "is damaged: its header says"),
        (IMAGES, lambda data: files.idx(np.zeros(20, np.uint8)), r"must hold images \(n, h, w\) of bytes"),
        (LABELS, lambda data: files.idx(np.zeros(19, np.uint8)), "has 20 images, but .* has 19 labels"),
        (
            LABELS,
            lambda data: files.idx(np.full(20, 10, np.uint8)),
            "has the label 10 at row 0, classes are 0 .. 9",
        ),
        (LABELS, lambda data: files.idx(np.zeros(20, np.float32)), "must hold whole numbers"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, name, damage, message) -> None:
    files.mnist(tmp_path)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        load(DataConfig(name="mnist", root=str(tmp_path)))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_both_splits_must_fit_each_other() -> None:
    small, large = (ImageSet(files.pixels(2, 1, side, side), [0, 1]) for side in (4, 5))
    with pytest.raises(ValueError, match=r"must have the same shape, got \(1, 4, 4\) and \(1, 5, 5\)"):
        Splits(small, large)
