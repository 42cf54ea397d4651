"""What a folder of one's own may say of itself: splits, colours, ignored values."""

from __future__ import annotations

import numpy as np
import pytest
from archives import zip_folder
from PIL import Image

from segzoo.data import IGNORE, open_dataset, read_pair
from segzoo.errors import DatasetError, UsageError

SKY, ROAD, NOTHING = (70, 130, 180), (128, 64, 128), (0, 0, 0)


def write(root, name, label, below=""):
    for folder in ("images", "labels"):
        (root / folder / below).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*label.shape[:2], 3), 99, np.uint8)).save(root / "images" / below / f"{name}.png")
    Image.fromarray(label).save(root / "labels" / below / f"{name}.png")


@pytest.fixture
def coloured(tmp_path):
    """One picture, 2x2: sky, road / road, nothing."""
    root = tmp_path / "mine"
    write(root, "a", np.array([[SKY, ROAD], [ROAD, NOTHING]], np.uint8))
    (root / "classes.txt").write_text("sky 70 130 180\nnarrow road  128, 64, 128\n")
    (root / "dataset.yaml").write_text("label_coding: colours\nignore_colours: [[0, 0, 0]]\n")
    return root


def test_colours_become_the_classes_of_classes_txt(coloured):
    dataset = open_dataset(coloured)
    assert (dataset.classes, dataset.palette) == (["sky", "narrow road"], [SKY, ROAD])
    assert read_pair(dataset, 0).label.tolist() == [[0, 1], [1, IGNORE]]


def test_an_unknown_colour_names_its_file_and_the_pixels(coloured):
    (coloured / "dataset.yaml").write_text("label_coding: colours\n")
    with pytest.raises(DatasetError, match=r"labels/a\.png has the colour \(0, 0, 0\) in 1 pixels, which is no class"):
        open_dataset(coloured).label(0)


def test_a_palette_png_is_read_by_its_colours_where_labels_are_colours(coloured):
    picture = Image.fromarray(np.array([[3, 5]], np.uint8), mode="P")
    picture.putpalette([*[0] * 9, *ROAD, *[0] * 3, *SKY])
    Image.new("RGB", (2, 1)).save(coloured / "images/a.png")
    picture.save(coloured / "labels/a.png")
    assert open_dataset(coloured).label(0).tolist() == [[1, 0]]


def test_the_colours_belong_to_the_fingerprint(coloured):
    first = open_dataset(coloured).fingerprint()
    (coloured / "classes.txt").write_text("sky 70 130 180\nnarrow road 128 64 129\n")
    assert open_dataset(coloured).fingerprint() != first


def test_one_colour_for_two_classes_and_missing_ones_are_errors(coloured):
    (coloured / "classes.txt").write_text("sky 70 130 180\nroad 70 130 180\n")
    with pytest.raises(UsageError, match=r"\(70, 130, 180\) stands for more than one class \(sky, road"):
        open_dataset(coloured)
    (coloured / "classes.txt").write_text("sky 70 130 180\nroad\n")
    with pytest.raises(DatasetError, match="'road' has no colour, others have one"):
        open_dataset(coloured)
    (coloured / "classes.txt").write_text("sky 70 130 280\n")
    with pytest.raises(DatasetError, match="the colour of 'sky' goes beyond 255"):
        open_dataset(coloured)
    (coloured / "classes.txt").write_text("sky\nroad\n")
    with pytest.raises(UsageError, match="labels that are colours need a palette"):
        open_dataset(coloured)


def test_ignored_values_and_folders_come_from_dataset_yaml(tmp_path):
    write(tmp_path, "a", np.array([[1, 2], [0, 9]], np.uint8))
    (tmp_path / "classes.txt").write_text("one\ntwo\n")
    (tmp_path / "dataset.yaml").write_text("labels: {first: 1, ignore: [0, 9]}\n")
    assert open_dataset(tmp_path).label(0).tolist() == [[0, 1], [IGNORE, IGNORE]]
    (tmp_path / "dataset.yaml").write_text(
        "classes: [one, two]\nlabels: {mapping: {9: 0, 2: 1}, ignore: [0, 1]}\n"
        "splits: {val: {images: images, labels: labels, names: val.txt}}\n"
    )
    (tmp_path / "val.txt").write_text("a\n")
    assert open_dataset(tmp_path).label(0).tolist() == [[IGNORE, 1], [IGNORE, 0]]
    with pytest.raises(UsageError, match="has the splits val, not 'train'"):
        open_dataset(tmp_path, split="train")


def test_a_wrong_word_in_dataset_yaml_is_named(tmp_path):
    write(tmp_path, "a", np.zeros((2, 2), np.uint8))
    (tmp_path / "classes.txt").write_text("one\n")
    for text, words in (
        ("labls: {}\n", "unknown field `labls`"),
        ("[1]\n", "it maps words"),
        ("a: {\n", "not valid YAML"),
        ("palette: [[1, 2, 3], [4, 5, 6]]\n", "2 colours for 1 classes"),
    ):
        (tmp_path / "dataset.yaml").write_text(text)
        with pytest.raises(DatasetError, match=words):
            open_dataset(tmp_path)


def test_splits_are_folders_below_images_and_a_wrong_one_is_named(tmp_path):
    for split, value in (("train", 0), ("val", 1)):
        write(tmp_path, "a", np.full((2, 2), value, np.uint8), below=split)
    (tmp_path / "classes.txt").write_text("one\ntwo\n")
    archive = zip_folder(tmp_path, tmp_path.parent / f"{tmp_path.name}.zip", inside="mine")
    for place in (tmp_path, archive):
        assert [int(open_dataset(place, split=split).label(0)[0, 0]) for split in ("train", "val")] == [0, 1]
        with pytest.raises(UsageError, match="has the splits train, val, not 'tain'; did you mean 'train'"):
            open_dataset(place, split="tain")
    archive.unlink()
