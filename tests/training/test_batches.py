"""Order and batches: every picture once a pass, the same samples for any split of the work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from segzoo.evaluation import evaluate
from segzoo.processes.endings import StopWish
from segzoo.processes.group import Group
from segzoo.registry import create_model, get_protocol
from segzoo.training.batches import Batch, Collate, Item, Samples, ToDevice, batches
from segzoo.training.plan import Plan, seed_of
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
            ranks.append(list(reading))
    iterations = []
    for number in range(made.iterations - first):
        parts = range(number * made.accumulate, (number + 1) * made.accumulate)
        iterations.append([pixel for part in parts for rank in ranks for pixel in rank[part].image[:, 0, 0].tolist()])
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
    assert pixels[0, :, 0, 0].tolist() == [2.0, 3.0, 2.0] and label.dtype == torch.int64
    assert pixels[0, :, :, 3].abs().sum() == 0 and pixels[1, :, 1].abs().sum() == 0
    assert pixels[1, :, 0, 3].tolist() == [0.0, 1.0, 1.0]


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
