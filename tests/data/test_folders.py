from __future__ import annotations

import numpy as np
import pytest
from oracle_files import shared_data
from PIL import Image

from segzoo.data import ignore_value, open_dataset, read_pair
from segzoo.data.scenes_classes import CLASSES, PALETTE
from segzoo.errors import DatasetError, UsageError
from segzoo.registry import dataset_entry
from segzoo.zoo import manifest


def write_pair(root, name, *, images="images", labels="labels", size=(4, 6), label_size=None, value=1, suffix=".png"):
    for folder in (root / images, root / labels):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(root / images / f"{name}{suffix}")
    Image.fromarray(np.full(label_size or size, value, np.uint8)).save(root / labels / f"{name}.png")


@pytest.fixture
def folder(tmp_path):
    """Three pairs of two classes, out of order."""
    root = tmp_path / "things"
    for name in ("b", "a", "deep/c"):
        write_pair(root, name)
    (root / "classes.txt").write_text("cat\n\n dog \n")
    return root


def test_a_plain_folder_is_a_data_set(folder):
    dataset = open_dataset(folder)
    assert (dataset.name, dataset.split, len(dataset)) == ("things", "val", 3)
    assert (dataset.classes, dataset.num_classes, dataset.palette) == (["cat", "dog"], 2, None)
    assert [dataset.image_name(index) for index in range(3)] == ["a", "b", "deep/c"]
    name, image, label = read_pair(dataset, 2)
    assert name == "deep/c"
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8
    assert np.array_equal(label, np.ones((4, 6)))


def test_a_plain_folder_may_have_its_splits_below(folder):
    write_pair(folder, "x", images="images/train", labels="labels/train", value=0)
    dataset = open_dataset(folder, split="train")
    assert [dataset.image_name(index) for index in range(len(dataset))] == ["x"]


def test_suffixes_count_in_any_case_and_hidden_files_do_not(folder):
    (folder / "images/b.png").rename(folder / "images/b.PNG")
    (folder / "images/._b.png").write_bytes(b"finder")
    (folder / "images/notes.txt").write_text("not an image")
    assert len(open_dataset(folder)) == 3


def test_a_link_that_leads_back_up_is_not_followed_for_ever(folder):
    (folder / "images/deep/up").symlink_to(folder / "images")
    assert len(open_dataset(folder)) == 3


def test_two_images_of_one_name_are_an_error(folder):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(folder / "images/a.jpg")
    with pytest.raises(DatasetError, match="two files of one name"):
        open_dataset(folder)


def test_images_without_labels_and_labels_without_images_are_named(folder):
    (folder / "labels/a.png").unlink()
    with pytest.raises(DatasetError, match=r"1 images have no label in .*labels: a;"):
        open_dataset(folder)
    (folder / "images/a.png").unlink()
    for name in ("p", "q", "r", "s"):
        write_pair(folder, name)
        (folder / f"images/{name}.png").unlink()
    with pytest.raises(DatasetError, match=r"4 labels have no image in .*images: p, q, r and 1 more;"):
        open_dataset(folder)


def test_an_empty_folder_and_missing_ones_are_errors(folder, tmp_path):
    empty = tmp_path / "empty"
    for name in ("images", "labels"):
        (empty / name).mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"cannot read .*classes\.txt"):
        open_dataset(empty)
    (empty / "classes.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"classes\.txt is empty"):
        open_dataset(empty)
    (empty / "classes.txt").write_text("cat\n")
    with pytest.raises(DatasetError, match="empty val is empty: no image"):
        open_dataset(empty)
    (empty / "labels").rmdir()
    with pytest.raises(DatasetError, match=r"there is no folder .*labels"):
        open_dataset(empty)
    with pytest.raises(UsageError, match=r"unknown data set 'ade2k'.*did you mean 'ade20k'"):
        open_dataset("ade2k")


def test_a_missing_data_set_says_what_to_get_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_DATA", str(tmp_path))
    brings = "`segzoo data prepare ade20k` brings it, or get it from http"
    with pytest.raises(DatasetError, match=rf"ade20k is not here: .*{brings}.*\.zip, into .*ADEChallenge"):
        open_dataset("ade20k")
    with pytest.raises(UsageError, match="ade20k has the splits train, val, not 'vla'; did you mean 'val'"):
        open_dataset("ade20k", split="vla")
    with pytest.raises(UsageError, match="scenes has the splits train, val, not 'test'"):
        open_dataset("scenes", split="test")


def test_a_size_mismatch_names_the_pair_and_both_sizes(folder):
    write_pair(folder, "b", size=(4, 6), label_size=(6, 4))
    with pytest.raises(DatasetError, match=r"'b' of things val differ in size: the image has 4x6 .* the label 6x4"):
        read_pair(open_dataset(folder), 1)


def test_sizes_are_compared_after_exif_orientation(folder):
    tags = Image.Exif()
    tags[0x0112] = 6
    (folder / "images/b.png").unlink()
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(folder / "images/b.jpg", exif=tags)
    assert read_pair(open_dataset(folder), 1).image.shape == (4, 6, 3)


def test_a_label_value_outside_the_policy_names_its_file(folder):
    write_pair(folder, "b", value=9)
    with pytest.raises(DatasetError, match=r"things/labels/b\.png has the value 9 in 24 pixels"):
        read_pair(open_dataset(folder), 1)


def test_the_fingerprint_changes_with_names_sizes_and_classes(folder):
    first = open_dataset(folder).fingerprint()
    assert len(first) == 64 and first == open_dataset(folder).fingerprint()
    (folder / "classes.txt").write_text("cat\nbird\n")
    renamed = open_dataset(folder).fingerprint()
    write_pair(folder, "b", size=(40, 60))
    resized = open_dataset(folder).fingerprint()
    write_pair(folder, "z")
    assert len({first, renamed, resized, open_dataset(folder).fingerprint()}) == 4


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A data set of the user's own manifest, whose split is a list of names."""
    root = tmp_path / "data/mine"
    for name in ("x", "y", "z"):
        write_pair(root, name, images="pictures", labels="truth", value=6)
    (tmp_path / "zoo.yaml").write_text(
        "datasets:\n  mine:\n    splits: {val: {images: pictures, labels: truth, names: val.txt}}\n"
        "    labels: {first: 5, ignore: [0]}\n    classes: [one, two]\n"
    )
    monkeypatch.setenv("SEGZOO_ZOO", str(tmp_path / "zoo.yaml"))
    monkeypatch.setenv("SEGZOO_DATA", str(tmp_path / "data"))
    return root


@pytest.mark.parametrize("text", ["z\nx\n", "z.png\nx.png\n", "/far/pictures/z.png /far/truth/z.png\n\n/far/x.png\n"])
def test_a_list_of_names_chooses_the_pairs(listed, text):
    (listed / "val.txt").write_text(text)
    dataset = open_dataset("mine")
    assert [dataset.image_name(index) for index in range(len(dataset))] == ["x", "z"]
    assert np.array_equal(dataset.label(0), np.ones((4, 6)))


def test_a_listed_name_without_a_file_and_a_missing_list_are_errors(listed):
    with pytest.raises(DatasetError, match="cannot read the list of names"):
        open_dataset("mine")
    (listed / "val.txt").write_text("x\nw\n")
    with pytest.raises(DatasetError, match=r"1 names of .*val\.txt have no image: w"):
        open_dataset("mine")


def test_the_folder_may_be_given_itself_or_by_its_parent(listed):
    (listed / "val.txt").write_text("x\n")
    fingerprints = {open_dataset("mine", root=root).fingerprint() for root in (listed, listed.parent, None)}
    assert len(fingerprints) == 1


def test_the_manifest_agrees_with_the_drawn_data_set():
    entry = dataset_entry("scenes")
    assert tuple(entry.classes) == CLASSES
    assert tuple(entry.palette) == PALETTE
    dataset = open_dataset("scenes")
    assert (len(dataset), dataset.num_classes, dataset.classes) == (100, 16, list(CLASSES))
    assert read_pair(dataset, 3).image.shape == (192, 256, 3)


def test_every_data_set_of_the_manifest_has_classes_and_a_colour_for_each():
    for name, entry in manifest.load_manifest().datasets.items():
        assert entry.classes and len(set(entry.classes)) == len(entry.classes), name
        assert len(entry.palette) == len(entry.classes), name
        assert ignore_value(len(entry.classes)) == 255, name
    assert len(dataset_entry("ade20k").classes) == 150
    assert len(dataset_entry("camvid").classes) == 11


def test_real_ade20k_pairs_open():
    dataset = open_dataset("ade20k", root=shared_data("ADEChallengeData2016"))
    assert dataset.image_name(0) == "ADE_val_00000001"
    for index in range(len(dataset)):
        pair = read_pair(dataset, index)
        assert pair.label.max() <= 255 and (pair.label < 150).any()


def test_real_camvid_pairs_open_and_count():
    root = shared_data("camvid")
    counts = {split: len(open_dataset("camvid", root=root, split=split)) for split in ("train", "val")}
    assert counts == {split: dataset_entry("camvid").splits[split].count for split in counts}
    seen = set()
    dataset = open_dataset("camvid", root=root)
    for index in range(0, len(dataset), 10):
        pair = read_pair(dataset, index)
        assert pair.image.shape == (360, 480, 3)
        seen |= set(np.unique(pair.label).tolist())
    assert seen <= {*range(11), 255} and len(seen) >= 11
