"""Models from elsewhere by name: transformers', segmentation_models_pytorch's, and those of a function of one's own."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from colour_model import write_set
from torch import nn

from segzoo.errors import IntegrityError, UnavailableError, UsageError
from segzoo.evaluation import Setup, evaluate_name
from segzoo.inference import predict
from segzoo.models.foreign_logits import logits_of
from segzoo.registry import create_model, entry, get_protocol
from segzoo.zoo.foreign_names import assumptions, foreign_entry, is_foreign_name

FILE = """
import torch

class Blue(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, image):
        return {"out": image[:, 2:].repeat(1, self.classes, 1, 1), "aux": None}

def chosen(num_classes):
    return Blue(num_classes)

def five():
    return Blue(5)

def nothing():
    return "no model"

def failing():
    raise ValueError("no such weights")
"""


@pytest.fixture
def own_file(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


def save_segformer(folder, labels):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 3, 4]}
    config = transformers.SegformerConfig(**sizes, decoder_hidden_size=16, id2label=dict(enumerate(labels)))
    torch.manual_seed(1)
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


MANIFEST = """
datasets:
  mine:
    splits: {val: {images: images, labels: labels, count: 3}}
    classes: [class 0, class 1, class 2]
protocols:
  small: {mode: whole, scale: [96, 64], size_divisor: 32}
models:
  own-segformer:
    architecture:
      backbone:
        {type: mix_transformer, embed_dims: [8, 16, 24, 32], depths: [1, 1, 1, 1], num_heads: [1, 2, 3, 4]}
      head: {type: segformer, embed_dim: 16}
    dataset: mine
    num_classes: 3
    protocol: small
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A manifest with the same SegFormer as a row, its data, and the transformers model beside them."""
    from segzoo.zoo import manifest

    monkeypatch.setenv("SEGZOO_ZOO", str(tmp_path / "zoo.yaml"))
    monkeypatch.setenv("SEGZOO_DATA", str(tmp_path))
    (tmp_path / "zoo.yaml").write_text(MANIFEST)
    write_set(tmp_path / "mine", 3, size=(40, 60))
    save_segformer(tmp_path / "hub", ["class 0", "class 1", "class 2"])
    yield tmp_path
    manifest._load.cache_clear()


def test_a_segformer_of_transformers_gives_the_label_maps_of_our_own_with_its_weights(user):
    maps = {"hub": user / "maps-hub", "own": user / "maps-own"}
    hub = evaluate_name(f"hf:{user / 'hub'}", save_predictions=maps["hub"])
    own = evaluate_name("own-segformer", Setup(checkpoint=user / "hub"), save_predictions=maps["own"])
    assert (hub.conditions["dataset"], hub.conditions["protocol"]) == ("mine", "small")
    assert hub.conditions["protocol_fields"] == own.conditions["protocol_fields"]
    assert hub.breakdown["class"] == own.breakdown["class"] and hub.metrics["miou_percent"] > 0
    for name in ("000.png", "001.png", "002.png"):
        assert (maps["hub"] / name).read_bytes() == (maps["own"] / name).read_bytes()
    assert len(hub.model["values_sha256"]) == 64


def test_what_was_guessed_stands_in_the_notes_and_what_was_given_does_not(user):
    run = evaluate_name(f"hf:{user / 'hub'}")
    assert run.notes == [
        "assumed: data set mine (it has 3 classes too, 3 of them by the same name)",
        "assumed: protocol small",
        "assumed: ImageNet's mean and deviation (no preprocessor_config.json)",
    ]
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1.0], "do_normalize": True}
    (user / "hub" / "preprocessor_config.json").write_text(json.dumps(processor))
    from segzoo.zoo import hugging_face_files

    hugging_face_files.read.cache_clear()
    run = evaluate_name(f"hf:{user / 'hub'}", Setup(dataset="mine", protocol="small"))
    assert run.notes == ["normalisation: that of preprocessor_config.json"]
    assert run.conditions["protocol_fields"]["mean"] == (127.5, 127.5, 127.5)
    assert run.conditions["protocol_fields"]["std"] == (63.75, 127.5, 255.0)


def test_the_classes_of_the_hub_must_be_those_of_the_data_set(user):
    with pytest.raises(UsageError, match=r"hub has 3 classes, scenes has 16; .* was made for mine"):
        evaluate_name(f"hf:{user / 'hub'}", Setup(dataset="scenes"))
    other = save_segformer(user / "seven", [f"thing {index}" for index in range(7)])
    with pytest.raises(UsageError, match="has 7 classes, as no data set of the zoo has: give --dataset"):
        evaluate_name(f"hf:{other}")


def test_weights_that_are_missing_are_not_random_without_a_word(user):
    from safetensors.torch import load_file, save_file

    weights = user / "hub" / "model.safetensors"
    state = load_file(weights)
    state.pop("decode_head.classifier.weight")
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"1 weights are missing: decode_head\.classifier\.weight"):
        create_model(f"hf:{user / 'hub'}", pretrained=True)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("hf:", UsageError, "write hf:FOLDER or hf:OWNER/NAME"),
        ("hf:/nowhere/at all", UsageError, "there is no folder /nowhere/at all"),
        ("smp:", UsageError, "write smp:ARCHITECTURE"),
        ("smp:unet:", UsageError, "write smp:ARCHITECTURE"),
    ],
)
def test_names_that_say_too_little(name, error, said):
    with pytest.raises(error, match=said):
        foreign_entry(name)


def test_a_folder_without_a_config_and_a_damaged_one(tmp_path):
    with pytest.raises(IntegrityError, match=r"has no config\.json"):
        entry(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text('{"id2label": ')
    with pytest.raises(IntegrityError, match=r"config\.json cannot be read"):
        entry(f"hf:{tmp_path}")


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UnavailableError, match=r"pip install 'segzoo\[transformers\]'"):
        create_model(f"hf:{tmp_path}", num_classes=2)
    with pytest.raises(UnavailableError, match=r"pip install 'segzoo\[smp\]'"):
        create_model("smp:unet")


def test_a_model_of_the_hub_that_does_not_segment_is_refused(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="Unrecognized configuration class"):
        create_model(f"hf:{tmp_path}")


def test_smp_builds_for_the_classes_asked_for_and_takes_a_checkpoint(tmp_path):
    pytest.importorskip("segmentation_models_pytorch", reason="segmentation_models_pytorch is not installed")
    model = create_model("smp:fpn:resnet18", num_classes=3)
    assert model(torch.zeros(1, 3, 64, 96)).shape[:2] == (1, 3)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    data = write_set(tmp_path / "data", 2, size=(40, 60))
    run = evaluate_name("smp:fpn:resnet18", Setup(checkpoint=tmp_path / "weights.pth", dataset=data), limit=1)
    assert run.conditions["protocol_fields"]["size_divisor"] == 32 and run.model["params"] > 10_000_000
    with pytest.raises(UsageError, match=r"no published weights.*--checkpoint"):
        evaluate_name("smp:fpn:resnet18", Setup(dataset=data))
    with pytest.raises(UsageError, match="no architecture 'unett'; did you mean 'unet'"):
        create_model("smp:unett")
    with pytest.raises(UsageError, match="cannot build unet over 'resnet17'"):
        create_model("smp:unet:resnet17")


def test_a_function_gets_the_number_of_classes_if_it_takes_it(own_file, tmp_path):
    data = write_set(tmp_path / "data", 1)
    run = evaluate_name(f"{own_file}:chosen", Setup(dataset=data))
    assert run.metrics["images"] == 1 and "assumed: protocol image-size" in run.notes
    with pytest.raises(UsageError, match="gives 5 classes, data has 3"):
        evaluate_name(f"{own_file}:five", Setup(dataset=data))


def test_a_module_is_found_in_the_working_directory(own_file, monkeypatch):
    monkeypatch.chdir(own_file.parent)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert create_model("mine:five")(torch.zeros(1, 3, 4, 4)).shape == (1, 5, 4, 4)
    monkeypatch.delitem(sys.modules, "mine")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nothing", "returned a str; it must return a torch.nn.Module"),
        ("failing", "failed with ValueError: no such weights"),
        ("fife", "has no function 'fife'; did you mean 'five'"),
    ],
)
def test_functions_that_give_no_model(own_file, function, said):
    with pytest.raises(UsageError, match=said):
        create_model(f"{own_file}:{function}")


def test_modules_and_files_that_are_not_there():
    with pytest.raises(UsageError, match=r"cannot import no_such_module: .*installed"):
        create_model("no_such_module:build")
    with pytest.raises(UsageError, match=r"there is no file no_such\.py"):
        create_model("no_such.py:build")


def test_names_of_the_zoo_are_not_foreign():
    assert not any(is_foreign_name(name) for name in ("nat-tiny", "timm/resnet50+fpn", "a:", ":b", "a b:c"))
    assert all(is_foreign_name(name) for name in ("hf:a/b", "smp:unet", "pkg.models:build", "./dir/x.py:build"))


def test_logits_are_found_in_what_libraries_give():
    logits = torch.zeros(1, 2, 3, 3)
    assert logits_of(logits) is logits and logits_of({"out": logits, "aux": None}) is logits
    with pytest.raises(UsageError, match="the model gives a dict with the keys masks; it must give logits"):
        logits_of({"masks": logits})
    with pytest.raises(UsageError, match="the model gives a tuple"):
        logits_of((logits,))


def test_the_zoo_predicts_with_any_of_them(own_file):
    model = create_model(f"{own_file}:five")
    assert isinstance(model, nn.Module)
    labels = predict(model, np.zeros((5, 7, 3), np.uint8), get_protocol(f"{own_file}:five"))
    assert labels.shape == (5, 7) and not labels.any()
    assert assumptions(f"{own_file}:five")[0] == "assumed: data set ade20k (nothing says another)"
