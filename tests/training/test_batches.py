"""Order and batches: every picture once a pass, the same samples for any split of the work."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from segzoo.errors import UsageError
from segzoo.evaluation import evaluate
from segzoo.processes.endings import StopWish
from segzoo.processes.group import Group
from segzoo.registry import create_model, get_protocol
from segzoo.training.batches import Batch, Collate, ToDevice, batches
from segzoo.training.plan import Plan, seed_of
from segzoo.training.samples import Item, Samples
from segzoo.training.validation import validate


class Numbers:
    """Ten one-pixel pictures that hold their own number and a draw."""

    def __len__(self) -> int:
        return 10

    def item(self, index: int, draws: np.random.Generator) -> Item:
        image = np.array([[[index, draws.integers(0, 256), 0]]], np.uint8)
        return Item(str(index), image, np.array([[index]], np.uint8))


def plan(**words) -> Plan:
    default = {"work_dir": Path(), "iterations": 5, "batch_size": 4, "per_device": 4, "seed": 3, "settings": {}}
    return Plan(**(default | words))


def series(first: int = 0, **words) -> list[list[list[int]]]:
    """Pixels of the samples of each iteration, over the processes and parts of a plan."""
    made = plan(**words)
    ranks = []
    for rank in range(made.processes):
        with batches(Numbers(), Collate((1, 1), 255), made, rank=rank, first=first) as reading:
            # A batch is good until the next one is asked for.
            ranks.append([batch.image[:, 0, 0].tolist() for batch in reading])
    iterations = []
    for number in range(made.iterations - first):
        parts = range(number * made.accumulate, (number + 1) * made.accumulate)
        iterations.append([pixel for part in parts for rank in ranks for pixel in rank[part]])
    return iterations


def test_every_picture_comes_once_in_each_pass_and_the_passes_differ():
    samples = Samples(Numbers(), seed=1)
    passes = [[samples.picture(turn * 10 + place) for place in range(10)] for turn in range(3)]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert passes[0] != passes[1] != passes[2]


def test_the_samples_of_an_iteration_do_not_depend_on_how_it_is_split():
    whole = series()
    assert series(per_device=1) == whole
    assert series(per_device=2, processes=2) == whole
    assert series(per_device=1, processes=2) == whole
    assert series(workers=2) == whole


def test_a_run_goes_on_with_the_samples_it_would_have_had():
    assert series(first=3) == series()[3:]
    assert series(first=3, workers=1) == series()[3:]


def test_another_seed_gives_another_series():
    assert series(seed=4) != series()
    assert (
        len({seed_of(0, iteration, part, rank) for iteration in range(50) for part in (0, 1) for rank in (0, 1)}) == 200
    )


def test_reading_processes_write_into_the_same_memory_over_and_over():
    with batches(Numbers(), Collate((1, 1), 255), plan(workers=1, iterations=12), rank=0, first=0) as reading:
        addresses = [batch.image.data_ptr() for batch in reading]
    # One batch is in use while four are read.
    assert addresses[:5] == addresses[5:10] and addresses[:2] == addresses[10:] and len(set(addresses)) == 5


def test_too_little_shared_memory_is_said_before_anything_is_read(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=2**26)
    monkeypatch.setattr("segzoo.training.batches.shutil.disk_usage", lambda place: usage)
    made = plan(workers=2)
    with batches(Numbers(), Collate((512, 512), 255), made, rank=0, first=0):
        pass
    wanted = r"takes 72 MiB of shared memory and /dev/shm has 64; use fewer --workers"
    with (
        pytest.raises(UsageError, match=wanted),
        batches(Numbers(), Collate((1024, 512), 255), made, rank=0, first=0),
    ):
        pass


def test_targets_may_be_maps_of_several_numbers_wide_classes_or_one_number():
    image = np.zeros((1, 2, 3), np.uint8)
    layers = Collate((2, 2), 255, np.int32, (3,))([Item("a", image, np.arange(6, dtype=np.int32).reshape(1, 2, 3))])
    assert isinstance(layers, Batch) and layers.target.dtype == torch.int32
    assert layers.target.tolist() == [[[[0, 1, 2], [3, 4, 5]], [[255] * 3] * 2]]
    wide = Collate((1, 2), 65535, np.uint16)([Item("a", image, np.array([[300, 65535]], np.uint16))])
    assert isinstance(wide, Batch) and wide.target.dtype == torch.int32 and wide.target.tolist() == [[[300, 65535]]]
    numbers = Collate((1, 2), 0, np.int64, None)([Item(name, image, np.array(7)) for name in "ab"])
    assert isinstance(numbers, Batch) and numbers.target.tolist() == [7, 7]


def test_small_samples_are_padded_with_the_mean_colour_and_the_ignored_label():
    items = [
        Item("a", np.full((2, 3, 3), 200, np.uint8), np.ones((2, 3), np.uint8)),
        Item("b", np.full((1, 4, 3), 100, np.uint8), np.zeros((1, 4), np.uint8)),
    ]
    batch = Collate((2, 4), 255)(items)
    assert isinstance(batch, Batch) and batch.image.dtype == torch.uint8
    assert batch.target.tolist() == [[[1, 1, 1, 255], [1, 1, 1, 255]], [[0] * 4, [255] * 4]]
    to_device = ToDevice(torch.device("cpu"), (100.0, 50.0, 0.0), (50.0, 50.0, 100.0), channels_last=False)
    pixels, label = to_device(batch)
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([2.0, 3.0, 2.0]))
    assert label.dtype == torch.int64
    assert pixels[0, :, :, 3].abs().sum() == 0 and pixels[1, :, 1].abs().sum() == 0
    torch.testing.assert_close(pixels[1, :, 0, 3], torch.tensor([0.0, 1.0, 1.0]))


def test_validation_gives_the_numbers_of_evaluate(pictures):
    from segzoo.data import open_dataset

    torch.manual_seed(0)
    model, dataset = create_model("tiny", num_classes=3), open_dataset(pictures, split="val")
    found = validate(model, dataset, get_protocol("tiny"), Group(0, 1, torch.device("cpu")), StopWish(), show=2)
    run = evaluate(model, dataset, get_protocol("tiny"))
    assert found is not None
    assert {name: run.metrics[name] for name in found.measures} == found.measures
    assert [item.pair.name for item in found.shown] == ["000", "002"]
    assert validate(model, dataset, get_protocol("tiny"), Group(0, 1, torch.device("cpu")), StopWish(15)) is None
