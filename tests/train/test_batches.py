"""Batches to train on, and the augmentation in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from fastcore.train.datasets import Augmentation, FolderSet, ImageSet, TrainingBatches, from_dataset
from fastcore.train.datasets.seeds import generator
from tests.train import files

PADDING = 2


def image_set(n: int = 50, side: int = 6, channels: int = 3, flip: bool = True) -> ImageSet:
    images = (
        1 + torch.arange(n * channels * side * side).view(n, channels, side, side) % 251
    )  # nothing is black
    return ImageSet(images.byte(), torch.arange(n) % 5, augmentation=Augmentation(PADDING, flip))


def collect(batches: TrainingBatches, epoch: int, first_step: int = 0) -> list[tuple[torch.Tensor, ...]]:
    return [(b.index, b.images, b.labels) for b in batches.epoch(epoch, first_step)]


def assert_same(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def crops_of(image: torch.Tensor, flip: bool) -> dict[bytes, tuple[int, int, bool]]:
    """Every crop that augmentation may give, from its definition, by its bytes."""
    found = {}
    for mirrored in (False, True) if flip else (False,):
        padded = functional.pad(image.flip(2) if mirrored else image, (PADDING,) * 4)
        for y in range(2 * PADDING + 1):
            for x in range(2 * PADDING + 1):
                crop = padded[:, y : y + image.shape[1], x : x + image.shape[2]]
                found[crop.contiguous().numpy().tobytes()] = (y, x, mirrored)
    return found


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(3, 6, 6), (1, 5, 7)])
def test_augmentation_gives_each_image_one_of_its_crops_and_all_of_them_alike_often(shape, flip) -> None:
    images = torch.from_numpy(files.pixels(6, *shape))
    seen = []
    for step in range(200):
        out = Augmentation(PADDING, flip)(images, generator("test", step))
        assert out.shape == images.shape and out.dtype == torch.uint8
        seen += [crops_of(image, flip).get(crop.numpy().tobytes()) for image, crop in zip(images, out)]
    assert None not in seen
    rows, columns, mirrored = (np.array(part) for part in zip(*seen))
    for places in (rows, columns):
        counts = np.bincount(places, minlength=2 * PADDING + 1)
        assert counts.min() > 0.75 * len(seen) / len(counts)
    assert mirrored.mean() == pytest.approx(0.5 if flip else 0.0, abs=0.06)
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.12 and len({crop[:2] for crop in seen}) == 25


def test_augmentation_without_padding_or_flip_changes_nothing() -> None:
    images = torch.from_numpy(files.pixels(4, 3, 5, 5))
    assert torch.equal(Augmentation(0, False)(images, generator("test")), images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_the_same_on_a_gpu() -> None:
    there = collect(TrainingBatches(image_set(), batch_size=8, seed=3, device="cuda"), 1)
    here = collect(TrainingBatches(image_set(), batch_size=8, seed=3), 1)
    assert all(batch[1].is_cuda for batch in there)
    assert_same([tuple(part.cpu() for part in batch) for batch in there], here)


def test_an_epoch_has_every_row_once_with_its_own_image_label_and_weight() -> None:
    data, indices = image_set(), torch.tensor([3, 41, 7, 20, 33, 12, 9])
    weights = indices.double() / 100
    batches = TrainingBatches(data, indices, weights, batch_size=3, augment=False)
    assert batches.steps == 2  # 3 and 4: the last row is not left alone
    seen = []
    for batch in batches.epoch(0):
        assert batch.images.dtype == torch.float32 and batch.weights is not None
        assert torch.equal(batch.images, data.images[batch.index].float().mul(1 / 255))
        assert torch.equal(batch.labels, data.labels[batch.index])
        assert torch.equal(batch.weights, batch.index.float() / 100)
        seen += batch.index.tolist()
    assert sorted(seen) == sorted(indices.tolist())


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (1, 4, [1]), (8, 4, [4, 4]), (3, 1, [1, 1, 1]), (5, 8, [5])],
)
def test_sizes_of_batches(rows: int, batch_size: int, sizes: list[int]) -> None:
    batches = TrainingBatches(image_set(), range(rows), batch_size=batch_size)
    assert [len(batch.index) for batch in batches.epoch(0)] == sizes
    assert batches.steps == len(sizes)


def sets(tmp_path):
    """The same kind of data in memory, in files, and one by one from a data set that is random by itself."""
    files.imagenet(tmp_path, each=4)
    names = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "train").rglob("*.JPEG"))
    yield "memory", image_set(9)
    yield "files", FolderSet(tmp_path, names, [0] * 4 + [1] * 4, size=16)

    class Own(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 9

        def __getitem__(self, row: int):
            noise = torch.rand(2) + np.random.rand()  # of two global generators
            return torch.cat([torch.tensor([float(row)]), noise]), row % 2

    yield "items", from_dataset(Own(), Own()).train


def test_order_and_augmentation_depend_on_seed_epoch_and_step_alone(tmp_path) -> None:
    for kind, data in sets(tmp_path):

        def batches(seed: int = 5, workers: int = 0, data=data) -> TrainingBatches:
            return TrainingBatches(data, batch_size=3, seed=seed, workers=workers)

        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = batches()
        epochs = [collect(first, epoch) for epoch in (0, 1)]
        assert torch.equal(torch.get_rng_state(), state), kind  # the user's random numbers are the user's
        torch.manual_seed(2)
        np.random.seed(2)
        again = batches()
        assert_same(collect(again, 1), epochs[1])  # whatever ran before
        assert_same(collect(again, 1, first_step=2), epochs[1][2:])  # and from any step on
        assert collect(again, 1, first_step=again.steps) == []
        other_seed = collect(batches(seed=6), 0)
        for other in (epochs[1], other_seed):
            assert not torch.equal(other[0][0], epochs[0][0][0]), kind
        if kind != "memory":
            assert_same(collect(batches(workers=2), 1), epochs[1])


def test_augmentation_is_new_in_every_epoch_and_step(tmp_path) -> None:
    for kind, data in sets(tmp_path):
        row = {"memory": 4, "files": 5, "items": 4}[kind]
        batches = TrainingBatches(data, [row] * 4, batch_size=2)
        images = [part for epoch in range(3) for _, part, _ in collect(batches, epoch)]
        if kind == "files":  # a picture of one level: nothing but its level can be told
            assert all(torch.equal(part, images[0]) for part in images)
        else:
            assert not torch.equal(images[0], images[2]) and not torch.equal(images[2], images[4]), kind
        plain = TrainingBatches(data, [row] * 4, batch_size=2, augment=False)
        images = [part for epoch in range(3) for _, part, _ in collect(plain, epoch)]
        assert all(torch.equal(part, images[0]) for part in images), kind


def test_workers_go_on_after_an_epoch_that_was_left_early(tmp_path) -> None:
    data = list(sets(tmp_path))[1][1]
    batches = TrainingBatches(data, batch_size=2, workers=1)
    next(batches.epoch(0))
    assert_same(collect(batches, 1), collect(TrainingBatches(data, batch_size=2), 1))


def test_an_unreadable_image_is_named_in_one_line_even_by_a_worker(tmp_path) -> None:
    data = list(sets(tmp_path))[1][1]
    data.path(3).write_bytes(data.path(3).read_bytes()[:300])
    for workers in (0, 1):
        with pytest.raises(ValueError) as caught:
            collect(TrainingBatches(data, batch_size=2, workers=workers), 0)
        assert str(data.path(3)) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": [0, 50]}, "indices must be in 0 .. 49, got 50"),
        ({"indices": [-1]}, "indices must be in 0 .. 49, got -1"),
        ({"indices": []}, "indices must be a list of row numbers, got shape"),
        ({"indices": [0.5]}, "indices must be integers, got torch.float64"),
        ({"weights": [1.0]}, r"weights must have shape \(50,\), one a row, got \(1,\)"),
        ({"weights": [-1.0] * 50}, "weights must be finite and not negative, got -1"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
    ],
)
def test_arguments_are_named(changes, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        TrainingBatches(image_set(), **{"batch_size": 4, **changes})


def test_only_data_sets_of_the_harness_are_taken() -> None:
    with pytest.raises(TypeError, match="dataset must be one of fastcore.train.datasets, got list"):
        TrainingBatches([(torch.zeros(1), 0)], batch_size=1)
    batches = TrainingBatches(image_set(), batch_size=10)
    with pytest.raises(ValueError, match="first_step must be at most the 5 steps of an epoch, got 6"):
        next(batches.epoch(0, 6))
