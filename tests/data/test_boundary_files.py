"""Published dt_offset files are read where a data set has them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from segzoo.data import open_dataset
from segzoo.data.boundary import decode_boundary
from segzoo.data.transforms import Augmentation
from segzoo.errors import DatasetError
from segzoo.training.segmentation import Crops

scipy_io = pytest.importorskip("scipy.io", reason="scipy writes the dt_offset files of these tests")


def test_a_stored_map_is_decoded(tmp_path):
    depth = np.array([[0, 7], [250, 1]], np.uint8)
    half = np.array([[0, 90], [180, 45]], np.uint8)
    scipy_io.savemat(tmp_path / "a.mat", {"depth": depth, "dir_deg": half, "deg_reduce": 2})
    maps = decode_boundary((tmp_path / "a.mat").read_bytes(), "a.mat")
    assert maps.distance.tolist() == depth.tolist()
    assert maps.angle.tolist() == [[-180, 0], [180, -90]]


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"not a MAT file, but long enough to look at" * 10)
    with pytest.raises(DatasetError, match=r"a\.mat is no MAT file"):
        decode_boundary((tmp_path / "a.mat").read_bytes(), "a.mat")


def test_a_mat_file_without_the_maps_is_refused(tmp_path):
    scipy_io.savemat(tmp_path / "a.mat", {"depth": np.zeros((2, 2), np.uint8)})
    with pytest.raises(DatasetError, match=r"a\.mat is no dt_offset file: KeyError\('dir_deg'\)"):
        decode_boundary((tmp_path / "a.mat").read_bytes(), "a.mat")


def test_training_takes_the_stored_map_of_a_label_and_computes_it_for_one_without(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "dt_offset").mkdir()
    (tmp_path / "classes.txt").write_text("left\nright\n")
    label = np.repeat([[0] * 16 + [1] * 16], 32, axis=0).astype(np.uint8)
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.zeros((32, 32, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "labels" / f"{name}.png"), label)
    stored = np.full((32, 32), 9, np.uint8)
    scipy_io.savemat(tmp_path / "dt_offset" / "a.mat", {"depth": stored, "dir_deg": stored, "deg_reduce": 2})
    rule = Augmentation(
        crop=(32, 32), scale=None, scale_range=(1.0, 1.0), category_max_ratio=None, flip=0.0, photometric=False,
        num_classes=2,
    )  # fmt: skip
    crops = Crops(open_dataset(tmp_path), rule, 2, boundaries=True)
    draws = np.random.default_rng(0)
    assert np.unique(crops.item(0, draws).target[..., 1]).tolist() == [9]
    assert crops.item(1, draws).target[0, :, 1].tolist() == [*range(16, 0, -1), *range(1, 17)]
