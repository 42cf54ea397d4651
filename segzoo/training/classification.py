"""Pretraining a backbone as a classifier: the task of the loop, as ImageNet's training is usually done.

Random area and shape of the crop, mirroring, mixup and cutmix through timm, label smoothing; top-1 and top-5 on the
middle of held-out pictures.

Letters: B batch, C channels, K classes, H height, W width.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.data.mixup import Mixup
from torch import Tensor, nn

from segzoo.data.image_folder import ImageFolder
from segzoo.data.transforms import Draws
from segzoo.processes.endings import StopWish
from segzoo.processes.group import Group
from segzoo.protocol import IMAGENET_MEAN, IMAGENET_STD
from segzoo.training.batches import Batch, Collate, ToDevice
from segzoo.training.samples import Item
from segzoo.training.segmentation import make_optimizer
from segzoo.zoo.schema import Recipe

_AREA, _SHAPE, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
_MIDDLE = 0.875
_VALIDATION_BATCH = 32


class Classifier(nn.Module):
    """The backbone's last map, its mean over all pixels, a norm and a linear layer: [B, 3, H, W] -> [B, K]."""

    def __init__(self, backbone: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, K]."""
        return self.head(self.norm(self.backbone(image)[-1].mean((2, 3))))


class RandomViews:
    """Training views of a folder of pictures: a random part, resized to a square, mirrored every other time."""

    def __init__(self, dataset: ImageFolder, side: int, flip: float) -> None:
        self.dataset, self.side, self.flip = dataset, side, flip

    def __len__(self) -> int:
        return len(self.dataset)

    def item(self, index: int, draws: np.random.Generator) -> Item:
        """A view of picture `index` for these draws.

        Raises:
            DatasetError: the picture cannot be read.
        """
        cv2.setNumThreads(0)
        image = self.dataset.image(index)
        top, left, height, width = random_part((image.shape[0], image.shape[1]), draws)
        view = shrunk(image[top : top + height, left : left + width], (self.side, self.side))
        if draws.random() < self.flip:
            view = np.ascontiguousarray(view[:, ::-1])
        return Item(self.dataset.image_name(index), view, np.array(self.dataset.class_of(index), np.int64))


def random_part(size: tuple[int, int], draws: Draws) -> tuple[int, int, int, int]:
    """(top, left, height, width) of 8 to 100 % of the area with sides as 3:4 to 4:3 (Inception's rule)."""
    for _ in range(_TRIES):
        area = size[0] * size[1] * draws.uniform(*_AREA)
        shape = math.exp(draws.uniform(math.log(_SHAPE[0]), math.log(_SHAPE[1])))
        width, height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < width <= size[1] and 0 < height <= size[0]:
            top, left = draws.integers(0, size[0] - height + 1), draws.integers(0, size[1] - width + 1)
            return int(top), int(left), height, width
    side = min(size)
    return (size[0] - side) // 2, (size[1] - side) // 2, side, side


def shrunk(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """`image` at another size, by areas where it becomes smaller."""
    smaller = size[0] < image.shape[0] or size[1] < image.shape[1]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=way)  # type: ignore[return-value]


def middle(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The middle square of `side` pixels after the shorter side was brought to side / 0.875."""
    short = round(side / _MIDDLE)
    height, width = image.shape[:2]
    factor = short / min(height, width)
    resized = shrunk(image, (max(short, round(height * factor)), max(short, round(width * factor))))
    top, left = (resized.shape[0] - side) // 2, (resized.shape[1] - side) // 2
    return np.ascontiguousarray(resized[top : top + side, left : left + side])


class ClassificationLoss(nn.Module):
    """Classifier and cross entropy with smoothed, and where wanted mixed, labels."""

    def __init__(self, model: nn.Module, num_classes: int, *, smoothing: float, mixup: float, cutmix: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.mix = None
        if mixup or cutmix:
            self.mix = Mixup(mixup, cutmix, label_smoothing=smoothing, num_classes=num_classes)

    def forward(self, image: Tensor, index: Tensor) -> dict[str, Tensor]:
        """([B, 3, H, W], [B]) -> {"class": loss}."""
        if self.mix is None or not self.training:
            return {"class": F.cross_entropy(self.model(image), index, label_smoothing=self.smoothing)}
        mixed, shares = self.mix(image, index)
        return {"class": F.cross_entropy(self.model(mixed).float(), shares)}


class Classification:
    """The task; see `Task` for its attributes.

    Args:
        model: a Classifier on its device.
        dataset, held_out: pictures to train on and to measure on.
    """

    score = "top1_percent"
    size_option = "--side"
    settled_from = None

    def __init__(
        self,
        model: Classifier,
        recipe: Recipe,
        group: Group,
        *,
        dataset: ImageFolder,
        held_out: ImageFolder,
        smoothing: float,
        mixup: float,
        cutmix: float,
        channels_last: bool = False,
    ) -> None:
        self.model, self.recipe, self.group, self.held_out = model, recipe, group, held_out
        side = recipe.crop[0]
        self.source = RandomViews(dataset, side, recipe.flip)
        self.collate = Collate(recipe.crop, 0, np.int64, None)
        self.to_device = ToDevice(group.device, IMAGENET_MEAN, IMAGENET_STD, channels_last=channels_last)
        self.optimizer = make_optimizer(model, recipe)
        self.losses = ClassificationLoss(
            model, len(dataset.classes), smoothing=smoothing, mixup=mixup, cutmix=cutmix
        ).to(group.device)
        self.classes: list[dict[str, Any]] = []

    def train_mode(self, iteration: int) -> None:
        """Training mode."""
        self.losses.train()

    @torch.no_grad()
    def validate(self, iteration: int, stop: StopWish) -> dict[str, float | None] | None:
        """Top-1 and top-5 accuracy in percent, over the pictures of all processes."""
        self.losses.eval()
        own = range(self.group.rank, len(self.held_out), self.group.size)
        hits = [0.0, 0.0, 0.0]
        for start in range(0, len(own), _VALIDATION_BATCH):
            if stop.signal_number:
                break
            places = own[start : start + _VALIDATION_BATCH]
            image, index = self.to_device(self._batch(list(places)))
            ranked = self.model(image).topk(min(5, len(self.held_out.classes)), dim=1).indices
            found = ranked == index[:, None]
            hits = [hits[0] + len(places), hits[1] + float(found[:, 0].sum()), hits[2] + float(found.sum())]
        stopping, count, first, five = self.group.total([float(stop.signal_number), *hits])
        if stopping:
            return None
        return {"top1_percent": 100 * first / count, "top5_percent": 100 * five / count}

    def _batch(self, places: list[int]) -> Batch:
        side = self.recipe.crop[0]
        images = np.stack([middle(self.held_out.image(place), side) for place in places])
        indices = torch.tensor([self.held_out.class_of(place) for place in places])
        extent = torch.tensor([[side, side]] * len(places))
        return Batch(torch.from_numpy(images), indices, extent, [self.held_out.image_name(place) for place in places])
