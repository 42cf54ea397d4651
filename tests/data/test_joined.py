"""Data sets that come in several archives are read from them as from their folder."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from archives import zip_folder
from PIL import Image

from segzoo.data import open_dataset, read_pair
from segzoo.data.check import check_subject
from segzoo.data.subject import find_subject
from segzoo.errors import DatasetError


@pytest.fixture
def coco(tmp_path):
    """One pair of COCO-Stuff's validation split: a folder, and the two archives of it in downloads/."""
    images, labels = tmp_path / "coco_stuff164k/images/val2017", tmp_path / "coco_stuff164k/annotations/val2017"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    Image.new("RGB", (4, 1), (9, 8, 7)).save(images / "000000000139.jpg")
    Image.fromarray(np.array([[0, 12, 181, 255]], np.uint8)).save(labels / "000000000139.png")
    (tmp_path / "downloads").mkdir()
    zip_folder(images, tmp_path / "downloads/val2017.zip", inside="val2017")
    zip_folder(labels, tmp_path / "downloads/stuffthingmaps_trainval2017.zip", inside="val2017")
    return tmp_path


def test_several_archives_are_the_same_data_set_as_its_folder(coco):
    folder, joined = (open_dataset("coco-stuff-164k", root=root) for root in (coco, coco / "downloads"))
    assert joined.fingerprint() == folder.fingerprint()
    for dataset in (joined, pickle.loads(pickle.dumps(joined))):
        pair, expected = read_pair(dataset, 0), read_pair(folder, 0)
        assert pair.name == expected.name and np.array_equal(pair.image, expected.image)
        assert pair.label.tolist() == expected.label.tolist() == [[0, 11, 170, 255]]


def test_the_doctor_reads_several_archives(coco):
    subject = find_subject("coco-stuff-164k", root=coco / "downloads", splits=("val",))
    (run,) = check_subject(subject, part_is_meant=True)
    assert run.metrics["problems"] == 0 and run.metrics["images"] == 1


def test_a_fault_names_the_archive_and_a_missing_archive_is_no_data_set(coco):
    label = coco / "coco_stuff164k/annotations/val2017/000000000139.png"
    Image.fromarray(np.array([[0, 11, 0, 0]], np.uint8)).save(label)
    zip_folder(label.parent, coco / "downloads/stuffthingmaps_trainval2017.zip", inside="val2017")
    with pytest.raises(DatasetError, match=r"trainval2017\.zip/val2017/000000000139\.png has the value 11 in 1 pixels"):
        open_dataset("coco-stuff-164k", root=coco / "downloads").label(0)
    with pytest.raises(DatasetError, match="the data set coco-stuff-164k is not"):
        open_dataset("coco-stuff-164k", root=coco / "downloads", split="train")
