"""A segmentation model as a task of the loop: crops of labelled pictures, the recipe's losses, mIoU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from segzoo import kernels
from segzoo.data import Dataset, ignore_value, read_pair
from segzoo.data.boundary import boundary
from segzoo.data.folders import FoldersDataset
from segzoo.data.policy import index_dtype
from segzoo.data.transforms import Augmentation, augmented
from segzoo.errors import DatasetError
from segzoo.processes.endings import StopWish
from segzoo.processes.group import Group
from segzoo.protocol import Protocol
from segzoo.training.batches import Collate, ToDevice
from segzoo.training.losses import weighted_losses
from segzoo.training.parameter_groups import parameter_groups
from segzoo.training.pictures import palette_of, write_grid
from segzoo.training.plan import seed_of
from segzoo.training.samples import Item
from segzoo.training.settled_batch_norm import batches_of_pictures, settle
from segzoo.training.sync_batch_norm import freeze_batch_norms
from segzoo.training.unept_losses import unept_losses
from segzoo.training.validation import validate
from segzoo.zoo.schema import Recipe

_LABELS_COUNTED = 256
_BOUNDARY_LOSSES = {"mask_logits", "direction_logits", "refined_logits"}
_LARGEST_WEIGHT = 10.0


class Crops:
    """Random crops of a data set's pairs."""

    def __init__(self, dataset: Dataset, rule: Augmentation, count: int, *, boundaries: bool = False) -> None:
        """Of the first `count` pictures; with `boundaries` a target is [h, w, 3]: class, distance, angle."""
        self.dataset, self.rule, self.count, self.boundaries = dataset, rule, count, boundaries

    def __len__(self) -> int:
        return self.count

    def item(self, index: int, draws: np.random.Generator) -> Item:
        """The crop of picture `index` for these draws.

        Raises:
            DatasetError: image or label cannot be read.
        """
        # OpenCV's own threads would fight with the network for the cores.
        cv2.setNumThreads(0)
        pair = read_pair(self.dataset, index)
        if not self.boundaries:
            sample = augmented(pair.image, pair.label, self.rule, draws)
            return Item(pair.name, sample.image, sample.label)
        maps = self.dataset.stored_boundary(index) if isinstance(self.dataset, FoldersDataset) else None
        if maps is None:
            maps = boundary(pair.label, ignore=ignore_value(self.rule.num_classes))
        if maps.distance.shape != pair.label.shape:
            raise DatasetError(
                f"the dt_offset file of {pair.name} has {maps.distance.shape} pixels, its label {pair.label.shape}"
            )
        sample = augmented(pair.image, pair.label, self.rule, draws, maps)
        return Item(pair.name, sample.image, np.dstack([sample.label, *sample.maps]).astype(np.int32))


class SegmentationLosses(nn.Module):
    """Model and losses in one call, which is what several processes share."""

    def __init__(
        self,
        model: nn.Module,
        outputs: Callable[[Tensor], dict[str, Tensor]],
        weights: dict[str, float],
        ignore: int,
        class_weights: Tensor | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs
        self.weights = weights
        self.ignore = ignore
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """([B, 3, H, W], [B, H, W] or, for UN-EPT, [B, H, W, 3]) -> loss terms by output."""
        if label.ndim == 4:
            indices, distance, angle = label.unbind(-1)
            return unept_losses(self.outputs(image), indices, distance, angle, self.weights, ignore=self.ignore)
        return weighted_losses(
            self.outputs(image), label, self.weights, ignore=self.ignore, class_weights=self.class_weights
        )


class Segmentation:
    """The task; see `Task` for its attributes.

    Args:
        model: on its device.
        dataset: to train on, `pictures` of it.
        held_out: to evaluate on by `protocol`; None evaluates nothing.
        work_dir: a grid of pictures is written below it at each evaluation.
        evaluate_limit: evaluate on the first images only.
        compile: run the model through torch.compile.
    """

    score = "miou_percent"
    size_option = "--crop"

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        group: Group,
        *,
        dataset: Dataset,
        held_out: Dataset | None,
        protocol: Protocol,
        work_dir: Path,
        pictures: int,
        seed: int,
        evaluate_limit: int | None = None,
        show: int = 4,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        self.model, self.recipe, self.group = model, recipe, group
        self.held_out, self.protocol, self.work_dir = held_out, protocol, work_dir
        if held_out is not None:
            kernels.load(group.device, only=["segmentation_tail"])  # Compiled before the loop, as the others are.
        self.evaluate_limit, self.show, self.seed = evaluate_limit, show, seed
        share = recipe.settled_batch_norm
        self.settled_from = None if share is None else int(share * recipe.iterations)
        num_classes = dataset.num_classes
        rule = Augmentation(
            crop=recipe.crop,
            scale=recipe.scale,
            scale_range=recipe.scale_range,
            category_max_ratio=recipe.category_max_ratio,
            flip=recipe.flip,
            photometric=recipe.photometric,
            num_classes=num_classes,
        )
        self.source = Crops(dataset, rule, pictures, boundaries=_BOUNDARY_LOSSES & recipe.losses.keys() != set())
        self.collate = (
            Collate(recipe.crop, ignore_value(num_classes), np.int32, (3,))
            if self.source.boundaries
            else Collate(recipe.crop, ignore_value(num_classes), index_dtype(num_classes))
        )
        self.to_device = ToDevice(group.device, protocol.mean, protocol.std, channels_last=channels_last)
        self.optimizer = make_optimizer(model, recipe)
        outputs = outputs_of(model)
        rarity = None
        if recipe.class_weights == "rarity":
            rarity = rarity_weights(dataset, pictures).to(group.device)
        self.losses = SegmentationLosses(
            model,
            torch.compile(outputs) if compile else outputs,
            recipe.losses,
            ignore_value(num_classes),
            rarity,
        )
        self.classes: list[dict[str, Any]] = []

    def train_mode(self, iteration: int) -> None:
        """Training mode; batch norms stay out of it where the recipe froze or settled them."""
        self.losses.train()
        if self.settled_from is not None and iteration >= self.settled_from:
            if iteration == self.settled_from:
                self._settle(iteration)
            freeze_batch_norms(self.model)
        elif self.recipe.frozen_batch_norm:
            freeze_batch_norms(getattr(self.model, "backbone", self.model))

    def _settle(self, iteration: int) -> None:
        """Statistics from whole training pictures, the same in every process."""
        torch.manual_seed(seed_of(self.seed, iteration))
        dataset, pictures = self.source.dataset, len(self.source)
        images = batches_of_pictures(dataset, pictures, self.protocol, self.recipe.batch_size)
        settle(self.model, outputs_of(self.model), (image.to(self.group.device) for image in images))

    def validate(self, iteration: int, stop: StopWish) -> dict[str, float | None] | None:
        """mIoU and the like by the protocol, and a grid of pictures below the work directory."""
        if self.held_out is None:
            raise ValueError("there is nothing to evaluate on")
        if self.settled_from is not None and iteration <= self.settled_from:
            self._settle(iteration)
        found = validate(
            self.model, self.held_out, self.protocol, self.group, stop, limit=self.evaluate_limit, show=self.show
        )
        if found is None:
            return None
        self.classes = found.classes
        if self.group.main and found.shown:
            palette = palette_of(self.held_out.palette, self.held_out.num_classes)
            write_grid(self.work_dir / "pictures" / f"iteration-{iteration:08d}.png", found.shown, palette)
        return {name: found.measures[name] for name in ("miou_percent", "macc_percent", "aacc_percent")}


def outputs_of(model: nn.Module) -> Callable[[Tensor], dict[str, Tensor]]:
    """The function of a model that gives all its outputs for training; that of a plain network gives "logits"."""
    named = getattr(model, "forward_outputs", None)
    return named if callable(named) else lambda image: {"logits": model(image)}


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over its groups of parameters."""
    groups = parameter_groups(model.named_parameters(), recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum or 0.0)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas or (0.9, 0.999))


def rarity_weights(dataset: Dataset, pictures: int) -> Tensor:
    """(mean share / share) ** 0.25 of each class over evenly spread labels, at most 10: float32 [K]."""
    counts = np.zeros(dataset.num_classes, np.int64)
    for index in np.unique(np.linspace(0, pictures - 1, min(pictures, _LABELS_COUNTED)).astype(int)):
        label = dataset.label(int(index))
        counts += np.bincount(label.ravel(), minlength=dataset.num_classes)[: dataset.num_classes]
    weights = (counts.mean() / np.maximum(counts, 1)) ** 0.25
    return torch.from_numpy(np.minimum(weights, _LARGEST_WEIGHT)).float()
