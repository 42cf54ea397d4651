"""Published pretraining files of Swin, ConvNeXt and MSCAN: recorded names and shapes, and features against timm's."""

from __future__ import annotations

import json
import re
import warnings

import pytest
import torch
from oracle_files import oracle

import segzoo
from segzoo.models.backbones import convnext, swin
from segzoo.registry import entry, names
from segzoo.weights.backbone import backbone_part, load_backbone
from segzoo.weights.layouts import LAYOUTS, NATIVE, detect_layout, to_names_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    timm = pytest.importorskip("timm")

# Recorded file: (model, layout, keys of the file that stay unused, modules of the backbone that begin anew).
MASKS = {f"stages.{place}.attn_mask" for place in ("0.blocks.1", "1.blocks.1", *(f"2.blocks.{i}" for i in (1, 3, 5)))}
CLASSIFIER = {"norm.weight", "norm.bias", "head.weight", "head.bias"}
FILES = {
    "swin-tiny": ("swin-tiny", "swin-original", CLASSIFIER | MASKS, {"norm0", "norm1", "norm2", "norm3"}),
    "swin-tiny-mmsegmentation": (
        "swin-tiny",
        "native",
        {"norm.weight", "norm.bias"} | MASKS,
        {"norm0", "norm1", "norm2", "norm3"},
    ),
    "convnext-tiny": ("convnext-tiny", "convnext-original", CLASSIFIER, {"norm0", "norm1", "norm2", "norm3"}),
    # As in the published runs, the classifier's last norm goes to the last output's.
    "convnext-tiny-mmclassification": ("convnext-tiny", "native", set(), {"norm0", "norm1", "norm2"}),
    "mscan-t-mmsegmentation": ("segnext-t", "mscan-mmsegmentation", set(), set()),
}
# Nobody published pretraining weights for these, or they are trained from scratch.
WITHOUT = {
    "nat-pico", "cae-base-300e", "cae-base-800e", "segformer-boostformer",
    *(f"segformer-nota-{variant}" for variant in (
        "lsra", "lsra-dest", "recursive", "ea", "lsrea-ham", "final", "hybrid", "mscan-ham", "mscan-mlp",
        "msca-triple", "window",
    )),
}  # fmt: skip


@pytest.fixture(scope="module")
def facts():
    return json.loads(oracle("pretraining-files/spec.json").read_text())


@pytest.mark.parametrize("file", FILES)
def test_every_tensor_of_a_published_file_finds_its_place(file, facts):
    name, layout, unused, anew = FILES[file]
    state = {key: torch.empty(shape, device="meta") for key, shape in facts["files"][file]["keys"].items()}
    model = segzoo.create_model(name, device="meta")
    translation = to_names_of(model.state_dict(), state)
    assert translation.layout == layout
    own = model.backbone.state_dict()
    _, part = backbone_part(translation.state, own)
    assert set(part) - set(own) == unused
    assert {key.split(".")[0] for key in set(own) - set(part)} == anew
    assert [key for key in part.keys() & own.keys() if part[key].shape != own[key].shape] == []


def test_the_authors_segmentors_are_read_as_well(facts):
    keys = facts["files"]["swin-tiny"]["keys"]
    state = {f"backbone.{key}": torch.empty(shape, device="meta") for key, shape in keys.items()}
    own = segzoo.create_model("swin-tiny", device="meta").state_dict()
    translation = to_names_of(own, state | {"decode_head.conv_seg.bias": torch.empty(150)})
    assert translation.layout == "swin-original"
    assert {key for key in own if key not in translation.state and key.startswith("backbone.")} == {
        f"backbone.norm{index}.{leaf}" for index in range(4) for leaf in ("weight", "bias")
    }
    assert translation.state["backbone.stages.0.downsample.reduction.weight"].shape == (192, 384)


def test_the_order_of_a_patch_merging_is_the_published_converters(facts):
    recorded = facts["swin_patch_merging"]
    layout = next(layout for layout in LAYOUTS if layout.name == "swin-original")
    line = torch.arange(4.0 * recorded["channels"])
    theirs = {
        "layers.0.downsample.norm.weight": line,
        "layers.0.downsample.reduction.weight": torch.stack([line, line + 100]),
    }
    ours = layout.to_native(theirs)
    for key in ("downsample.norm.weight", "downsample.reduction.weight"):
        assert ours[f"stages.0.{key}"].tolist() == recorded[key]
    back = layout.from_native(ours)
    assert all(torch.equal(back[key], value) for key, value in theirs.items())


def in_the_authors_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's names of a Swin changed to the authors', by the one difference that timm's own reader knows."""
    return {
        re.sub(r"^layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", key): value
        for key, value in state.items()
    }


@pytest.mark.parametrize("layout", ["swin-timm", "swin-original"])
def test_a_swin_classifier_gives_timms_features_after_loading(layout, tmp_path):
    torch.manual_seed(0)
    widths = {"embed_dim": 24, "depths": [2, 2, 2, 2], "num_heads": [2, 2, 4, 4], "window_size": 7}
    other = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, img_size=448, **widths).eval()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    state = other.state_dict()
    if layout == "swin-original":
        state = in_the_authors_names(state)
        again = timm.models.swin_transformer.checkpoint_filter_fn({"model": state}, other)
        assert again.keys() - other.state_dict().keys() == {"head.fc.fc.weight", "head.fc.fc.bias"}
    torch.save({"model": state}, tmp_path / "swin.pth")
    mine = swin.build(**widths).eval()
    report = load_backbone(mine, tmp_path / "swin.pth", name="swin")
    assert report.layout == layout and {key.split(".")[0] for key in report.missing} == {f"norm{i}" for i in range(4)}
    # At 224 pixels the last map is one window, which timm does not shift and mmsegmentation does.
    assert_same_features(mine, other, torch.randn(1, 3, 448, 448))


def test_a_convnext_classifier_gives_timms_features_after_loading(tmp_path):
    torch.manual_seed(0)
    widths = {"dims": [16, 32, 64, 128], "depths": [2, 2, 3, 2]}
    other = timm.create_model("convnext_tiny", num_classes=5, **widths).eval()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save(other.state_dict(), tmp_path / "convnext.pth")
    mine = convnext.build(**widths).eval()
    report = load_backbone(mine, tmp_path / "convnext.pth", name="convnext")
    assert report.layout == "convnext-timm"
    assert {key.split(".")[0] for key in report.missing} == {f"norm{i}" for i in range(4)}
    assert_same_features(mine, other, torch.randn(2, 3, 96, 160))


def assert_same_features(mine: torch.nn.Module, other: torch.nn.Module, image: torch.Tensor) -> None:
    for index in range(4):  # timm gives the maps before any norm of the outputs
        setattr(mine, f"norm{index}", torch.nn.Identity())
    with torch.inference_mode():
        theirs = other.forward_intermediates(image, output_fmt="NCHW", intermediates_only=True)
        for left, right in zip(mine(image), theirs, strict=True):
            assert (left - right).abs().max() <= 2e-5 * right.abs().max()


def test_no_model_of_the_zoo_is_taken_for_anothers_layout():
    smallest = {entry(name).architecture.backbone["type"]: name for name in reversed(names())}
    for name in smallest.values():
        layout = detect_layout(segzoo.create_model(name, device="meta").state_dict())
        assert layout is NATIVE or layout.name in ("original", "hugging-face"), name


def test_the_rows_without_pretraining_weights_are_known():
    assert {name for name in names() if all(weights.part != "backbone" for weights in entry(name).weights)} == WITHOUT


def test_the_layouts_in_the_zoo_are_known_words():
    known = {NATIVE.name} | {word for layout in LAYOUTS for word in (layout.name, *layout.aliases)}
    assert {weights.layout for name in names() for weights in entry(name).weights} <= known
