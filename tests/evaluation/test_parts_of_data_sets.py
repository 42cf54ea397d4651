"""A few real pairs of each published data set evaluate as a part of it, from a folder and from an archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from archives import zip_folder
from oracle_files import shared_data
from tiny_network import TinyNetwork

from segzoo.data import open_dataset
from segzoo.evaluation import evaluate
from segzoo.evaluation.named import _missing_images
from segzoo.protocol import Protocol

HALF = Protocol(scale=(256, 128))


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def cityscapes(root: Path) -> None:
    real = shared_data("cityscapes/zh-plus+mmsegmentation")
    for folder in ("leftImg8bit", "gtFine"):
        for file in (real / folder).iterdir():
            link(file, root / "cityscapes" / folder / "val/frankfurt" / file.name)


def voc2012(root: Path) -> None:
    """Two names of the list have no files here, as in a part of the set."""
    real, top = shared_data("voc2012/DrSleep+light-weight-refinenet"), root / "VOCdevkit/VOC2012"
    names = sorted(file.stem for file in real.glob("*.jpg"))
    for name in names:
        link(real / f"{name}.jpg", top / f"JPEGImages/{name}.jpg")
        link(real / f"{name}.png", top / f"SegmentationClass/{name}.png")
    (top / "ImageSets/Segmentation").mkdir(parents=True)
    (top / "ImageSets/Segmentation/val.txt").write_text("\n".join(["2007_000033", *names, "2007_000042"]))


def pascal_context(root: Path) -> None:
    real = shared_data("pascal_context/DrSleep+light-weight-refinenet")
    for file in real.glob("*.jpg"):
        link(file, root / "PASCAL-Context/val/image" / file.name)
        link(real / f"derived_59order/{file.stem}.png", root / f"PASCAL-Context/val/label/{file.stem}.png")


@pytest.mark.parametrize(
    ("name", "lay_out", "images", "published"),
    [
        ("cityscapes", cityscapes, 1, 500),
        ("voc2012", voc2012, 4, 1449),
        ("pascal-context-60", pascal_context, 4, 5105),
        ("pascal-context-59", pascal_context, 4, 5105),
    ],
)
def test_a_part_evaluates_with_a_note_and_equal_from_its_zip(tmp_path, name, lay_out, images, published):
    lay_out(tmp_path / "data")
    archive = zip_folder(tmp_path / "data", tmp_path / "data.zip")
    here, there = (open_dataset(name, root=root) for root in (tmp_path / "data", archive))
    assert len(here) == images
    assert _missing_images(here) == [f"partial: {images} images are here, the published {name} val has {published}"]
    runs = [evaluate(TinyNetwork("part", len(data.classes)), data, HALF) for data in (here, there)]
    assert runs[0].breakdown == runs[1].breakdown
    assert runs[0].conditions["data_fingerprint"] == runs[1].conditions["data_fingerprint"]
    assert json.dumps(runs[0].metrics["miou_percent"]) == json.dumps(runs[1].metrics["miou_percent"])
