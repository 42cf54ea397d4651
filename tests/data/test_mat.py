"""MAT files as scipy writes them, and as MATLAB does (compressed, small elements, big-endian)."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest

from segzoo.data.mat import decode_mat
from segzoo.errors import DatasetError

scipy_io = pytest.importorskip("scipy.io", reason="scipy writes the MAT files of these tests")

MAP = np.arange(12, dtype=np.uint16).reshape(3, 4) * 40


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_every_numeric_class_come_back(tmp_path, compressed):
    kinds = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
    arrays = {f"of_{kind}": (np.arange(12).reshape(3, 4) * 7).astype(kind) for kind in kinds}
    scipy_io.savemat(tmp_path / "a.mat", arrays | {"one": 5, "word": "dog"}, do_compression=compressed)
    found = decode_mat((tmp_path / "a.mat").read_bytes(), "a.mat")
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name
    assert int(found["one"].squeeze()) == 5 and found["word"] == "dog"


@pytest.mark.parametrize("compressed", [False, True])
def test_structs_in_structs_and_cells_come_back(tmp_path, compressed):
    """The layout of the Semantic Boundaries Dataset's labels."""
    cells = np.empty((2, 1), object)
    cells[0, 0], cells[1, 0] = np.eye(2), "x"
    content = {"Segmentation": MAP, "Boundaries": cells, "Inner": {"CategoriesPresent": np.array([[3.0]])}}
    scipy_io.savemat(tmp_path / "a.mat", {"GTcls": content}, do_compression=compressed)
    found = decode_mat((tmp_path / "a.mat").read_bytes(), "a.mat")["GTcls"]
    assert np.array_equal(found["Segmentation"], MAP)
    assert found["Inner"]["CategoriesPresent"].tolist() == [[3.0]]
    assert np.array_equal(found["Boundaries"][0], np.eye(2)) and found["Boundaries"][1] == "x"


def test_a_big_endian_file_and_a_smaller_stored_type_are_read():
    """By hand: a double array [2, 1] named "d" whose numbers 1 and 200 are stored as uint8, as MATLAB does."""
    tag = struct.Struct(">II").pack
    body = tag(6, 8) + struct.pack(">II", 6, 0) + tag(5, 8) + struct.pack(">ii", 2, 1)
    body += struct.pack(">HH", 1, 1) + b"d\0\0\0" + struct.pack(">HH", 2, 2) + bytes([1, 200, 0, 0])
    data = b"MATLAB 5.0".ljust(124) + b"\x01\x00" + b"MI" + tag(14, len(body)) + body
    assert decode_mat(data, "d.mat")["d"].tolist() == [[1.0], [200.0]]


def test_damaged_files_and_other_ones_are_refused(tmp_path):
    scipy_io.savemat(tmp_path / "a.mat", {"LabelMap": np.tile(MAP, (20, 20))}, do_compression=True)
    whole = (tmp_path / "a.mat").read_bytes()
    for cut in (129, 140, 200, len(whole) - 5):
        with pytest.raises(DatasetError, match=r"x\.mat is a damaged MAT file"):
            decode_mat(whole[:cut], "x.mat")
    with pytest.raises(DatasetError, match=r"is no MAT file of version 7\.3; save it with -v7"):
        decode_mat(b"MATLAB 7.3 MAT-file".ljust(600), "x.mat")
    with pytest.raises(DatasetError, match="is no MAT file that segzoo knows"):
        decode_mat(b"<html>", "x.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_no_damage_of_bytes_is_anything_but_an_error_of_the_data_set(compressed):
    """Random bytes changed and files cut off: read as something, or refused in a sentence; never a traceback."""
    buffer, rng, refused = io.BytesIO(), random.Random(5), 0
    content = {"GTcls": {"Segmentation": MAP, "word": "dog"}, "x": np.arange(6.0)}
    scipy_io.savemat(buffer, content, do_compression=compressed)
    for _ in range(400):
        data = bytearray(buffer.getvalue())
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(100, len(data))] = rng.randrange(256)
        try:
            decode_mat(bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data), "x.mat")
        except DatasetError:
            refused += 1
    assert refused > 100
