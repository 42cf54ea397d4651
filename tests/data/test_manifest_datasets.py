"""The manifest's data sets against real files of theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle_files import shared_data

from segzoo.data.policy import IGNORE, LabelTable
from segzoo.data.read import read_label
from segzoo.registry import dataset_entry
from segzoo.zoo.manifest import load_manifest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


@pytest.mark.parametrize("name", ["cityscapes", "voc2012", "pascal-context-60", "pascal-context-59"])
def test_every_class_has_a_colour_and_a_value(name):
    entry = dataset_entry(name)
    assert len(entry.classes) == len(set(entry.classes)) == len(entry.palette)
    table = LabelTable(entry.labels, len(entry.classes))
    values = [value for value in range(256) if value not in entry.labels.ignore and value < 60]
    known = list(entry.labels.mapping) if entry.labels.mapping else values[: len(entry.classes)]
    assert sorted(table.apply(np.array(known, np.uint8)[None], name)[0]) == list(range(len(entry.classes)))


def test_cityscapes_label_ids_become_its_training_ids():
    folder = "cityscapes/zh-plus+mmsegmentation/gtFine/frankfurt_000000_000294_gtFine"
    entry = dataset_entry("cityscapes")
    ids = read_label(shared_data(f"{folder}_labelIds.png"))
    training_ids = read_label(shared_data(f"{folder}_labelTrainIds.png"))
    measured = LabelTable(entry.labels, 19).apply(ids, folder)
    # The two files were made small one by one, so that 77 of 32768 pixels at borders show different objects.
    assert np.count_nonzero(measured != training_ids) <= 77
    for value in np.unique(ids):
        partners, counts = np.unique(training_ids[ids == value], return_counts=True)
        assert partners[counts.argmax()] == measured[ids == value][0], value
    assert entry.label_suffix == "_gtFine_labelIds.png"


def test_cityscapes_ignores_what_the_benchmark_ignores():
    ids = np.arange(34, dtype=np.uint8)[None]
    labels = LabelTable(dataset_entry("cityscapes").labels, 19).apply(ids, "")[0]
    assert [int(value) for value in ids[0, labels == IGNORE]] == [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30]


def test_pascal_context_without_background_is_the_same_order_one_lower():
    path = shared_data("pascal_context/DrSleep+light-weight-refinenet/derived_59order/2008_008376.png")
    both = [
        LabelTable(dataset_entry(name).labels, classes).apply(read_label(path), name)
        for name, classes in (("pascal-context-60", 60), ("pascal-context-59", 59))
    ]
    assert dataset_entry("pascal-context-60").classes[1:] == dataset_entry("pascal-context-59").classes
    assert np.array_equal(np.where(both[0] == 0, IGNORE, both[0].astype(int) - 1), both[1])
    assert (both[0] > 0).any()


def test_coco_stuff_has_the_80_things_first_and_the_gaps_of_cocos_numbers():
    entry = dataset_entry("coco-stuff-164k")
    gaps = set(range(182)) - set(entry.labels.mapping)
    assert gaps == {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    assert list(entry.labels.mapping.values()) == list(range(171)) == sorted(entry.labels.mapping.values())
    # A file's value is the category's number less one: 89 is the toothbrush, 90, and 91 the banner, 92.
    assert entry.classes[entry.labels.mapping[89]] == "toothbrush"
    assert entry.classes[entry.labels.mapping[91]] == "banner" == entry.classes[80]


def test_every_data_set_says_where_it_comes_from_and_stands_on_the_page_with_its_numbers():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    entries = load_manifest().datasets
    assert {row.split("`")[1] for row in rows} == entries.keys() and len(rows) == len(entries)
    for row in rows:
        entry = entries[row.split("`")[1]]
        assert f"| {len(entry.classes)} |" in row
        for split in entry.splits.values():
            assert str(split.count) in row, row
        assert entry.licence and (entry.layout == "scenes" or (entry.archives and entry.source)), row
        assert all(archive.url or archive.page for archive in entry.archives), row
        taken = [place for archive in entry.archives for place in archive.take]
        assert taken or entry.convert or entry.layout == "scenes", row
