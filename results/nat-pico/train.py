"""Trains nat-pico on `scenes` as the recipe in zoo.yaml says, on a CPU, and writes what happened as it goes.

    python results/nat-pico/train.py --folder /tmp/nat-pico

The folder receives the drawn pictures, a checkpoint to resume from and the final weights; log.jsonl is
written beside this script. One loop, read from top to bottom.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import segzoo
from segzoo.data.scenes import CLASSES, SIZE, draw_scene
from segzoo.protocol import IMAGENET_MEAN, IMAGENET_STD
from segzoo.registry import entry
from segzoo.zoo.manifest import load_manifest
from segzoo.zoo.schema import Recipe

NAME = "nat-pico"
LOG = Path(__file__).parent / "log.jsonl"


def drawn_pictures(folder: Path, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [count, H, W, 3] and labels [count, H, W] of a split, drawn once and then read from the folder."""
    files = folder / f"{split}_{count}_images.npy", folder / f"{split}_{count}_labels.npy"
    if not files[1].exists():
        with multiprocessing.Pool() as pool:
            scenes = pool.imap(_Draw(split), range(count), chunksize=16)
            images = np.lib.format.open_memmap(files[0], "w+", np.uint8, (count, *SIZE, 3))
            labels = np.empty((count, *SIZE), np.uint8)
            for index, (image, label) in enumerate(scenes):
                images[index], labels[index] = image, label
        images.flush()
        np.save(files[1], labels)
    return np.load(files[0], mmap_mode="r"), np.load(files[1], mmap_mode="r")


class _Draw:
    def __init__(self, split: str) -> None:
        self.split = split

    def __call__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_scene(index, self.split)


def class_weights(labels: np.ndarray) -> Tensor:
    """(mean share / share) ** 0.25 of each class: thin things are a twentieth of the road's pixels."""
    counts = np.bincount(labels.ravel(), minlength=256)[: len(CLASSES)]
    return torch.from_numpy(np.sqrt(np.sqrt(counts.mean() / counts))).float()


def normalised(images: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W]."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((torch.from_numpy(images).float() - mean) / std).permute(0, 3, 1, 2)


def augmented(image: Tensor, label: Tensor, recipe: Recipe, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Scales and crops the batch in one way; mirrors and recolours each picture in its own."""
    factor = random.uniform(*recipe.scale_range)
    size = [min(limit, round(side * factor)) for side, limit in zip(SIZE, recipe.crop, strict=True)]
    # Cropping first spares the enlargement of what would be cut off.
    height, width = (min(side, round(length / factor)) for side, length in zip(SIZE, size, strict=True))
    top, left = random.integers(SIZE[0] - height + 1), random.integers(SIZE[1] - width + 1)
    image = image[:, :, top : top + height, left : left + width]
    label = label[:, None, top : top + height, left : left + width].float()
    image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=factor < 1)
    label = F.interpolate(label, size=size, mode="nearest-exact")[:, 0].long()
    mirror = torch.from_numpy(random.random(len(image)) < recipe.flip)
    image = torch.where(mirror[:, None, None, None], image.flip(3), image)
    label = torch.where(mirror[:, None, None], label.flip(2), label)
    gain = 1 + 0.2 * random.uniform(-1, 1, (len(image), 1, 1, 1)) + 0.06 * random.uniform(-1, 1, (len(image), 3, 1, 1))
    shift = 0.25 * random.uniform(-1, 1, (len(image), 1, 1, 1))
    image = image * torch.from_numpy(gain).float() + torch.from_numpy(shift).float()
    return image.contiguous(memory_format=torch.channels_last), label


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """Parameters with the recipe's weight decay, those it frees from it, and vectors, which have none either."""
    free = [word for word, factors in recipe.paramwise.items() if factors.get("decay_mult") == 0.0]
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        plain = parameter.ndim == 1 or any(word in name for word in free)
        (others if plain else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]


def learning_rate(recipe: Recipe, iteration: int) -> float:
    """Linear warm-up times polynomial decay to zero."""
    start = min(1.0, (iteration + 1) / recipe.warmup["iterations"])
    return recipe.lr * start * (1 - iteration / recipe.iterations) ** recipe.schedule["power"]


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """All batch norms of the model."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def settle_batch_norms(model: nn.Module, images: np.ndarray) -> None:
    """Replaces the running statistics, which lag behind the weights, by the averages over these pictures."""
    for norm in batch_norms(model):
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for first in range(0, len(images), 16):
        model(normalised(images[first : first + 16]))
    for norm in batch_norms(model):
        norm.momentum = 0.1


@torch.no_grad()
def mean_iou_percent(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """mIoU over all pixels of the pictures, whole image, one scale."""
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for image, label in zip(images, labels, strict=True):
        logits = F.interpolate(model(normalised(image[None])), size=label.shape, mode="bilinear", align_corners=False)
        valid = label != 255
        pairs = label[valid].astype(np.int64) * len(CLASSES) + logits.argmax(1)[0].numpy()[valid]
        confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
    hits = np.diag(confusion)
    return float((hits / np.maximum(confusion.sum(0) + confusion.sum(1) - hits, 1)).mean() * 100)


def write(**record: object) -> None:
    """One line of the log, on the screen too."""
    line = json.dumps(record)
    print(line, flush=True)
    with LOG.open("a") as log:
        log.write(line + "\n")


def main() -> None:
    """Trains from the checkpoint in the folder if there is one, else from the beginning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    recipe = load_manifest().recipes[entry(NAME).recipe or ""]
    images, labels = drawn_pictures(options.folder, "train", options.pictures)
    held_images, held_labels = drawn_pictures(options.folder, "held", 40)
    rarity = class_weights(labels[::16])
    torch.manual_seed(options.seed)
    model = segzoo.create_model(NAME).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.lr, betas=recipe.betas or (0.9, 0.999))
    checkpoint, first = options.folder / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["iteration"]
    else:
        LOG.unlink(missing_ok=True)
    write(
        begin=first, pictures=len(images), batch=recipe.batch_size, threads=torch.get_num_threads(), seed=options.seed
    )
    began, losses = time.perf_counter(), []
    # In the last quarter batch norm uses fixed statistics, as it will in use: those of the pyramid's
    # smallest maps come from a handful of values a batch.
    settled = recipe.iterations * 3 // 4
    for iteration in range(first, recipe.iterations):
        random = np.random.default_rng([options.seed, iteration])
        chosen = np.sort(random.choice(len(images), recipe.batch_size, replace=False))
        batch, target = normalised(images[chosen]), torch.from_numpy(labels[chosen])
        batch, target = augmented(batch, target, recipe, random)
        if iteration == settled:
            settle_batch_norms(model, images[:512])
        for norm in batch_norms(model):
            norm.train(iteration < settled)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, iteration)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = model(batch)
        logits = F.interpolate(logits.float(), size=target.shape[1:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, target, weight=rarity, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.item())
        done = iteration + 1
        if done % 100 == 0:
            seconds = round(time.perf_counter() - began, 1)
            write(
                iteration=done,
                loss=round(sum(losses) / len(losses), 4),
                lr=learning_rate(recipe, done),
                seconds=seconds,
            )
            losses.clear()
        if done % 1000 == 0 or done == recipe.iterations:
            measured = copy.deepcopy(model)
            if done <= settled:
                settle_batch_norms(measured, images[:128])
            score = mean_iou_percent(measured.eval(), held_images, held_labels)
            write(iteration=done, held_miou_percent=round(score, 3))
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": done}, checkpoint
            )
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(weights, options.folder / f"{NAME}.safetensors")


if __name__ == "__main__":
    main()
