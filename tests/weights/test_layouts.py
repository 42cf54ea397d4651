"""Renaming rules: both directions, detection, clashes."""

from __future__ import annotations

import pytest

from segzoo.errors import IntegrityError
from segzoo.weights.layout import Layout, Rename
from segzoo.weights.layouts import LAYOUTS, NATIVE, detect_layout, to_names_of

OTHER = Layout(
    name="other",
    detect=("encoder.block.{stage}.{index}.{rest*}",),
    renames=(
        Rename("encoder.block.{stage}.{index}.{rest*}", "backbone.{stage}.blocks.{index}.{rest*}"),
        Rename("classifier.{kind}", "decode_head.conv_seg.{kind}"),
    ),
)
THEIRS = {"encoder.block.0.11.attn.q.weight": 1, "classifier.bias": 2, "epoch": 3}
OURS = {"backbone.0.blocks.11.attn.q.weight": 1, "decode_head.conv_seg.bias": 2, "epoch": 3}


def test_one_table_renames_in_both_directions():
    assert OTHER.to_native(THEIRS) == OURS
    assert OTHER.from_native(OURS) == THEIRS


def test_a_single_placeholder_is_one_part_between_dots():
    assert Rename("classifier.{kind}", "head.{kind}").to_ours("classifier.conv.bias") is None


def test_dots_in_a_template_are_only_dots():
    assert Rename("a.{x}", "b.{x}").to_ours("a_weight") is None


def test_both_sides_of_a_rule_need_the_same_placeholders():
    with pytest.raises(ValueError, match="same placeholders"):
        Rename("a.{x}.{y}", "b.{x}")


def test_two_tensors_with_one_new_name_are_an_error():
    with pytest.raises(IntegrityError, match=r"two tensors would be called head\.bias"):
        Layout(name="clash", renames=(Rename("classifier.{x}", "head.{x}"),)).to_native(
            {"head.bias": 1, "classifier.bias": 2}
        )


def test_a_layout_is_recognised_when_every_template_has_a_key():
    assert OTHER.recognises(THEIRS)
    assert not OTHER.recognises(OURS)
    assert not OTHER.recognises([])


def test_a_prefix_counts_only_when_every_key_has_it():
    assert detect_layout(["module.a.weight", "module.b"]).name == "data-parallel"
    assert detect_layout(["module.a.weight", "b"]) is NATIVE


def test_prefixes_in_prefixes_come_off_one_after_the_other():
    state = {"module._orig_mod.a.weight": 1, "module._orig_mod.b": 2}
    own = ["a.weight", "b"]
    assert to_names_of(own, state) == ({"a.weight": 1, "b": 2}, "data-parallel+torch-compile", ())
    assert to_names_of(own, {"a.weight": 1}) == ({"a.weight": 1}, "native", ())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_of_the_table_returns_to_where_it_began(layout):
    ours = {"backbone.levels.0.blocks.1.attn.qkv.weight": 1, "decode_head.fusion.bias": 2}
    assert layout.to_native(layout.from_native(ours)) == ours
