"""Data sets of colour images, from the files that they are published in."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from fastcore.train.config import DataConfig
from fastcore.train.datasets import FolderSet, ImageSet, load
from fastcore.train.datasets.base import Moment
from tests.train import files


def read(name: str, root, **settings):
    return load(DataConfig(name=name, root=str(root), **{"workers": 0, **settings}))


def assert_named(path, name: str, root, message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message) as caught:
        read(name, root)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["folder", "archive", "files in the root"])
def test_cifar10(tmp_path, form: str) -> None:
    files.cifar10(tmp_path / "made" / "cifar-10-batches-py")
    root = {"folder": "made", "archive": "packed", "files in the root": "made/cifar-10-batches-py"}[form]
    files.archive(tmp_path / "made" / "cifar-10-batches-py", tmp_path / "packed" / "cifar-10-python.tar.gz")
    data = read("cifar10", tmp_path / root)
    expected = np.concatenate([files.pixels(10, 3072, seed=seed) for seed in range(5)]).reshape(-1, 3, 32, 32)
    assert np.array_equal(data.train.images.numpy(), expected)
    assert np.array_equal(data.test.images.numpy().reshape(10, -1), files.pixels(10, 3072, seed=5))
    assert data.train.labels.tolist() == list(range(10)) * 5
    assert data.train.class_names[:2] == ("airplane", "automobile") and data.train.augmentation.flip


def test_cifar100_has_its_fine_labels(tmp_path) -> None:
    files.cifar100(tmp_path / "cifar-100-python")
    data = read("cifar100", tmp_path)
    assert data.train.labels.tolist() == files.cycling(200, 100).tolist() and data.train.classes == 100
    assert data.test.class_names[42] == "fine42" and data.train.shape == (3, 32, 32)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("labels", [list(range(4)), np.arange(4)])
def test_pickles_of_this_python_are_read_too(tmp_path, protocol: int, labels) -> None:
    files.cifar10(tmp_path)
    images = files.pixels(4, 3072, seed=9)
    files.write(tmp_path / "test_batch", files.python3_pickle(images, protocol, labels=labels))
    data = read("cifar10", tmp_path)
    assert np.array_equal(data.test.images.numpy().reshape(4, -1), images) and data.test.labels.tolist() == [
        0,
        1,
        2,
        3,
    ]


class Evil:
    """What a pickle must not run."""

    ran = False

    def __reduce__(self):
        return os.system, ("echo pwned",)


def evil_encoding() -> bytes:
    return b"\x80\x02c_codecs\nencode\nU\x01aU\x03hex\x86R."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(Evil()), "asks for posix.system, which is not allowed"),
        (pickle.dumps({"data": Evil()}), "asks for posix.system"),
        (pickle.dumps(torch.zeros(1)), "is not allowed"),
        (pickle.dumps(np.array([Evil()], object)), "asks for posix.system"),
        (evil_encoding(), "asks for the encoding 'hex'"),
        (pickle.dumps([1, 2]), "must hold a dictionary, got list"),
        (b"", "is no pickle of arrays"),
        (b"no pickle", "is no pickle of arrays"),
        (files.python2_pickle(files.pixels(3, 3072), labels=[0, 1, 2])[:-500], "is no pickle of arrays"),
        (
            files.python2_pickle(files.pixels(3, 3072), fine_labels=[0, 1, 2]),
            "has no 'labels': it holds 'data'",
        ),
        (files.python2_pickle(files.pixels(3, 3072), labels=[0, 1]), "must hold 3 whole labels"),
        (files.python2_pickle(files.pixels(3, 3071), labels=[0, 1, 2]), r"'data' \(n, 3072\) of bytes"),
        (files.python2_pickle(files.pixels(3, 3072), labels=[0, 1, 10]), "has the label 10 at row 2"),
        (pickle.dumps({"data": [1, 2], "labels": [0, 1]}), r"'data' \(n, 3072\) of bytes, got list"),
        (pickle.dumps({"data": files.pixels(1, 3072), "labels": ["a"]}), "must hold 1 whole labels"),
    ],
)
def test_a_damaged_or_hostile_cifar_file_is_named_and_runs_nothing(tmp_path, capfd, data, message) -> None:
    files.cifar10(tmp_path / "cifar-10-batches-py")
    path = files.write(tmp_path / "cifar-10-batches-py" / "data_batch_3", data)
    assert_named(path, "cifar10", tmp_path, message)
    assert "pwned" not in capfd.readouterr().out


def test_an_incomplete_cifar_folder_or_archive_is_named(tmp_path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    files.cifar10(folder)
    files.archive(folder, tmp_path / "packed" / "cifar-10-python.tar.gz")
    packed = tmp_path / "packed" / "cifar-10-python.tar.gz"
    packed.write_bytes(packed.read_bytes()[:5000])
    assert_named(packed, "cifar10", tmp_path / "packed", "is a damaged archive")
    files.write(folder / "batches.meta", pickle.dumps({"label_names": ["a"]}))
    assert_named(folder / "batches.meta", "cifar10", tmp_path, "must hold 10 names in 'label_names'")
    (folder / "data_batch_4").unlink()
    assert_named(folder, "cifar10", tmp_path, "needs data_batch_4, .*--download")


def test_svhn(tmp_path) -> None:
    files.svhn(tmp_path)
    data = read("svhn", tmp_path)
    assert data.train.labels.tolist() == [*range(1, 10), 0] * 2  # 10 is the digit 0
    expected = files.pixels(32, 32, 3, 20, seed=1)
    assert np.array_equal(data.test.images.numpy(), expected.transpose(3, 2, 0, 1))
    assert np.array_equal(data.test.picture(7), expected[..., 7])
    assert not data.train.augmentation.flip  # a mirrored digit is another


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "has no 'y', the labels"),
        ({"y": np.ones((2, 1))}, "has no 'X', the images"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))}, "has 2 images, but 3 labels"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.full((2, 1), 11)}, "has the label 11 at row 0"),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))}, "of bytes, got float64"),
        (b"MATLAB", "is a damaged MATLAB file"),
        (None, "is a damaged MATLAB file"),
    ],
)
def test_a_damaged_svhn_file_is_named(tmp_path, held, message) -> None:
    from scipy.io import savemat

    files.svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    if isinstance(held, dict):
        savemat(path, held)
    else:
        path.write_bytes(held or path.read_bytes()[:20000])
    assert_named(path, "svhn", tmp_path, message)


def test_tiny_imagenet_lives_in_memory(tmp_path) -> None:
    files.tiny_imagenet(tmp_path / "tiny-imagenet-200")
    for workers in (0, 3):
        data = read("tiny_imagenet", tmp_path, workers=workers)
        assert isinstance(data.train, ImageSet) and data.train.shape == (3, 64, 64)
        # Classes are in the order of their names: n01 is the second of wnids.txt, of level 50.
        assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert data.train.images[:, 2, 5, 5].tolist() == [50, 51, 52, 53, 0, 1, 2, 3, 100, 101, 102, 103]
        assert data.test.labels.tolist() == [1, 0, 2] and data.test.images[:, 0, 0, 0].tolist() == [
            40,
            90,
            140,
        ]
        assert data.train.class_names == ("name of n01", "name of n02", "name of n03")
    data = read("tiny_imagenet", tmp_path / "tiny-imagenet-200", rows=4, test_rows=1)
    assert data.train.images[:, 0, 0, 0].tolist() == [50, 51, 0, 100] and len(data.test) == 1


def test_a_limit_of_rows_reads_no_other_images(tmp_path) -> None:
    files.tiny_imagenet(tmp_path)
    path = files.write(tmp_path / "train" / "n01" / "images" / "n01_3.JPEG", b"no image")
    assert len(read("tiny_imagenet", tmp_path, rows=3).train) == 3
    assert_named(path, "tiny_imagenet", tmp_path, "is an unreadable image")


def test_a_damaged_tiny_imagenet_is_named(tmp_path) -> None:
    files.tiny_imagenet(tmp_path)
    annotations = tmp_path / "val" / "val_annotations.txt"
    lines = annotations.read_text().splitlines()

    def damaged(path, text: str, message: str) -> None:
        before = path.read_text()
        path.write_text(text)
        assert_named(path, "tiny_imagenet", tmp_path, message)
        path.write_text(before)

    damaged(annotations, "\n".join([*lines, "val_9.JPEG\tn01\t0"]), "names 'val_9.JPEG' in line 4")
    damaged(annotations, "\n".join(lines).replace("n02", "n99"), "gives the class 'n99' in line 1")
    damaged(annotations, "\n".join(lines[1:]), "has no line for val_0.JPEG")
    picture = files.write(
        tmp_path / "train" / "n02" / "images" / "n02_1.JPEG", files.image(files.flat(1, 60))
    )
    assert_named(picture, "tiny_imagenet", tmp_path, "must be 64 x 64 pixels, got 64 x 60")
    (tmp_path / "train" / "n04").mkdir()
    assert_named(
        tmp_path / "train", "tiny_imagenet", tmp_path, "has a folder n04, which is none of the 3 classes"
    )
    (tmp_path / "train" / "n04").rmdir()
    (tmp_path / "wnids.txt").write_text("n01\nn02\nn03\nn05")
    assert_named(tmp_path / "train", "tiny_imagenet", tmp_path, "has no folder n05")
    annotations.unlink()
    (tmp_path / "wnids.txt").write_text("n01\nn02\nn03")
    with pytest.raises(FileNotFoundError, match="val_annotations.txt: get it from http"):
        read("tiny_imagenet", tmp_path)


def test_imagenet_stays_in_its_files(tmp_path) -> None:
    files.imagenet(tmp_path / "imagenet")
    data = read("imagenet", tmp_path, workers=1)
    assert isinstance(data.train, FolderSet) and data.train.shape == (3, 224, 224)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.test.class_names == ("n01", "n02")
    assert [data.train.picture(row)[0, 0, 0] for row in range(6)] == [0, 1, 2, 100, 101, 102]
    loader = data.test.sequential(4)
    assert loader.num_workers == 1  # as the configuration says
    images = torch.cat([images for images, _ in loader])
    assert torch.equal(images[4], data.test[4][0])
    assert torch.allclose(
        images[4, :, 0, 0], (101 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(data.test.std)
    )
    some = data.train.first(3)
    assert [some.path(row).name for row in range(3)] == ["n01_0.JPEG", "n01_1.JPEG", "n02_0.JPEG"]


def test_the_test_view_is_the_centre_of_the_image(tmp_path) -> None:
    # Columns 0, 1, ... of a wide picture have their number as level; with a side of 8/7 x 56 nothing is scaled.
    wide = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (64, 100, 3)).copy()
    files.write(tmp_path / "wide.png", files.image(wide, "PNG"))
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    files.write(tmp_path / "tall.png", files.image(tall, "PNG"))
    data = FolderSet(tmp_path, ["wide.png", "tall.png"], [0, 1], size=56)
    assert np.array_equal(data.picture(0), wide[4:60, 22:78])
    assert np.array_equal(data.picture(1), tall[22:78, 4:60])


def test_training_views_are_random_parts_of_allowed_size_and_shape(tmp_path) -> None:
    # Red grows by one a column and green by one a row: a view tells which part of the picture it shows.
    height, width = 160, 240
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(width), np.arange(height)[:, None]
    files.write(tmp_path / "ramp.png", files.image(picture, "PNG"))
    data = FolderSet(tmp_path, ["ramp.png"], [0], size=32)
    areas, ratios, mirrored, lefts = [], [], [], []
    for epoch in range(150):
        view = data.read([0], Moment(0, epoch, 0))[0].float()
        across, down = view[0, 16], view[1, :, 16]
        w = float(across[-1] - across[0]) * 32 / 31
        h = float(down[-1] - down[0]) * 32 / 31
        areas.append(abs(w) * h / (height * width))
        ratios.append(abs(w) / h)
        mirrored.append(w < 0)
        lefts.append(float(across.min()))
    assert 0.06 < min(areas) < 0.2 and 0.7 < max(areas) <= 1.02
    assert 0.7 < min(ratios) < 0.8 and 1.2 < max(ratios) < 1.45
    assert 0.35 < np.mean(mirrored) < 0.65 and max(lefts) > 100 and min(lefts) < 10


def test_a_picture_of_any_shape_gives_views(tmp_path) -> None:
    for name, shape in (("line.png", (1, 500, 3)), ("dot.png", (1, 1, 3)), ("pole.png", (900, 2, 3))):
        files.write(tmp_path / name, files.image(np.full(shape, 7, np.uint8), "PNG"))
    data = FolderSet(tmp_path, ["line.png", "dot.png", "pole.png"], [0, 0, 0], size=14)
    for moment in (None, Moment(0, 1, 2)):
        assert (data.read([0, 1, 2], moment) == 7).all()


def test_a_damaged_imagenet_is_named(tmp_path) -> None:
    files.imagenet(tmp_path, each=1)
    (tmp_path / "val" / "n01").rename(tmp_path / "val" / "n07")
    assert_named(tmp_path / "val", "imagenet", tmp_path, "has no folder n01")
    (tmp_path / "val" / "n07" / "n01_0.JPEG").unlink()
    (tmp_path / "val" / "n07").rename(tmp_path / "val" / "n01")
    assert_named(tmp_path / "val" / "n01", "imagenet", tmp_path, "has no images")
    files.write(tmp_path / "val" / "n01" / "cut.JPEG", files.image(files.flat(9))[:300])
    data = read("imagenet", tmp_path)
    with pytest.raises(ValueError, match="cut.JPEG is an unreadable image") as caught:
        list(data.test.sequential(4))
    assert "\n" not in str(caught.value)


def test_the_fingerprint_of_files_is_of_their_names_and_sizes(tmp_path) -> None:
    files.imagenet(tmp_path, each=1)
    before = read("imagenet", tmp_path).train.fingerprint
    assert read("imagenet", tmp_path).train.fingerprint == before
    path = tmp_path / "train" / "n01" / "n01_0.JPEG"
    path.write_bytes(path.read_bytes() + b"\0")
    changed = read("imagenet", tmp_path).train.fingerprint
    path.rename(path.with_name("other.JPEG"))
    assert len({before, changed, read("imagenet", tmp_path).train.fingerprint}) == 3


def test_images_that_are_not_sorted_into_classes_are_refused(tmp_path) -> None:
    files.imagenet(tmp_path, each=1)
    for path in list((tmp_path / "val").rglob("*.JPEG")):
        path.rename(tmp_path / "val" / path.name)
        path.parent.rmdir()
    assert_named(tmp_path / "val", "imagenet", tmp_path, "must hold a folder of images for each class")
