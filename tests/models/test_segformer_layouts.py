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
from msgspec import structs
from oracle_files import oracle

import segzoo
from segzoo.errors import IntegrityError, UsageError
from segzoo.models.segmentor import build_segmentor
from segzoo.registry import entry
from segzoo.weights.backbone import load_backbone
from segzoo.weights.convert import convert
from segzoo.weights.layouts import detect_layout, layout_named, to_names_of, translate
from segzoo.weights.layouts_segformer import HUGGING_FACE, HUGGING_FACE_5, ORIGINAL
from segzoo.weights.load import LoadReport, load_weights
from segzoo.weights.read import read_state_dict
from segzoo.zoo.schema import Architecture

UNUSED = {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"}
SIZES = {"embed_dims": [16, 32, 40, 64], "depths": [1, 2, 1, 1], "num_heads": [1, 2, 5, 8]}
# One small model in the names of either side, as segformer-b2 and segformer-b2-nota are.
SMALL = {
    "original": Architecture(
        backbone={"type": "mix_transformer", **SIZES}, head={"type": "segformer", "embed_dim": 24}
    ),
    "nota": Architecture(backbone={"type": "segformer", **SIZES}, head={"type": "all_mlp", "embed_dim": 24}),
}


@functools.cache
def filled(side: str) -> dict[str, torch.Tensor]:
    return fill_state_dict(build_segmentor(SMALL[side], 150).state_dict())


def convert_to(side: str, checkpoint: Path, to: str, output: Path) -> dict[str, torch.Tensor]:
    model = build_segmentor(SMALL[side], 150, device="meta")
    row = structs.replace(entry("segformer-b2"), architecture=SMALL[side])
    convert(side, model, row, checkpoint, to=to, output=output)
    return read_state_dict(output / "model.safetensors" if output.is_dir() else output)


def loaded(side: str, checkpoint: Path) -> tuple[torch.nn.Module, LoadReport]:
    model = build_segmentor(SMALL[side], 150).eval()
    return model, load_weights(model, checkpoint, name=side)


def in_original_names(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return translate(model.state_dict(), detect_layout(model.state_dict()), ORIGINAL)


@pytest.fixture
def original(tmp_path) -> Path:
    torch.save({"meta": {"iter": 160000}, "state_dict": filled("original")}, tmp_path / "original.pth")
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
def test_a_round_trip_through_another_layout_returns_every_tensor(original, tmp_path, word):
    expected = filled("original")
    converted = convert_to("original", original, word, tmp_path / "there.safetensors")
    assert not set(converted) & set(expected)
    back = convert_to("original", tmp_path / "there.safetensors", "original", tmp_path / "back.pth")
    assert list(back) == list(expected)
    for key, value in expected.items():
        assert torch.equal(back[key], torch.zeros_like(value) if key in UNUSED else value), key


@pytest.mark.parametrize("word", ["original", "hugging-face", "hugging-face-5"])
@pytest.mark.parametrize("side", ["original", "nota"])
def test_every_layout_loads_into_both_models_by_itself(original, tmp_path, side, word):
    convert_to("original", original, word, tmp_path / "checkpoint.pth")
    model, report = loaded(side, tmp_path / "checkpoint.pth")
    home = detect_layout(model.state_dict()).name
    assert (report.perfect, report.layout) == (True, "native" if word == home else word)
    state = in_original_names(model)
    for key in set(filled("original")) - UNUSED:
        assert torch.equal(state[key], filled("original")[key]), key


def test_a_checkpoint_of_the_nota_model_becomes_an_original_one(tmp_path):
    torch.save(filled("nota"), tmp_path / "nota.pth")
    written = convert_to("nota", tmp_path / "nota.pth", "original", tmp_path / "original.pth")
    # The unused classifier is the original's alone: that model fills it, a conversion of NOTA's does not invent it.
    assert set(written) == set(filled("original")) - UNUSED
    assert torch.equal(
        written["backbone.block2.1.attn.kv.bias"][32:],
        filled("nota")["segformer.encoder.block.1.1.attention.self.value.bias"],
    )


def test_the_same_weights_give_the_same_logits_in_both_models(original):
    # LayerNorm eps is 1e-6 in places in one and 1e-5 everywhere in the other: 2e-5 of the deviation, by the record.
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, second = (loaded(side, original)[0](image) for side in SMALL)
    assert 0 < (first - second).abs().max() <= 1e-4 * first.std()


def test_a_folder_of_the_hub_loads_and_is_written_with_its_config(original, tmp_path):
    folder = tmp_path / "hub"
    convert_to("original", original, "hugging-face", folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["depths"] == [1, 2, 1, 1]
    assert config["hidden_sizes"] == [16, 32, 40, 64]
    assert config["decoder_hidden_size"] == 24
    assert [type(ratio) for ratio in config["mlp_ratios"]] == [int] * 4
    assert len(config["id2label"]) == 150
    assert loaded("original", folder)[1].perfect


def test_an_empty_folder_and_a_file_in_parts_are_one_line_each(tmp_path):
    with pytest.raises(IntegrityError, match=r"is a folder without model\.safetensors or pytorch_model\.bin"):
        segzoo.create_model("segformer-b0", checkpoint=tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(IntegrityError, match="in several parts"):
        segzoo.create_model("segformer-b0", checkpoint=tmp_path)


def test_an_unknown_layout_names_those_there_are(original, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'hugging-face'"):
        convert_to("original", original, "huging-face", tmp_path / "x.pth")
    with pytest.raises(UsageError, match=r"no layout 'nota' for this model; there are: native$"):
        layout_named("nota", segzoo.create_model("nat-mini", device="meta").state_dict())


def test_another_models_checkpoint_is_refused_with_a_report(original, tmp_path):
    model = segzoo.create_model("segformer-b0", device="meta")
    with pytest.raises(IntegrityError, match=r"does not fit segformer-b0: \d+ tensors fit, .* missing"):
        convert("segformer-b0", model, entry("segformer-b0"), original, to="nota", output=tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


def test_a_checkpoint_with_other_classes_is_explained(tmp_path):
    model = build_segmentor(SMALL["original"], 19)
    torch.save(translate(model.state_dict(), ORIGINAL, HUGGING_FACE), tmp_path / "19.bin")
    with pytest.raises(IntegrityError, match="the file has 19 classes, the model 150"):
        loaded("nota", tmp_path / "19.bin")
    assert load_weights(model, tmp_path / "19.bin", name="small").perfect


@pytest.mark.parametrize("side", ["original", "nota"])
@pytest.mark.parametrize("kind", ["flat", "classifier", "headless", "headless-5"])
def test_a_pretrained_encoder_starts_either_model(tmp_path, side, kind):
    backbone = {key: value for key, value in filled("original").items() if key.startswith("backbone.")}
    if kind == "flat":
        state = {key.removeprefix("backbone."): value for key, value in backbone.items()}
        state |= {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    else:
        state = translate(backbone, ORIGINAL, HUGGING_FACE_5 if kind.endswith("5") else HUGGING_FACE)
        if kind.startswith("headless"):
            state = {key.removeprefix("segformer."): value for key, value in state.items()}
        state |= {"classifier.weight": torch.zeros(1000, 64), "classifier.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "encoder.pth")
    model = build_segmentor(SMALL[side], 150)
    assert not load_backbone(model, tmp_path / "encoder.pth", name=side).missing
    state = in_original_names(model)
    assert all(torch.equal(state[key], value) for key, value in backbone.items())


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
    torch.save(segzoo.create_model("segformer-b0").state_dict(), tmp_path / "b0.pth")
    output = tmp_path / "b0.safetensors"
    words = ["convert", "segformer-b0", str(tmp_path / "b0.pth"), "--to", "hugging-face", "-o", str(output), "--json"]
    done = subprocess.run([sys.executable, "-m", "segzoo", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["conditions"]["from"] == "original"
    tensors = len(safetensors.torch.load_file(output))
    assert record["metrics"] == {"tensors": tensors, "bytes": output.stat().st_size}
