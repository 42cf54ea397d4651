"""PASCAL's conversions, on archives with the published layout made by the tests."""

from __future__ import annotations

import io
import tarfile

import msgspec
import numpy as np
import pytest
from oracle_files import shared_data
from PIL import Image

from segzoo import preparation
from segzoo.data import IGNORE, open_dataset
from segzoo.data.read import read_label
from segzoo.errors import DatasetError, UsageError
from segzoo.preparation.pascal_context import FREQUENT, to_59
from segzoo.registry import dataset_entry

scipy_io = pytest.importorskip("scipy.io", reason="scipy writes the MAT files of these tests")


def jpeg(height, width):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def png(label):
    buffer = io.BytesIO()
    image = Image.fromarray(label)
    image = image.convert("P") if image.mode == "L" else image
    image.save(buffer, "PNG")
    return buffer.getvalue()


def mat(**variables):
    buffer = io.BytesIO()
    scipy_io.savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


def write_tar(path, files, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def without_hashes(name, **counts):
    """The manifest's entry with the counts of a test and without the hashes of the real archives."""
    words = msgspec.to_builtins(dataset_entry(name))
    for archive in words["archives"]:
        for key in ("md5", "sha1", "sha256", "bytes", "unpacked_bytes"):
            archive[key] = None
    for split, count in counts.items():
        words["splits"][split]["count"] = count
    return words


@pytest.fixture
def voc(tmp_path, manifest):
    """VOC with a, b for training and v for validation; the Semantic Boundaries Dataset with a, s, v."""
    manifest(voc2012=without_hashes("voc2012", train=2, val=1, trainaug=3))
    labels = {name: np.full((4, 6), value, np.uint8) for name, value in (("a", 1), ("b", 2), ("v", 3))}
    labels["a"][0, 0] = 255
    top = "VOCdevkit/VOC2012"
    files = {f"{top}/JPEGImages/{name}.jpg": jpeg(4, 6) for name in "absvx"}
    files |= {f"{top}/SegmentationClass/{name}.png": png(label) for name, label in labels.items()}
    files |= {f"{top}/ImageSets/Segmentation/train.txt": b"a\nb\n", f"{top}/ImageSets/Segmentation/val.txt": b"v\n"}
    write_tar(tmp_path / "downloads/VOCtrainval_11-May-2012.tar", files)
    bottom = "benchmark_RELEASE/dataset"
    files = {
        f"{bottom}/cls/{name}.mat": mat(GTcls={"Segmentation": np.full((4, 6), 7, np.uint8)})
        for name in ("a", "s", "v")
    }
    files |= {f"{bottom}/train.txt": b"a\ns\n", f"{bottom}/val.txt": b"v\n"}
    write_tar(tmp_path / "downloads/benchmark.tgz", files, "w:gz")
    return tmp_path


def test_voc_without_its_augmentation_needs_one_archive(voc):
    (voc / "downloads/benchmark.tgz").unlink()
    record = preparation.prepare(preparation.make_plan("voc2012", root=voc), quiet=True)
    assert {row["split"]: row["pairs"] for row in record.breakdown["split"]} == {"train": 2, "val": 1}
    label = open_dataset("voc2012", root=voc, split="train").label(0)
    assert label[0, 0] == IGNORE and np.all(label.ravel()[1:] == 1)


def test_voc_augmented_keeps_vocs_own_labels_and_leaves_out_validation(voc):
    plan = preparation.make_plan("voc2012", root=voc, splits=("train", "val", "trainaug"))
    preparation.prepare(plan, quiet=True)
    dataset = open_dataset("voc2012", root=voc, split="trainaug")
    assert [dataset.image_name(index) for index in range(len(dataset))] == ["a", "b", "s"]
    assert [int(dataset.label(index)[1, 1]) for index in range(3)] == [1, 2, 7]
    assert dataset.label(0)[0, 0] == IGNORE
    assert preparation.make_plan("voc2012", root=voc, splits=("trainaug",)).done


def test_pascal_context_comes_out_of_vocs_pictures_and_459_categories(tmp_path, manifest):
    manifest(**{name: without_hashes(name, train=1, val=1) for name in ("pascal-context-60", "pascal-context-59")})
    top = "VOCdevkit/VOC2010"
    files = {f"{top}/JPEGImages/{name}.jpg": jpeg(2, 3) for name in ("t", "v", "unlabelled")}
    files |= {f"{top}/ImageSets/Main/train.txt": b"t\n", f"{top}/ImageSets/Main/val.txt": b"v\n"}
    write_tar(tmp_path / "downloads/VOCtrainval_03-May-2010.tar", files)
    # 2 aeroplane, 458 wood, 459 and 1 are not among the 59.
    maps = {name: np.array([[2, 458, 459], [1, 360, 9]], np.uint16) for name in ("t", "v")}
    write_tar(
        tmp_path / "downloads/trainval.tar.gz",
        {f"trainval/{name}.mat": mat(LabelMap=categories) for name, categories in maps.items()},
        "w:gz",
    )
    preparation.prepare(preparation.make_plan("pascal-context-60", root=tmp_path), quiet=True)
    sixty = open_dataset("pascal-context-60", root=tmp_path)
    names = [[sixty.classes[index] for index in row] for row in sixty.label(0)]
    assert names == [["aeroplane", "wood", "background"], ["background", "sky", "bag"]]
    assert open_dataset("pascal-context-59", root=tmp_path).label(0).tolist() == [[0, 58, 255], [255, 46, 1]]


def test_the_59_of_the_459_categories_are_in_the_order_of_the_classes():
    """Real labels in the order of the classes, back to the categories' numbers and forth again."""
    assert len(FREQUENT) == 59 and list(FREQUENT) == sorted(set(FREQUENT))
    label = read_label(shared_data("pascal_context/DrSleep+light-weight-refinenet/derived_59order/2010_000682.png"))
    categories = np.array([0, *FREQUENT], np.int64)[label]
    assert np.array_equal(to_59(categories, "x"), label)


def test_a_category_beyond_459_is_refused():
    with pytest.raises(DatasetError, match=r"x\.mat has the category 460"):
        to_59(np.array([[460]]), "x.mat")


def test_training_ids_are_written_beside_the_labels_and_only_once(tmp_path, manifest):
    manifest(**{"coco-stuff-164k": without_hashes("coco-stuff-164k", val=1)})
    for folder in ("images/val2017", "annotations/val2017"):
        (tmp_path / "coco_stuff164k" / folder).mkdir(parents=True)
    (tmp_path / "coco_stuff164k/images/val2017/000000000139.jpg").write_bytes(jpeg(1, 4))
    label = tmp_path / "coco_stuff164k/annotations/val2017/000000000139.png"
    # Person, the 13th category (stop sign is number 12, street sign's 12 is a gap), the last kind of stuff, nothing.
    label.write_bytes(png(np.array([[0, 12, 181, 255]], np.uint8)))
    plan = preparation.make_plan("coco-stuff-164k", root=tmp_path, splits=("val",))
    assert preparation.write_train_ids(plan, lambda names, count, what: names) == 1
    converted = label.with_name("000000000139_labelTrainIds.png")
    assert read_label(converted).tolist() == [[0, 11, 170, 255]]
    assert preparation.write_train_ids(plan, lambda names, count, what: names) == 0
    # What was written beside the labels is no label of its own, and segzoo reads the same from the published one.
    dataset = open_dataset("coco-stuff-164k", root=tmp_path)
    assert len(dataset) == 1 and dataset.label(0).tolist() == [[0, 11, 170, 255]]
    assert [dataset.classes[index] for index in (0, 11, 170)] == ["person", "stop sign", "wood"]


def test_training_ids_of_a_real_cityscapes_label_are_the_published_ones(tmp_path):
    real = shared_data("cityscapes/zh-plus+mmsegmentation")
    name = "frankfurt_000000_000294"
    for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        place = tmp_path / "cityscapes" / folder / "val/frankfurt"
        place.mkdir(parents=True)
        (place / f"{name}_{ending}.png").write_bytes((real / folder / f"{name}_{ending}.png").read_bytes())
    plan = preparation.make_plan("cityscapes", root=tmp_path, splits=("val",))
    preparation.write_train_ids(plan, lambda names, count, what: names)
    written = read_label(tmp_path / f"cityscapes/gtFine/val/frankfurt/{name}_gtFine_labelTrainIds.png")
    published = read_label(real / f"gtFine/{name}_gtFine_labelTrainIds.png")
    # The two sample files were made small one by one and differ in 77 pixels at borders.
    assert np.count_nonzero(written != published) == 77
    assert len(open_dataset("cityscapes", root=tmp_path)) == 1


def test_labels_that_need_no_mapping_have_no_training_ids(tmp_path):
    with pytest.raises(UsageError, match="the labels of ade20k are not mapped to training ids"):
        preparation.write_train_ids(preparation.make_plan("ade20k", root=tmp_path), lambda names, count, what: names)
