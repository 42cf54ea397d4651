"""SegFormer's layouts: any file into any of the models, and back to any layout, with every value in its place."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from fill import fill_state_dict
from oracle_files import oracle

import segzoo
from segzoo.errors import IntegrityError, UsageError
from segzoo.registry import entry
from segzoo.weights.convert import convert
from segzoo.weights.layouts import detect_layout, layout_named, to_names_of, translate
from segzoo.weights.layouts_segformer import HUGGING_FACE, HUGGING_FACE_5, ORIGINAL
from segzoo.weights.read import read_state_dict

UNUSED = {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}


@functools.cache
def filled(name: str) -> dict[str, torch.Tensor]:
    return fill_state_dict(segzoo.create_model(name).state_dict())


def convert_to(name: str, checkpoint: Path, to: str, output: Path) -> dict[str, torch.Tensor]:
    convert(name, segzoo.create_model(name, device="meta"), entry(name), checkpoint, to=to, output=output)
    return read_state_dict(output / "model.safetensors" if output.is_dir() else output)


@pytest.fixture
def original_b2(tmp_path) -> Path:
    torch.save({"meta": {"iter": 160000}, "state_dict": filled("segformer-b2")}, tmp_path / "original.pth")
    return tmp_path / "original.pth"


def test_the_published_key_map_holds_for_every_key_of_the_original():
    # The recorded map is the pairs of the specification; here it is applied key by key, by hand.
    facts = json.loads(oracle("segformer-b0/hf_keys.json").read_text())
    state = {key: torch.empty(shape) for key, shape in facts["original"].items()}
    assert detect_layout(state) is ORIGINAL
    theirs = translate(state, ORIGINAL, HUGGING_FACE)
    assert {key: list(value.shape) for key, value in theirs.items()} == facts["hugging_face"]
    newer = translate(state, ORIGINAL, HUGGING_FACE_5)
    assert {key: list(value.shape) for key, value in newer.items()} == facts["hugging_face_5"]


def test_the_nota_model_has_the_names_of_hugging_face():
    original = segzoo.create_model("segformer-b2", device="meta").state_dict()
    nota = segzoo.create_model("segformer-b2-nota", device="meta").state_dict()
    theirs = translate(original, ORIGINAL, HUGGING_FACE)
    assert {key: value.shape for key, value in theirs.items()} == {key: value.shape for key, value in nota.items()}
    assert layout_named("nota", original) is HUGGING_FACE


def test_keys_are_the_upper_half_of_the_original_and_values_the_lower():
    name = "backbone.block1.0.attn.kv.weight"
    both = torch.arange(8.0).reshape(4, 2)
    state = {name: both, "backbone.block1.0.attn.q.weight": both[:2]}
    apart = translate(state, ORIGINAL, HUGGING_FACE)
    attention = "segformer.encoder.block.0.0.attention.self"
    assert torch.equal(apart[f"{attention}.key.weight"], both[:2])
    assert torch.equal(apart[f"{attention}.value.weight"], both[2:])
    assert torch.equal(translate(apart, HUGGING_FACE, ORIGINAL)[name], both)


@pytest.mark.parametrize("word", ["hugging-face", "hugging-face-5", "nota"])
def test_a_round_trip_through_another_layout_returns_every_tensor(tmp_path, word):
    expected = filled("segformer-b0")
    torch.save(expected, tmp_path / "original.pth")
    there = tmp_path / "there.safetensors"
    converted = convert_to("segformer-b0", tmp_path / "original.pth", word, there)
    assert not set(converted) & set(expected)
    back = convert_to("segformer-b0", there, "original", tmp_path / "back.pth")
    assert list(back) == list(expected)
    for key, value in expected.items():
        assert torch.equal(back[key], torch.zeros_like(value) if key in UNUSED else value), key


@pytest.mark.parametrize("word", ["original", "hugging-face", "hugging-face-5"])
@pytest.mark.parametrize("name", ["segformer-b2", "segformer-b2-nota"])
def test_every_layout_loads_into_both_models_by_itself(original_b2, tmp_path, name, word):
    checkpoint = tmp_path / "checkpoint.pth"
    convert_to("segformer-b2", original_b2, word, checkpoint)
    model = segzoo.create_model(name, checkpoint=checkpoint)
    report = model.load_report
    home = detect_layout(model.state_dict()).name
    assert (report.perfect, report.layout) == (True, "native" if word == home else word)
    # What came in, seen under the original's names.
    state = translate(model.state_dict(), detect_layout(model.state_dict()), ORIGINAL)
    expected = filled("segformer-b2")
    for key in set(expected) - UNUSED:
        assert torch.equal(state[key], expected[key]), key


def test_the_same_weights_give_the_same_logits_in_both_models(original_b2):
    # LayerNorm eps is 1e-6 in places in one and 1e-5 everywhere in the other: 2e-5 of the deviation, by the record.
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        original, nota = (
            segzoo.create_model(name, checkpoint=original_b2)(image) for name in ("segformer-b2", "segformer-b2-nota")
        )
    assert (original - nota).abs().max() <= 1e-4 * original.std()


def test_a_folder_of_the_hub_loads_and_is_written_with_its_config(original_b2, tmp_path):
    folder = tmp_path / "hub"
    convert_to("segformer-b2", original_b2, "hugging-face", folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["depths"] == [3, 4, 6, 3]
    assert config["hidden_sizes"] == [64, 128, 320, 512]
    assert config["decoder_hidden_size"] == 768
    assert len(config["id2label"]) == 150
    assert segzoo.create_model("segformer-b2", checkpoint=folder).load_report.perfect


def test_an_empty_folder_and_a_file_in_parts_are_one_line_each(tmp_path):
    with pytest.raises(IntegrityError, match=r"is a folder without model\.safetensors or pytorch_model\.bin"):
        segzoo.create_model("segformer-b0", checkpoint=tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(IntegrityError, match="in several parts"):
        segzoo.create_model("segformer-b0", checkpoint=tmp_path)


def test_an_unknown_layout_names_those_there_are(original_b2, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'hugging-face'"):
        convert_to("segformer-b2", original_b2, "huging-face", tmp_path / "x.pth")
    with pytest.raises(UsageError, match=r"no layout 'nota' for this model; there are: native$"):
        layout_named("nota", segzoo.create_model("nat-mini", device="meta").state_dict())


def test_another_sizes_checkpoint_is_refused_with_a_report(original_b2, tmp_path):
    with pytest.raises(IntegrityError, match=r"does not fit segformer-b0: \d+ tensors fit, .* unexpected"):
        convert_to("segformer-b0", original_b2, "hugging-face", tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


def test_a_checkpoint_with_other_classes_is_explained(tmp_path):
    model = segzoo.create_model("segformer-b0", num_classes=19)
    torch.save(translate(model.state_dict(), ORIGINAL, HUGGING_FACE), tmp_path / "19.bin")
    with pytest.raises(IntegrityError, match="the file has 19 classes, the model 150"):
        segzoo.create_model("segformer-b0", checkpoint=tmp_path / "19.bin")
    assert segzoo.create_model("segformer-b0", num_classes=19, checkpoint=tmp_path / "19.bin").load_report.perfect


@pytest.mark.parametrize("name", ["segformer-b2", "segformer-b2-nota"])
@pytest.mark.parametrize("kind", ["flat", "classifier", "headless"])
def test_a_pretrained_encoder_starts_either_model(tmp_path, name, kind):
    backbone = {key: value for key, value in filled("segformer-b2").items() if key.startswith("backbone.")}
    if kind == "flat":
        state = {key.removeprefix("backbone."): value for key, value in backbone.items()}
        state |= {"head.weight": torch.zeros(1000, 512), "head.bias": torch.zeros(1000)}
    else:
        state = translate(backbone, ORIGINAL, HUGGING_FACE)
        if kind == "headless":
            state = {key.removeprefix("segformer."): value for key, value in state.items()}
        state |= {"classifier.weight": torch.zeros(1000, 512), "classifier.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "encoder.pth")
    model = segzoo.create_model(name, backbone_checkpoint=tmp_path / "encoder.pth")
    assert not model.load_report.missing
    loaded = translate(model.state_dict(), detect_layout(model.state_dict()), ORIGINAL)
    assert all(torch.equal(loaded[key], value) for key, value in backbone.items())


@pytest.mark.parametrize("name", ["segformer-nota-lsra", "segformer-nota-ea"])
def test_a_variants_own_file_is_left_as_it_is(name):
    # Its names look like Hugging Face's, yet its keys and values are not to be joined and split.
    state = {
        key: torch.empty(value.shape) for key, value in segzoo.create_model(name, device="meta").state_dict().items()
    }
    translation = to_names_of(state, state)
    assert translation.layout == "native"
    assert all(translation.state[key] is value for key, value in state.items())


def test_the_command_writes_a_file_and_reports_it(tmp_path):
    torch.save(filled("segformer-b0"), tmp_path / "b0.pth")
    command = ["convert", "segformer-b0", str(tmp_path / "b0.pth"), "--to", "hugging-face"]
    output = tmp_path / "b0.safetensors"
    done = subprocess.run(
        [sys.executable, "-m", "segzoo", *command, "-o", str(output), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    tensors = safetensors.torch.load_file(output)
    assert record["conditions"]["from"] == "original"
    assert record["metrics"] == {"tensors": len(tensors), "bytes": output.stat().st_size}
