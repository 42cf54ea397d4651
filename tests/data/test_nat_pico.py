import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import segzoo
from segzoo import paths
from segzoo.data.scenes import CLASSES, ScenesDataset
from segzoo.registry import dataset_entry, entry

WEIGHTS = paths.embedded_weights("nat-pico.safetensors")


@pytest.fixture(scope="module")
def model():
    return segzoo.create_model("nat-pico", pretrained=True)


def test_the_embedded_file_is_small_and_in_half_precision():
    assert WEIGHTS.stat().st_size <= 3_000_000
    dtypes = {value.dtype for value in load_file(WEIGHTS).values()}
    assert dtypes == {torch.float16, torch.int64}


def test_the_model_is_small_and_in_single_precision(model):
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_500_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_manifest_and_the_drawing_code_name_the_same_classes():
    assert dataset_entry("scenes").classes == list(CLASSES)
    assert entry("nat-pico").num_classes == len(CLASSES)


def test_it_was_trained_on_what_is_drawn_today(model):
    """Of the first six validation scenes most pixels are right; a model or scenes of another version lose that."""
    dataset, protocol = ScenesDataset("val"), segzoo.get_protocol("nat-pico")
    right = valid = 0
    for index in range(6):
        label = dataset.label(index)
        found = segzoo.predict(model, dataset.image(index), protocol)
        assert found.shape == label.shape
        right += np.count_nonzero((found == label) & (label != 255))
        valid += np.count_nonzero(label != 255)
    assert right / valid > 0.85
