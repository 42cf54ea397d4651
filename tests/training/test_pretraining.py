"""Pretraining as a classifier: it learns, its backbone is taken by train, and views are what they should be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import RandomResizedCrop
from typer.testing import CliRunner

from segzoo.cli.app import app
from segzoo.data.image_folder import ImageFolder
from segzoo.errors import DatasetError, SegzooError, UsageError
from segzoo.training.classification import ClassificationLoss, middle, random_part
from segzoo.training.initialisation import initial_model
from segzoo.training.pretraining import Mixing, pretrain_name, pretraining_recipe
from segzoo.training.run import Options


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of noise, each around a colour of its own."""
    root, draws = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for index, name in enumerate(("blue", "green", "red")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = draws.integers(0, 80, (40, 50, 3))
                image[..., index] += 150
                Image.fromarray(image.astype(np.uint8)).save(root / split / name / f"{number}.png")
    return root


def test_a_backbone_learns_and_is_taken_by_train(folder, tmp_path):
    recipe = pretraining_recipe(side=32, iterations=25, batch_size=12, lr=0.01, warmup=2)
    options = Options(work_dir=tmp_path, device="cpu", workers=0, log_every=5, quiet=True, evaluate_every=0)
    run = pretrain_name("tiny", folder, recipe, Mixing(smoothing=0.1, mixup=0.2, cutmix=0.2), options)
    assert run.metrics["top1_percent"] > 90
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["top5_percent"] == 100.0
    model, _ = initial_model("tiny", str(tmp_path / "backbone.pt"), num_classes=3)
    trained = torch.load(tmp_path / "backbone.pt", weights_only=True)["model"]
    assert all(torch.equal(model.backbone.state_dict()[key], value) for key, value in trained.items())


def test_the_loss_is_smoothed_cross_entropy(folder):
    class Fixed(nn.Module):
        def forward(self, image):
            return image.new_tensor([[2.0, 0.0, -1.0]]).repeat(len(image), 1)

    loss = ClassificationLoss(Fixed(), 3, smoothing=0.1, mixup=0.0, cutmix=0.0)
    value = loss(torch.zeros(2, 3, 8, 8), torch.tensor([0, 0]))["class"]
    logs = np.array([2.0, 0.0, -1.0]) - np.log(np.exp([2.0, 0.0, -1.0]).sum())
    assert value.item() == pytest.approx(-(0.9 * logs[0] + 0.1 * logs.mean()), rel=1e-6)


def test_random_parts_have_the_usual_areas_and_shapes():
    draws = np.random.default_rng(0)
    parts = np.array([random_part((300, 400), draws) for _ in range(3000)])
    area, shape = parts[:, 2] * parts[:, 3] / 120000, parts[:, 3] / parts[:, 2]
    assert area.min() > 0.07 and area.max() <= 1.0 and shape.min() > 0.74 and shape.max() < 1.35
    assert (parts[:, 0] + parts[:, 2]).max() <= 300 and (parts[:, 1] + parts[:, 3]).max() <= 400
    torch.manual_seed(0)
    picture = torch.zeros(3, 300, 400)
    other = np.array([RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)])
    other_area, other_shape = other[:, 2] * other[:, 3] / 120000, other[:, 3] / other[:, 2]
    # Means of 3000 draws of a spread of 0.24 and 0.16: four standard deviations of their difference.
    assert abs(area.mean() - other_area.mean()) < 0.025
    assert abs(np.log(shape).mean() - np.log(other_shape).mean()) < 0.018


def test_the_middle_is_cut_at_seven_eighths():
    image = np.zeros((224, 448, 3), np.uint8)
    image[:, 224] = 255
    cut = middle(image, 112)
    assert cut.shape == (112, 112, 3) and cut[:, 54:58].max() > 100 and cut[:, :50].max() == 0


def test_the_command_makes_a_backbone_that_train_takes(folder, tmp_path, pictures):
    words = ["--device", "cpu", "-j", "0", "--quiet", "--json"]
    sizes = ["--side", "32", "--iterations", "2", "--batch-size", "4", "--warmup", "1"]
    work_dir = ["--work-dir", str(tmp_path / "before")]
    before = CliRunner().invoke(app, ["pretrain", "tiny", "--data-root", str(folder), *sizes, *work_dir, *words])
    assert before.exit_code == 0, before.output
    assert json.loads(before.stdout)["metrics"]["iterations"] == 2
    after = ["train", "tiny", "--dataset", str(pictures), "--init", str(tmp_path / "before" / "backbone.pt")]
    after += ["--work-dir", str(tmp_path / "after"), "--iterations", "1", "--eval-every", "-1"]
    result = CliRunner().invoke(app, [*after, *words])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["conditions"]["init"].endswith("backbone.pt")


def test_folders_that_are_none(tmp_path, folder):
    with pytest.raises(DatasetError, match="there is no folder"):
        ImageFolder(tmp_path, "train")
    (tmp_path / "train" / "empty").mkdir(parents=True)
    with pytest.raises(DatasetError, match="has no picture"):
        ImageFolder(tmp_path, "train")
    recipe = pretraining_recipe(side=32, iterations=2, batch_size=3, lr=0.01, warmup=0)
    with pytest.raises(UsageError, match="even number"):
        pretrain_name("tiny", folder, recipe, Mixing(), Options(work_dir=tmp_path, device="cpu"))


def test_a_side_larger_than_the_memory_and_a_lone_image_are_refused_before_a_picture_is_read(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(ImageFolder, "image", lambda dataset, index: pytest.fail("a picture was read"))
    options = Options(work_dir=tmp_path, device="cpu", workers=0, quiet=True)
    huge = pretraining_recipe(side=200000, iterations=2, batch_size=4, lr=0.01, warmup=0)
    with pytest.raises(SegzooError, match=r"a step on 4 images of 200000x200000 needs \d.* or a smaller --side$"):
        pretrain_name("tiny", folder, huge, Mixing(), options)
    # Of 32 pixels a fifth stage is left with one, and its batch norm has nothing to compare.
    alone = pretraining_recipe(side=32, iterations=2, batch_size=1, lr=0.01, warmup=0)
    with pytest.raises(UsageError, match="a single value of 1 image; give each device 2 images or more"):
        pretrain_name("recnext-m3", folder, alone, Mixing(mixup=0.0, cutmix=0.0), options)
