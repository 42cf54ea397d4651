"""What storing and editing do to an image: contrast, saturation, JPEG and pixels, on 0..1 (float32 [H, W, 3])."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


def contrast(pixels: Pixels, factor: float) -> Pixels:
    """Differences from each channel's mean, times `factor`."""
    mean = pixels.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    return (pixels - mean) * np.float32(factor) + mean


def saturate(pixels: Pixels, change: tuple[float, float]) -> Pixels:
    """The saturation (of hue, saturation and value) times the first number, plus the second."""
    colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    colours[..., 1] = (colours[..., 1] * np.float32(change[0]) + np.float32(change[1])).clip(0, 1)
    return cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)  # type: ignore[return-value]


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Through a JPEG file of `quality` (of 100), with colours at half the resolution."""
    stored = np.rint(pixels * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(stored, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read is not None, "OpenCV reads what it has written"
    return cv2.cvtColor(read, cv2.COLOR_BGR2RGB).astype(np.float32) / np.float32(255)


def pixelate(pixels: Pixels, factor: float) -> Pixels:
    """Means over blocks: made smaller by `factor` and large again without smoothing."""
    height, width = pixels.shape[:2]
    small = max(1, int(width * factor)), max(1, int(height * factor))
    blocks = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]
