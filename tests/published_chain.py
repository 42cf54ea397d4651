"""The published test protocol written down plainly, at full size and step by step, to compare the fast one with."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from segzoo.protocol import Protocol


def probabilities(model: torch.nn.Module, image: np.ndarray, protocol: Protocol) -> torch.Tensor:
    """Mean softmax probabilities [C, H, W] of all views, each of them formed at full size."""
    total, count = 0, 0
    for ratio in protocol.ratios:
        pixels = network_input(image, protocol, ratio)
        for mirrored in (False, True) if protocol.flip else (False,):
            axis = -1 if protocol.flip_direction == "horizontal" else -2
            seen = pixels.flip(axis) if mirrored else pixels
            logits = slide(model, seen, protocol) if protocol.mode == "slide" else upsampled(model(seen), seen)
            resized = F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)
            view = resized.softmax(1)
            total, count = total + (view.flip(axis) if mirrored else view), count + 1
    return total[0] / count


def labels(model: torch.nn.Module, image: np.ndarray, protocol: Protocol) -> np.ndarray:
    with torch.inference_mode():
        return probabilities(model, image, protocol).argmax(0).numpy()


def margin(model: torch.nn.Module, image: np.ndarray, protocol: Protocol) -> np.ndarray:
    """How far the best class's probability is above the second's, at every pixel."""
    with torch.inference_mode():
        best = probabilities(model, image, protocol).topk(2, 0).values
    return (best[0] - best[1]).numpy()


def network_input(image: np.ndarray, protocol: Protocol, ratio: float) -> torch.Tensor:
    height, width = image.shape[:2]
    if protocol.scale is None:
        size = int(height * ratio + 0.5), int(width * ratio + 0.5)
    else:
        long, short = (int(side * ratio) for side in (max(protocol.scale), min(protocol.scale)))
        factor = min(long / max(height, width), short / min(height, width))
        size = int(height * factor + 0.5), int(width * factor + 0.5)
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    if protocol.size_divisor:
        size = tuple(int(np.ceil(side / protocol.size_divisor)) * protocol.size_divisor for side in size)
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    normalised = (image.astype(np.float32) - np.float32(protocol.mean)) / np.float32(protocol.std)
    return torch.from_numpy(normalised.transpose(2, 0, 1)[None].copy())


def upsampled(logits: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    return F.interpolate(logits, size=seen.shape[2:], mode="bilinear", align_corners=False)


def slide(model: torch.nn.Module, seen: torch.Tensor, protocol: Protocol) -> torch.Tensor:
    (crop_height, crop_width), (step_height, step_width) = protocol.crop, protocol.stride
    height, width = seen.shape[2:]
    total, covered = 0, torch.zeros(1, 1, height, width)
    for row in range(max(height - crop_height + step_height - 1, 0) // step_height + 1):
        for column in range(max(width - crop_width + step_width - 1, 0) // step_width + 1):
            bottom, right = min(row * step_height + crop_height, height), min(column * step_width + crop_width, width)
            top, left = max(bottom - crop_height, 0), max(right - crop_width, 0)
            window = seen[:, :, top:bottom, left:right]
            if protocol.pad_windows:
                window = F.pad(window, (0, crop_width - (right - left), 0, crop_height - (bottom - top)))
            logits = upsampled(model(window), window)[:, :, : bottom - top, : right - left]
            total = total + F.pad(logits, (left, width - right, top, height - bottom))
            covered[:, :, top:bottom, left:right] += 1
    return total / covered
