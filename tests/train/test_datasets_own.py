"""Data sets of the user's own, functions that make them, and downloads."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from fastcore.train.config import DataConfig
from fastcore.train.datasets import (
    Augmentation,
    ImageSet,
    ItemSet,
    Splits,
    TrainingBatches,
    from_dataset,
    load,
)
from tests.train import files

PIXELS = files.pixels(12, 8, 6, 3)  # (n, h, w, c)
LABELS = files.cycling(12, 3)
CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


def picture(row: int):
    from PIL import Image

    return Image.fromarray(PIXELS[row])


class Own(Dataset):
    """Items of a kind, counted as they are read."""

    def __init__(self, make=picture, n: int = 12) -> None:
        self.make, self.n, self.reads = make, n, 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int):
        self.reads += 1
        return self.make(row), int(LABELS[row])


@pytest.mark.parametrize(
    "make", [picture, lambda row: PIXELS[row], lambda row: torch.from_numpy(PIXELS[row]).permute(2, 0, 1)]
)
def test_bytes_of_any_kind_are_taken_into_memory(make) -> None:
    data = from_dataset(Own(make), Subset(Own(make), [3, 1]), augmentation=Augmentation(1, True), name="own")
    assert isinstance(data.train, ImageSet) and data.train.name == "own"
    assert torch.equal(data.train.images, CHANNELS_FIRST) and torch.equal(
        data.test.images, CHANNELS_FIRST[[3, 1]]
    )
    assert data.test.labels.tolist() == [0, 1] and data.test.classes == data.train.classes == 3
    values = CHANNELS_FIRST.double() / 255
    assert data.test.mean == pytest.approx(
        values.mean((0, 2, 3)).tolist(), rel=1e-6
    )  # of the training images
    assert data.train.std == pytest.approx(values.std((0, 2, 3), unbiased=False).tolist(), rel=1e-6)


def test_bytes_that_stay_where_they_are_give_the_same_images() -> None:
    known = {"mean": (0.4, 0.5, 0.6), "std": (0.2,) * 3}
    ours, theirs = (from_dataset(Own(), Own(), in_memory=each, **known).train for each in (False, True))
    assert isinstance(ours, ItemSet) and isinstance(theirs, ImageSet)
    for (a, _), (b, _) in zip(ours, theirs):
        assert torch.equal(a, b)
    assert np.array_equal(ours.picture(5), PIXELS[5])
    assert ours.first(4).labels.tolist() == [0, 1, 2, 0] and np.array_equal(
        ours.first(4).picture(3), PIXELS[3]
    )
    plain = [batch.images for batch in TrainingBatches(ours, batch_size=4).epoch(0)]
    assert torch.equal(
        torch.cat(plain), torch.cat([b.images for b in TrainingBatches(theirs, batch_size=4).epoch(0)])
    )


def test_float_images_and_other_tensors_are_taken_as_they_are() -> None:
    rows = torch.randn(12, 5, dtype=torch.float64)
    data = from_dataset((rows, torch.from_numpy(LABELS)), (rows.numpy()[:4], LABELS[:4]))
    assert isinstance(data.train, ItemSet) and data.train.shape == (5,)
    images, labels = next(iter(data.train.sequential(12)))
    assert torch.equal(images, rows.float()) and labels.tolist() == LABELS.tolist()
    with pytest.raises(ValueError, match="only images of 1 or 3 channels have a picture"):
        data.train.picture(0)
    ramp = (torch.linspace(-2, 3, 16).view(1, 1, 4, 4), torch.tensor([0]))
    shown = from_dataset(ramp, ramp)
    shown = shown.train.picture(0)
    assert shown.dtype == np.uint8 and (shown.min(), shown.max()) == (0, 255)


def test_labels_come_from_the_targets_only_where_these_are_the_labels_of_the_items() -> None:
    honest, lying = Own(), Own()
    honest.targets, lying.targets = LABELS.tolist(), (LABELS + 1).tolist()
    for own, most in ((honest, 5), (lying, 20)):
        data = from_dataset(own, Own(n=2), in_memory=False)
        assert data.train.labels.tolist() == LABELS.tolist()
        assert own.reads <= most
    assert lying.reads > 12


def test_a_function_augments_only_in_training_and_as_the_epoch_says() -> None:
    def augment(image: torch.Tensor) -> torch.Tensor:
        return image.float() + torch.rand(1) + np.random.rand()

    data = from_dataset(Own(), Own(), augmentation=augment).train
    assert isinstance(data, ItemSet)  # one tensor of bytes could not be augmented by it
    assert torch.allclose(data[3][0] * 255, CHANNELS_FIRST[3].float())
    first, second, again = (
        [b.images for b in TrainingBatches(data, batch_size=12).epoch(e)] for e in (0, 1, 0)
    )
    assert torch.equal(first[0], again[0])
    added = torch.sort(first[0].mean((1, 2, 3))).values - torch.sort(second[0].mean((1, 2, 3))).values
    assert (added != 0).all()
    crops = from_dataset(Own(), Own(), augmentation=Augmentation(2, False), in_memory=False).train
    assert (torch.cat([b.images for b in TrainingBatches(crops, batch_size=12).epoch(0)])[:, :, 0] == 0).any()


def test_a_random_data_set_keeps_its_fingerprint() -> None:
    def noise(row: int) -> torch.Tensor:
        return torch.rand(3, 4, 4) + row

    first, second = (from_dataset(Own(noise), Own(noise)).train for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != from_dataset(Own(lambda row: noise(row) + 1), Own(noise)).train.fingerprint


def test_hugging_face_data_sets() -> None:
    hf = pytest.importorskip("datasets")
    features = hf.Features({"img": hf.Image(), "fine_label": hf.ClassLabel(names=["a", "b", "c"])})
    rows = {"img": [picture(row) for row in range(12)], "fine_label": LABELS.tolist()}
    whole = hf.Dataset.from_dict(rows, features=features)
    for form in (whole, whole.with_format("torch")):
        data = from_dataset(form, whole.select([5, 0]), keys=("img", "fine_label"))
        assert torch.equal(data.train.images, CHANNELS_FIRST) and data.test.labels.tolist() == [2, 0]
        assert data.train.class_names == ("a", "b", "c")
    usual = from_dataset(
        whole.rename_column("fine_label", "label"), whole.rename_column("fine_label", "label")
    )
    assert usual.train.labels.tolist() == LABELS.tolist()
    with pytest.raises(ValueError, match="keys must be among 'img', 'fine_label', got 'label'"):
        from_dataset(whole, whole, keys=("img", "label"))
    with pytest.raises(ValueError, match="must have a label in every item, row 0 has none"):
        from_dataset(whole, whole)


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3), 0


@pytest.mark.parametrize(
    ("train", "known", "message"),
    [
        (Stream(), {}, "train must be a data set with len and .row., got Stream"),
        (DataLoader(Own()), {}, "train must be a data set, got a DataLoader: pass its data set"),
        ({"train": Own()}, {}, "train must be a data set with len and .row., got dict"),
        (TensorDataset(torch.zeros(3, 2)), {}, "must have a label in every item, row 0 has none"),
        (TensorDataset(torch.zeros(3, 2), torch.rand(3)), {}, "labels must be whole class numbers"),
        (Own(), {"classes": 2}, "must be in 0 .. 1, got 2 at row 2"),
        (Own(), {"keys": "label"}, "keys must be a pair"),
        (Own(), {"keys": ("image", "label")}, "need items that are dicts, got tuple"),
        (Own(), {"class_names": ["a"]}, "class_names must be 3 names"),
        (Own(), {"mean": (0.5, 0.5)}, "mean must have 1 or 3 numbers"),
        (Own(), {"in_memory": 1}, "in_memory must be one of None, False, True, got 1"),
        (
            Own(lambda row: torch.zeros(3, 4, 4)),
            {"in_memory": True},
            "needs images of bytes, got torch.float32",
        ),
        (Own(lambda row: PIXELS[row, : 8 - row % 2]), {}, "must have one shape, got .* at row 1"),
        (Own(lambda row: "text"), {}, "inputs must be tensors or arrays of numbers, got str at row 0"),
        (Own(), {"in_memory": True, "augmentation": abs}, "in_memory needs an Augmentation or None"),
    ],
)
def test_what_is_not_understood_is_named(train, known, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        from_dataset(train, Own(), **known)
    assert "\n" not in str(caught.value)


@pytest.fixture
def module(monkeypatch) -> types.ModuleType:
    """A module of the user's."""
    module = types.ModuleType("users_module")
    monkeypatch.setitem(sys.modules, "users_module", module)
    return module


def test_a_function_of_the_users_makes_the_data(module) -> None:
    pair = (Own(), Own(n=6))
    module.nothing = lambda: pair
    module.defaults = lambda rows=5: pair if rows == 5 else None
    module.positional = lambda settings: pair if settings.root == "there" else None
    module.by_name = lambda rows=5, *, config=None: pair if config.root == "there" else None
    module.splits = lambda: from_dataset(*pair, name="mine")
    module.mapping = lambda: {"train": pair[0], "test": pair[1], "other": None}
    module.Space = types.SimpleNamespace(inner=module.nothing)
    for function in ("nothing", "defaults", "positional", "by_name", "splits", "mapping", "Space.inner"):
        data = load(DataConfig(name=f"users_module:{function}", root="there", rows=9, test_rows=3, workers=2))
        assert isinstance(data, Splits) and (len(data.train), len(data.test)) == (9, 3), function
        assert data.train.workers == 2
        assert data.train.name == ("mine" if function == "splits" else f"users_module:{function}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_here:f", "data.name 'no_such_module_here:f': cannot import 'no_such_module_here'"),
        ("users_module:absent", "data.name 'users_module:absent': users_module has no 'absent'"),
        ("users_module:number", "data.name 'users_module:number' must name a function, got int"),
        ("users_module:single", r"must give Splits, or a pair \(train, test\) of data sets, got Own"),
        (":f", "data.name must be a name or .*, got ':f'"),
    ],
)
def test_a_function_that_there_is_not_is_named(module, name: str, message: str) -> None:
    module.number, module.single = 3, Own
    with pytest.raises((ValueError, TypeError), match=message):
        load(DataConfig(name=name))


@pytest.fixture
def torchvision(monkeypatch) -> types.ModuleType:
    """A stand-in for torchvision.datasets, which puts files where the real one does."""
    module = types.ModuleType("torchvision.datasets")
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    module.calls = []
    return module


def test_missing_files_are_downloaded_only_when_asked(tmp_path, torchvision) -> None:
    def fetch(root: str, train: bool, download: bool) -> None:
        torchvision.calls.append((root, train, download))
        files.mnist(tmp_path / "FashionMNIST" / "raw", ending=".gz")

    torchvision.FashionMNIST = fetch
    with pytest.raises(FileNotFoundError, match="--download"):
        load(DataConfig(name="fashion_mnist", root=str(tmp_path)))
    assert torchvision.calls == []
    wanted = DataConfig(name="fashion_mnist", root=str(tmp_path), download=True)
    assert len(load(wanted).train) == 20
    assert torchvision.calls == [(str(tmp_path), True, True), (str(tmp_path), False, True)]
    load(wanted)
    assert len(torchvision.calls) == 2  # the files are there


def test_a_download_that_fails_says_why(tmp_path, torchvision, monkeypatch) -> None:
    def fail(root: str, split: str, download: bool) -> None:
        raise RuntimeError("no route to host\nand more")

    torchvision.SVHN = fail
    with pytest.raises(OSError, match=f"cannot download svhn to {tmp_path}: no route to host$"):
        load(DataConfig(name="svhn", root=str(tmp_path), download=True))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(FileNotFoundError, match="svhn needs train_32x32.mat, .*torchvision.*ufldl") as caught:
        load(DataConfig(name="svhn", root=str(tmp_path), download=True))
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="imagenet needs train, looked for in .*: get it from https"):
        load(DataConfig(name="imagenet", root=str(tmp_path), download=True))
