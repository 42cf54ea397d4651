"""Exported files: what they give, for which sizes, and what they say about themselves."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo import kernels
from segzoo.errors import ToleranceError, UnavailableError, UsageError
from segzoo.export import parity
from segzoo.export.decompositions import adaptive_average_pool, attention, decomposed, neighborhood_attention
from segzoo.export.formats import get_format
from segzoo.export.onnx_model import OnnxModel
from segzoo.export.parity import check_sizes, compare_labels, compare_logits, picture
from segzoo.export.program import Program, SizeDependsError, trace
from segzoo.export.run import export_run
from segzoo.kernels import reference
from segzoo.protocol import Protocol

MINE = """
models:
  mine:
    architecture:
      backbone: {type: nat, embed_dim: 16, depths: [1, 1], num_heads: [1, 2], kernel_size: 3}
      head: {type: fcn, in_index: 0, channels: 8, num_convs: 1}
    dataset: scenes
    num_classes: 16
    protocol: scenes-whole
"""
WITH_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not WITH_ONNX, reason="needs onnx, onnxscript and onnxruntime")


@pytest.fixture(autouse=True)
def quiet_and_without_compiling(monkeypatch):
    monkeypatch.setenv("SEGZOO_KERNELS", "reference")
    with warnings.catch_warnings():
        # What PyTorch's exporters say about their own insides.
        warnings.simplefilter("ignore")
        # Their traces, which pytest would format line by line, take longer than the exports.
        logging.disable(logging.WARNING)
        yield
    logging.disable(logging.NOTSET)


class Everything(nn.Module):
    """A convolution, neighborhood attention, pooling, and deformable attention to the pooled map: all taken apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 24, 4, stride=4)
        self.rpb = nn.Parameter(torch.randn(2, 5, 5))
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stem(image)
        batch, _, height, width = features.shape
        q, k, v = features.permute(0, 2, 3, 1).unflatten(-1, (3, 2, 4)).unbind(3)
        near = kernels.neighborhood_attention_2d(q, k, v, self.rpb, kernel_size=3, dilation=2).flatten(3)
        pooled = F.adaptive_avg_pool2d(near.permute(0, 3, 1, 2), (3, 2))
        value = pooled.flatten(2).transpose(1, 2).unflatten(-1, (2, 4))
        places = torch.sigmoid(near.mean(-1)).reshape(batch, -1, 1, 1, 1, 1).expand(-1, -1, 2, 1, 2, 2)
        weights = torch.full_like(places[..., 0], 0.5)
        far = kernels.deformable_attention(value, [(3, 2)], places, weights)
        return self.head(torch.cat([near, far.reshape(batch, height, width, 8)], dim=-1).permute(0, 3, 1, 2))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("with_bias", [True, False])
def test_neighborhood_attention_taken_apart_equals_the_reference(dilation, with_bias):
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 2, 7, 9, 3, 5, dtype=torch.float64)
    bias = torch.randn(3, 5, 5, dtype=torch.float64) if with_bias else None
    words = (query, key, value, bias, 3, dilation, 0.4)
    for answer, truth in zip(neighborhood_attention(*words), reference.forward(*words), strict=True):
        torch.testing.assert_close(answer, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_taken_apart_equals_pytorch(masked):
    torch.manual_seed(2)
    query, key, value = torch.randn(3, 2, 3, 7, 4, dtype=torch.float64)
    mask = torch.randn(3, 7, 7, dtype=torch.float64) if masked else None
    truth = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(attention(query, key, value, mask), truth)


@pytest.mark.parametrize(("size", "bins"), [((7, 9), (3, 2)), ((6, 6), (1, 1)), ((5, 4), (6, 6)), ((12, 8), (6, 4))])
def test_adaptive_pooling_taken_apart_equals_pytorch(size, bins):
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(adaptive_average_pool(image, list(bins)), F.adaptive_avg_pool2d(image, bins))


def test_taken_apart_a_model_gives_the_same():
    model, image = Everything().eval(), torch.randn(1, 3, 32, 44)
    with torch.inference_mode():
        truth = model(image)
        with decomposed():
            answer = model(image)
    torch.testing.assert_close(answer, truth, rtol=1e-4, atol=1e-5)


def test_a_graph_has_none_of_our_operators_and_knows_its_sizes():
    program = trace(Everything().eval(), (1, 3, 32, 44), dynamic=True)
    assert not any("segzoo" in str(node.target) for node in program.exported.graph.nodes)
    assert program.is_open and program.smallest[0] <= 32 and program.smallest[1] <= 44
    assert program.takes(32, 44) and program.takes(100, 60) and not program.takes(1, 44)
    with torch.no_grad():
        image = torch.randn(1, 3, 48, 36)
        truth = Everything().eval()(image)
        torch.testing.assert_close(program.exported.module()(image), truth, rtol=1e-4, atol=1e-5)


class Branching(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return F.pad(image, (0, 0, 0, 4)) if image.shape[2] < 24 else image * 2


def test_a_graph_is_good_for_one_branch_alone():
    above = trace(Branching(), (1, 3, 32, 44), dynamic=True)
    assert above.smallest[0] == 24 and above.largest[0] is None and above.sizes.startswith("height 24 or more")
    below = trace(Branching(), (1, 3, 16, 44), dynamic=True)
    assert below.largest == (23, None) and not below.takes(24, 44)


class OneSize(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.reshape(1, 3, 32, 44) * 2


def test_a_model_of_one_size_cannot_leave_it_open():
    with pytest.raises(SizeDependsError, match="depends on its input size"):
        trace(OneSize(), (1, 3, 32, 44), dynamic=True)
    program = trace(OneSize(), (1, 3, 32, 44), dynamic=False)
    assert program.takes(32, 44) and not program.takes(32, 48) and program.sizes == "32x44 alone"
    with pytest.raises(UsageError, match="the model cannot take an input of 1x3x16x16"):
        trace(OneSize(), (1, 3, 16, 16), dynamic=False)


@needs_onnx
def test_an_onnx_file_gives_the_models_logits_at_other_sizes_too(tmp_path):
    model = Everything().eval()
    program = trace(model, (1, 3, 32, 44), dynamic=True)
    get_format("onnx").write(program, tmp_path / "all.onnx", {"classes": "[1]"})
    exported = OnnxModel(tmp_path / "all.onnx", threads=1)
    rows = compare_logits(model, exported, [(32, 44), (48, 36), (61, 75)], 1)
    assert [row["input"] for row in rows] == ["32x44", "48x36", "61x75"]
    assert max(row["largest_error"] for row in rows) < 1e-4
    assert exported.metadata == {"classes": "[1]"}
    row = compare_labels(model, exported, program, Protocol(scale=(80, 64)))
    assert row["protocol"] == "as published" and row["different_percent"] <= 0.1 and row["classes_seen"] > 1


@pytest.mark.parametrize(
    ("format", "suffix"),
    [("torch-export", ".pt2"), ("torchscript", ".ts"), pytest.param("onnx", ".onnx", marks=needs_onnx)],
)
def test_a_model_is_exported_checked_and_described(tmp_path, monkeypatch, format, suffix):
    (tmp_path / "mine.yaml").write_text(MINE)
    monkeypatch.setenv("SEGZOO_ZOO", str(tmp_path / "mine.yaml"))
    run = export_run("mine", format=format, output=tmp_path / f"model{suffix}", shape=(96, 128))
    assert run.metrics["largest_error"] < 1e-4 and run.metrics["labels_different_percent"] <= 0.1
    assert run.metrics["bytes"] > 4 * run.model["params"]
    row = run.breakdown["labels"][0]
    assert row["pixels"] == (96 * 128 if row["protocol"].startswith("whole") else 192 * 256)
    if format == "torchscript":
        files = {"metadata": "", "classes": "", "mean": ""}
        torch.jit.load(str(tmp_path / "model.ts"), _extra_files=files)
        texts = {key: text.decode() for key, text in files.items()}
    elif format == "torch-export":
        texts = {"classes": "", "mean": "", "protocol": "", "sizes": ""}
        torch.export.load(tmp_path / "model.pt2", extra_files=texts)
        assert json.loads(texts["protocol"])["scale"] == [256, 192]
    else:
        texts = OnnxModel(tmp_path / "model.onnx").metadata
        assert texts["sizes"] == run.conditions["sizes"]
    assert len(json.loads(texts["classes"])) == 16
    assert json.loads(texts["mean"]) == [123.675, 116.28, 103.53]


def test_a_file_that_gives_something_else_is_an_error():
    model = Everything().eval()
    program = Program(exported=None, shape=(1, 3, 32, 44))

    class Off(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return model(image).flip(1)

    class Small(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return model(image)[:, :4]

    with pytest.raises(ToleranceError, match=r"at 32x44 a logit of the file is off by"):
        compare_logits(model, Off(), [(32, 44)], 1)
    with pytest.raises(ToleranceError, match=r"gives \[1, 4, 8, 11\], not \[1, 5, 8, 11\]"):
        compare_logits(model, Small(), [(32, 44)], 1)
    with pytest.raises(ToleranceError, match="of the labels of the file differ"):
        compare_labels(model, Off(), program, Protocol())


def test_only_sizes_that_the_file_takes_are_compared():
    program = Program(exported=None, shape=(1, 3, 64, 96), smallest=(33, 33), largest=(95, None))
    assert check_sizes(program, Protocol()) == [(64, 96), (64, 160), (71, 109)]
    assert check_sizes(program, Protocol(size_divisor=32)) == [(64, 96), (64, 160)]
    assert check_sizes(Program(exported=None, shape=(1, 3, 64, 96)), Protocol()) == [(64, 96)]
    assert program.sizes == "height 33 to 95, width 33 or more"


def test_the_picture_is_always_the_same_and_has_contrast():
    assert (picture(20, 30) == picture(20, 30)).all() and picture(20, 30).shape == (20, 30, 3)
    assert picture(200, 300).std() > 30 and parity.PICTURE_SIZE == (192, 256)


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"coremltools is not installed: pip install 'segzoo\[coreml\]'"):
        export_run("nat-pico", format="coreml")
    with pytest.raises(UnavailableError, match=r"segzoo\[onnx\]"):
        export_run("nat-pico", format="onnx")


def test_words_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="did you mean 'onnx'"):
        export_run("nat-pico", format="onx")
    with pytest.raises(UsageError, match="has one input size"):
        export_run("nat-pico", format="torchscript", dynamic=True)
    with pytest.raises(UsageError, match="nat-picoo"):
        export_run("nat-picoo", format="torchscript")
