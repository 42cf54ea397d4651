"""Options that change speed or memory change nothing else; loss scaling and TensorBoard."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from segzoo.errors import UnavailableError, UsageError
from segzoo.registry import create_model
from segzoo.training.checkpoints import checkpoints
from segzoo.training.memory_saving import checkpoint_activations
from segzoo.training.named import recipe_for, train_name
from segzoo.training.run import Options


def train(work_dir: Path, pictures: Path, *, iterations: int = 2, **words) -> list[dict]:
    default = {"workers": 0, "device": "cpu", "log_every": 1, "evaluate_every": -1, "quiet": True}
    options = Options(**(default | {"work_dir": work_dir, "dataset": pictures} | words))
    train_name("tiny", recipe_for("tiny", iterations=iterations), options)
    return [json.loads(line) for line in (work_dir / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, pictures, tiny_zoo):
    return train(tmp_path_factory.mktemp("plain"), pictures)


@pytest.mark.parametrize("option", ["activation_checkpointing", "channels_last"])
def test_losses_and_gradients_stay(tmp_path, pictures, plain, option):
    lines = train(tmp_path, pictures, **{option: True})
    for line, other in zip(lines, plain, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert line["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


@pytest.mark.slow
def test_a_compiled_model_trains_alike(tmp_path, pictures, plain):
    # torch.compile falls back without a word where it cannot; its counters say whether it ran.
    counters = torch._dynamo.utils.counters
    counters.clear()
    lines = train(tmp_path, pictures, compile=True)
    assert counters["stats"]["unique_graphs"] > 0 and counters["inductor"]
    for line, other in zip(lines, plain, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert line["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


def test_blocks_run_again_in_training_only():
    torch.manual_seed(0)
    model = create_model("tiny")
    blocks = [module for module in model.modules() if type(module).__name__ == "NeighborhoodBlock"]
    keys = list(model.state_dict())
    assert checkpoint_activations(model) == len(blocks) == 4 and list(model.state_dict()) == keys
    calls = []
    blocks[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    image = torch.rand(2, 3, 32, 32)
    model(image)
    assert len(calls) == 1
    model.train()(image).sum().backward()
    assert len(calls) == 3
    with pytest.raises(UsageError, match="no blocks"):
        checkpoint_activations(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1)))


def test_fp16_scales_its_loss_and_keeps_the_scale(tmp_path, pictures):
    lines = train(tmp_path, pictures, iterations=3, dtype="fp16", save_every=1)
    assert all(line["loss"] < 10 for line in lines)
    content = torch.load(checkpoints(tmp_path)[0], weights_only=True)
    assert content["scaler"]["scale"] > 1 and content["settings"]["dtype"] == "fp16"
    again = train(tmp_path, pictures, iterations=3, dtype="fp16")
    assert [line["loss"] for line in again] == [line["loss"] for line in lines]


def test_tensorboard_gets_the_numbers_or_says_how_to_install_it(tmp_path, pictures):
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(UnavailableError, match=r"segzoo\[tensorboard\]"):
            train(tmp_path, pictures, tensorboard=True)
    else:
        train(tmp_path, pictures, tensorboard=True)
        assert list((tmp_path / "tensorboard").iterdir())
