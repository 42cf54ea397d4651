"""The doctor of data sets finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from archives import tar_folder, zip_folder
from oracle_files import shared_data
from PIL import Image

from segzoo.data.check import check_subject
from segzoo.data.subject import find_subject
from segzoo.errors import DatasetError, UsageError

ADE = ("images/validation", "annotations/validation")


def write(root, name, label, *, folders=ADE, suffixes=(".jpg", ".png"), seed=None):
    """A pair; each name has a picture of its own unless `seed` says which."""
    for folder in folders:
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(name.encode()) if seed is None else seed)
    picture = noise.integers(0, 255, (*label.shape, 3)).astype(np.uint8)
    Image.fromarray(picture).save(root / folders[0] / f"{name}{suffixes[0]}")
    Image.fromarray(label.astype(np.uint8)).save(root / folders[1] / f"{name}{suffixes[1]}")


@pytest.fixture
def ade(tmp_path):
    """Three labels with the values 0..150, and so with the last class."""
    root = tmp_path / "ADEChallengeData2016"
    for number in range(3):
        write(root, f"ADE_val_{number:08d}", np.arange(160).reshape(10, 16) % 151)
    return root


def problems(target, **options):
    """(kind, sentence) of every problem, with counts left alone."""
    kept = {key: options.pop(key) for key in ("dataset", "splits", "root") if key in options}
    runs = check_subject(find_subject(str(target), **kept), **{"part_is_meant": True, **options})
    return [(row["kind"], row["problem"]) for run in runs for row in run.breakdown["problem"]]


def test_a_good_set_has_no_problems_in_a_folder_and_in_archives(ade, tmp_path):
    zipped = zip_folder(ade, tmp_path / "ade.zip", inside="ADEChallengeData2016")
    tarred = tar_folder(ade, tmp_path / "ade.tar", inside="ADEChallengeData2016")
    records = []
    for target in (ade, ade.parent, zipped, tarred):
        subject = find_subject(str(target))
        assert (subject.name, subject.splits) == ("ade20k", ["val"]) and "looks like ade20k" in subject.words
        (run,) = check_subject(subject, part_is_meant=True)
        assert run.metrics["problems"] == run.metrics["warnings"] == 0
        records.append((run.metrics, run.breakdown, run.conditions["data_fingerprint"]))
    assert all(record == records[0] for record in records)
    assert records[0][0] | {"images": 3, "pixels": 474, "ignored_pixels": 6, "classes_present": 150} == records[0][0]


def test_threads_find_the_same(ade):
    (ade / "annotations/validation/ADE_val_00000001.png").write_bytes(b"")
    assert problems(ade, workers=0) == problems(ade, workers=3)


def test_counts_are_held_to_the_published_ones_unless_a_part_is_meant(ade):
    ((kind, sentence),) = problems(ade, part_is_meant=False)
    assert kind == "count" and "3 pairs are here, published are 2000" in sentence
    assert problems(ade) == []


def test_every_fault_of_files_is_found_and_named(ade):
    names = [f"ADE_val_{number:08d}" for number in range(10, 16)]
    for name in names:
        write(ade, name, np.full((4, 5), 7))
    images, labels = ade / ADE[0], ade / ADE[1]
    (images / f"{names[0]}.jpg").unlink()
    (labels / f"{names[1]}.png").unlink()
    image = images / f"{names[2]}.jpg"
    image.write_bytes(image.read_bytes()[:-20])
    Image.fromarray(np.full((5, 4), 7, np.uint8)).save(labels / f"{names[3]}.png")
    Image.fromarray(np.full((4, 5), 151, np.uint8)).save(labels / f"{names[4]}.png")
    (labels / f"{names[5]}.png").write_bytes(b"no picture")
    found = problems(ade)
    kinds = sorted(kind for kind, _ in found)
    assert kinds == ["pairs", "pairs", "size", "unreadable", "unreadable", "values"]
    text = "\n".join(sentence for _, sentence in found)
    for words in (
        f"1 images have no label in {labels}: {names[1]}",
        f"1 labels have no image in {images}: {names[0]}",
        f"{names[2]}.jpg is truncated",
        f"{names[3]!r} differ in size",
        f"{names[4]}.png has the value 151 in 20 pixels",
        f"{names[5]}.png cannot be decoded",
    ):
        assert words in text


def test_labels_that_were_reduced_by_one_are_recognised(ade):
    """What `reduce_zero_label` makes of a label: 0 becomes 255, every class one less."""
    for path in (ade / ADE[1]).iterdir():
        reduced = (np.array(Image.open(path)).astype(int) - 1) % 256
        Image.fromarray(reduced.astype(np.uint8)).save(path)
    ((kind, sentence),) = problems(ade)
    assert kind == "label policy"
    assert "255 is in 3 labels" in sentence and "reduced by one already (0 is 'wall' in them)" in sentence


def test_a_zero_that_was_rewritten_as_255_is_only_a_warning(ade):
    for path in (ade / ADE[1]).iterdir():
        values = np.array(Image.open(path))
        Image.fromarray(np.where(values == 0, 255, values).astype(np.uint8)).save(path)
    (run,) = check_subject(find_subject(str(ade)), part_is_meant=True)
    assert run.metrics["problems"] == 0
    assert [row["warning"] for row in run.breakdown["warning"]] == [
        "the value 255 is in 3 labels (ADE_val_00000000, ADE_val_00000001, ADE_val_00000002), which published ones "
        "never have: something else has written these labels"
    ]


def test_labels_that_are_one_too_high_are_recognised(tmp_path):
    write(tmp_path, "a", np.array([[1, 2], [3, 255]]), folders=("images", "labels"), suffixes=(".png", ".png"))
    (tmp_path / "classes.txt").write_text("one\ntwo\nthree\n")
    found = dict(problems(tmp_path))
    assert "a.png has the value 3 in 1 pixels" in found["values"]
    assert "one too high for a policy whose first class is 0" in found["label policy"]


def test_training_ids_in_place_of_cityscapes_label_ids_are_recognised(tmp_path):
    folders = ("leftImg8bit/val", "gtFine/val")
    suffixes = ("_leftImg8bit.png", "_gtFine_labelIds.png")
    write(tmp_path, "frankfurt/a", np.array([[0, 1], [10, 255]]), folders=folders, suffixes=suffixes)
    ((kind, sentence),) = problems(tmp_path)
    assert kind == "label policy" and "these look like training ids (0 to 18)" in sentence
    write(tmp_path, "frankfurt/a", np.array([[7, 8], [26, 0]]), folders=folders, suffixes=suffixes)
    assert problems(tmp_path) == []


def test_pictures_with_the_same_bytes_are_a_warning_across_splits(ade):
    write(ade, "ADE_val_00000050", np.full((4, 5), 1), seed=3)
    write(ade, "ADE_train_00000050", np.full((4, 5), 1), seed=3, folders=("images/training", "annotations/training"))
    runs = check_subject(find_subject(str(ade)), part_is_meant=True)
    rows = [row for run in runs for row in run.breakdown["warning"]]
    assert [(row["split"], row["kind"]) for row in rows] == [("val", "duplicate")]
    assert rows[0]["warning"] == "the picture has the bytes of ADE_train_00000050 (train)"


def test_many_faults_of_a_kind_are_folded_and_all_named(ade):
    for number in range(100, 130):
        write(ade, f"ADE_val_{number:08d}", np.full((2, 2), 200))
    (run,) = check_subject(find_subject(str(ade)), part_is_meant=True)
    assert run.metrics["problems"] == 30 and len(run.breakdown["problem"]) == 21
    assert "10 more: ADE_val_00000120, " in run.breakdown["problem"][-1]["problem"]


def test_a_folder_too_low_or_too_high_says_which_one_to_give(ade):
    for place, words in (
        (ade / "images", f"give {ade}"),
        (ade / "images/validation", f"give {ade}"),
        (ade.parent.parent, f"give {ade.parent}"),
    ):
        with pytest.raises(DatasetError, match=words):
            find_subject(str(place), dataset="ade20k")
    with pytest.raises(DatasetError, match=r"it seems to be ade20k, but .* is a folder inside of the data set"):
        find_subject(str(ade / "images"))


@pytest.mark.parametrize(
    ("sign", "dataset", "words"),
    [
        ("ADE20K_2016_07_26/index_ade20k.mat", "ade20k", "the full ADE20K release"),
        ("ADE20K_2021_17_01/index_ade20k.pkl", None, "the full ADE20K release"),
        ("release_test/testing/a.jpg", "ade20k", "the test pictures of the ADE20K challenge"),
        ("701_StillsRaw_full/a.png", "camvid", "960x720 with 32 classes in colours"),
        ("gtCoarse/val/a.png", "cityscapes", "its coarse labels"),
        ("annotations/stuff_train2017.json", "coco-stuff-164k", "COCO-Stuff as JSON"),
    ],
)
def test_the_wrong_archive_is_recognised(tmp_path, sign, dataset, words):
    (tmp_path / sign).parent.mkdir(parents=True)
    (tmp_path / sign).write_bytes(b"x")
    with pytest.raises(DatasetError, match=words):
        find_subject(str(tmp_path), dataset=dataset)


def test_another_data_set_than_the_named_one_is_recognised(ade):
    with pytest.raises(DatasetError, match=r"the data set camvid is not in .*: .* looks like ade20k"):
        find_subject(str(ade), dataset="camvid")


def test_what_is_no_data_set_at_all_says_what_to_do(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DatasetError, match=r"has the folders of no data set that segzoo knows; say which it is"):
        find_subject(str(tmp_path))
    with pytest.raises(UsageError, match=r"'ade2k' is no folder, no archive and none of .*did you mean 'ade20k'"):
        find_subject("ade2k")
    with pytest.raises(UsageError, match=r"unknown data set 'camvd'.*did you mean 'camvid'"):
        find_subject(str(tmp_path), dataset="camvd")


def test_mmsegmentations_folders_of_pascal_context_are_known(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2010"
    write(root, "2008_000001", np.array([[0, 59], [1, 2]]), folders=("JPEGImages", "SegmentationClassContext"))
    shutil.copy(root / "JPEGImages/2008_000001.jpg", root / "JPEGImages/2008_000002.jpg")
    (root / "ImageSets/SegmentationContext").mkdir(parents=True)
    (root / "ImageSets/SegmentationContext/val.txt").write_text("2008_000001\n")
    subject = find_subject(str(root))
    assert (subject.name, subject.splits) == ("pascal-context-60", ["val"]) and "pascal-context-59" in subject.words
    assert problems(root) == []


def test_real_data_have_no_problems_but_their_number():
    for name, published in (("ADEChallengeData2016", "ade20k"), ("camvid", "camvid")):
        root = shared_data(name)
        assert find_subject(str(root)).name == published
        assert problems(root, splits=("val",)) == []
