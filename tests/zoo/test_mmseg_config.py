"""Configs are read, never executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from segzoo.errors import UsageError
from segzoo.zoo.mmseg_config import read_config


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder / "main.py"


def test_literals_arithmetic_and_splices(tmp_path):
    file = write(
        tmp_path,
        main="""
'''A docstring.'''
gpus = 8
norm = dict(mean=[1.5, -2], to_rgb=True)
model = dict(type='A', **norm)
iterations = 160000 * 8 // gpus + len([1, 2])
pipeline = [dict(type='Normalize', **norm), *[dict(type='Pad')]]
model['depth'] = (2, 2)[0]
channels = [sum([18, 36])] * 2
""",
    )
    config = read_config(file)
    assert config["model"] == {"type": "A", "mean": [1.5, -2], "to_rgb": True, "depth": 2}
    assert config["iterations"] == 160002
    assert config["pipeline"] == [{"type": "Normalize", "mean": [1.5, -2], "to_rgb": True}, {"type": "Pad"}]
    assert config["channels"] == [54, 54]


def test_bases_merge_and_delete_replaces(tmp_path):
    file = write(
        tmp_path,
        model="model = dict(backbone=dict(type='A', depth=1), head=dict(type='H', width=4))",
        schedule="optimizer = dict(type='SGD', momentum=0.9)\nruns = 1",
        main="""
_base_ = ['./model.py', './schedule.py']
model = dict(backbone=dict(depth=2))
optimizer = dict(_delete_=True, type='AdamW')
runs = _base_.runs + 1
width = '{{ _base_.model.head.width }}'
""",
    )
    config = read_config(file)
    assert config["model"] == {"backbone": {"type": "A", "depth": 2}, "head": {"type": "H", "width": 4}}
    assert config["optimizer"] == {"type": "AdamW"}
    assert config["runs"] == 2 and config["width"] == 4
    assert "_base_" not in config


def test_a_chain_of_bases(tmp_path):
    file = write(
        tmp_path, first="a = dict(x=1, y=1)", second="_base_ = 'first.py'\na = dict(y=2)", main="_base_ = './second.py'"
    )
    assert read_config(file) == {"a": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1\nimport os", "line 2: a Import statement"),
        ("x = open('/etc/passwd').read()", "line 1: the call"),
        ("x = __import__('os')", "line 1: the call __import__"),
        ("x = y", "the name 'y' is not known"),
        ("x = [i for i in range(3)]", "a ListComp expression"),
        ("x = (lambda: 1)()", "line 1: the call"),
        ("x = dict(a=1).b", "only _base_.x"),
        ("x = 9 ** 9 ** 9", "too large"),
        ("x = 'a' * 10000000000", "too large"),
        ("x = 1 / 0", "ZeroDivisionError"),
        ("x = {'a': 1}['b']", "KeyError 'b'"),
        ("x = (", "is not Python source"),
        ("_base_ = 'main.py'", "goes round in a circle"),
        ("_base_ = 'missing.py'", "cannot read the config"),
    ],
)
def test_anything_else_is_an_error_that_names_file_and_line(tmp_path, source, reason):
    file = write(tmp_path, main=source)
    with pytest.raises(UsageError) as caught:
        read_config(file)
    assert reason in str(caught.value)
    assert ".py" in str(caught.value)
