"""Reading weights files: what is understood, and what is refused without being run."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

from segzoo.errors import IntegrityError
from segzoo.weights.formats import detect_format
from segzoo.weights.read import read_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5, -2.0])}


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def assert_same(state):
    assert list(state) == list(STATE)
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "meta": {"epoch": 1, "CLASSES": ("a", "b"), "PALETTE": [[1, 2, 3]], "config": "x = 1"}},
        {"model": STATE, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}, "param_groups": []}},
        {"state_dict_ema": STATE, "state_dict": {"a.weight": torch.zeros(2, 3)}},
        {"model": {"a.weight": torch.zeros(2, 3)}, "model_ema": STATE},
        {"model": {"state_dict": STATE}},
        {"state_dict": STATE, "ema_state_dict": {"a.weight": torch.zeros(2, 3)}},
        {
            "state_dict": STATE,
            "meta": {"best": np.float64(0.5), "palette": np.zeros((2, 3), np.uint8), "n": np.int64(3)},
        },
    ],
    ids=["plain", "ordered", "mmcv", "args", "timm-ema", "deit-ema", "nested", "mmengine-ema", "numpy"],
)
def test_the_tensors_are_found_in_every_usual_wrapping(tmp_path, content, zipped):
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert detect_format(tmp_path / "w.pth") == ("zip" if zipped else "pickle")
    assert_same(read_state_dict(tmp_path / "w.pth"))


def test_the_content_decides_and_not_the_suffix(tmp_path):
    safetensors.torch.save_file(STATE, tmp_path / "w.pth")
    assert set(read_state_dict(tmp_path / "w.pth")) == set(STATE)
    torch.save(STATE, tmp_path / "w.safetensors")
    assert_same(read_state_dict(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_in_a_plain_pickle_is_named_and_never_run(tmp_path, protocol):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"state_dict": Evil(tmp_path / "ran")}, protocol=protocol))
    with pytest.raises(IntegrityError, match=r"contains code \((posix|nt|os)\.system\) and was not loaded") as caught:
        read_state_dict(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_named_and_never_run(tmp_path, zipped):
    content = {"state_dict": STATE, "meta": Evil(tmp_path / "ran")}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(IntegrityError, match=r"contains code \((posix|nt|os)\.system\)"):
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_that_names_os_system_itself_is_refused_by_that_name(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(IntegrityError, match=r"contains code \(os\.system\) and was not loaded"):
        read_state_dict(tmp_path / "w.pth")


def test_functions_of_allowed_packages_are_refused_too(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02cnumpy.testing._private.utils\nrunstring\nX\x01\x00\x00\x001}\x86R.")
    with pytest.raises(IntegrityError, match=r"contains code \(numpy\.testing\._private\.utils\.runstring\)"):
        read_state_dict(tmp_path / "w.pth")


def test_a_whole_pickled_module_is_refused_and_its_class_named(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(IntegrityError, match=r"contains code \(torch\.nn\.modules\.linear\.Linear\)"):
        read_state_dict(tmp_path / "w.pth")


def test_settings_of_packages_that_are_not_installed_do_not_stand_in_the_way(tmp_path):
    """A dictionary class of mmcv in "meta", written as mmcv's own pickle would name it."""
    torch.save({"state_dict": STATE, "meta": OrderedDict(epoch=3)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as archive, zipfile.ZipFile(tmp_path / "w.pth", "w") as changed:
        for item in archive.infolist():
            data = archive.read(item)
            if item.filename.endswith("data.pkl"):
                assert b"ccollections\nOrderedDict\n" in data
                data = data.replace(b"ccollections\nOrderedDict\n", b"cmmcv.utils.config\nConfigDict\n", 1)
            changed.writestr(item, data)
    assert_same(read_state_dict(tmp_path / "w.pth"))


def test_an_unknown_class_in_meta_is_named(tmp_path):
    data = pickle.dumps({"state_dict": {}, "meta": OrderedDict()}, protocol=2)
    assert b"ccollections\nOrderedDict\n" in data
    (tmp_path / "w.pth").write_bytes(data.replace(b"ccollections\nOrderedDict\n", b"csome.package\nSettings\n"))
    with pytest.raises(IntegrityError, match=r"\(some\.package\.Settings\)"):
        read_state_dict(tmp_path / "w.pth")


def saved(content, *, zipped):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"hello, world", "begins with b'hello, w'"),
        (saved(STATE, zipped=True)[:-100], "truncated"),
        (saved(STATE, zipped=False)[:-10], "corrupt or truncated"),
        (saved(STATE, zipped=False)[:300], "corrupt or truncated"),
        (b"\x80\x02\xff\xff\xff", "corrupt or truncated"),
        (safetensors.torch.save(STATE)[:40], "truncated"),
        (safetensors.torch.save(STATE)[:-4], "not a valid safetensors file"),
        ((9).to_bytes(8, "little") + b"{nothing}", "not a valid safetensors file"),
        (
            saved({"epoch": 3, "weights": {"a": torch.ones(1)}}, zipped=True),
            "it holds 'epoch', 'weights'",
        ),
        (saved({}, zipped=True), "it holds nothing"),
        (saved(torch.ones(3), zipped=True), "holds a Tensor, not a state dict"),
        (saved([torch.ones(3)], zipped=False), "holds a list, not a state dict"),
    ],
)
def test_a_bad_file_is_one_line_that_says_why(tmp_path, content, reason):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        read_state_dict(tmp_path / "w.pth")
    assert reason in str(caught.value) and str(tmp_path / "w.pth") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(IntegrityError, match="corrupt or truncated"):
        read_state_dict(tmp_path / "w.pth")


def test_a_missing_file_and_a_folder_are_clear_errors(tmp_path):
    with pytest.raises(IntegrityError, match="No such file"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(IntegrityError, match="Is a directory"):
        read_state_dict(tmp_path)


def test_reading_leaves_nothing_allowed_behind(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save(STATE, tmp_path / "w.pth")
    read_state_dict(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before
