"""`scenes`: an endless data set of outdoor scenes that segzoo draws itself, the same pixels on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from segzoo.data.scenes_classes import CLASSES, PALETTE
from segzoo.data.scenes_dice import Array, Dice
from segzoo.data.scenes_layout import draw_camera, draw_site, draw_things, draw_weather, paint_backdrop
from segzoo.data.scenes_paint import IGNORED, Canvas

__all__ = ["CLASSES", "PALETTE", "SPLITS", "ScenesDataset", "draw_scene"]

VERSION = 1
SIZE = (192, 256)
SPLITS = {"train": 20000, "val": 100}


def draw_scene(index: int, split: str, size: tuple[int, int] = SIZE) -> tuple[Array, Array]:
    """One scene: image uint8 [H, W, 3] RGB and label uint8 [H, W] of class indices with 255 for ignored.

    A pure function of its arguments. The plan of a scene depends on split and index only, so that
    another size shows the same things in more or fewer pixels.

    Args:
        index: any integer from 0 to 2**32 - 1.
        split: "train" or "val"; any other word gives yet another series of scenes.
        size: height and width in pixels, at least 16.
    """
    height, width = size
    if min(size) < 16:
        raise ValueError(f"a scene is at least 16 pixels high and wide, not {height}x{width}")
    plan = Dice(split, index, "plan")
    camera = draw_camera(plan, height, width)
    light, zenith, cloudiness = draw_weather(plan)
    site = draw_site(plan)
    things = draw_things(plan, site)
    canvas = Canvas(camera, light)
    paint_backdrop(canvas, Dice(split, index, "backdrop"), zenith, cloudiness, site)
    for thing in things:
        if thing.shadow is not None:
            canvas.shade_ground(*thing.shadow)
    looks = Dice(split, index, "looks")
    for thing in things:
        thing.draw(canvas, looks)
    lens = Dice(split, index, "lens")
    _hide_below_bonnet(canvas, lens)
    return _expose(canvas.image, lens), canvas.label


def _hide_below_bonnet(canvas: Canvas, dice: Dice) -> None:
    """In some scenes the camera looks over a dark bonnet, whose pixels are ignored."""
    if not dice.chance(0.2):
        return
    height, width = canvas.label.shape
    rows = (np.arange(height) + 0.5)[:, None] / height
    columns = (np.arange(width) + 0.5)[None, :] / width - dice.between(0.45, 0.55)
    edge = dice.between(0.9, 0.95) + columns * columns * dice.between(0.1, 0.4)
    alpha = np.clip((rows - edge) * height + 0.5, 0.0, 1.0).astype(np.float32)[:, :, None]
    shade = ((rows - edge) * 160.0 + dice.between(24.0, 60.0)).astype(np.float32)[:, :, None]
    canvas.image += (shade - canvas.image) * alpha
    canvas.label[alpha[:, :, 0] >= 0.5] = IGNORED


def _expose(image: Array, dice: Dice) -> Array:
    """What lens and sensor do to the light [H, W, 3]: white balance, contrast, vignette, blur and noise, to uint8."""
    height, width, _ = image.shape
    warmth, contrast = dice.between(-0.07, 0.07), dice.between(0.85, 1.15)
    gain = np.asarray((1.0 + warmth, 1.0, 1.0 - warmth), np.float32) * contrast * dice.between(0.88, 1.12)
    offset = 110.0 * (1.0 - contrast) + dice.between(-6.0, 10.0)
    rows = ((np.arange(height) + 0.5) / height - 0.5)[:, None]
    columns = ((np.arange(width) + 0.5) / width - 0.5)[None, :]
    vignette = 1.0 - (rows * rows + columns * columns) * dice.between(0.0, 0.5)
    exposed = (image * gain + offset) * vignette.astype(np.float32)[:, :, None]
    if dice.chance(0.5):
        exposed = _soften(exposed, dice.between(0.1, 0.6))
    strength = dice.between(1.0, 9.0) / 128.0
    noise = dice.bytes_array(exposed.shape) + dice.bytes_array(exposed.shape) - 255
    exposed = exposed + noise.astype(np.float32) * strength
    return np.clip(np.floor(exposed + 0.5), 0.0, 255.0).astype(np.uint8)


def _soften(image: Array, amount: float) -> Array:
    """A blur over the four neighbours."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = (padded[:-2, 1:-1] + padded[2:, 1:-1]) + (padded[1:-1, :-2] + padded[1:-1, 2:])
    return image + (around * 0.25 - image) * amount


class ScenesDataset:
    """Scenes of one split in the terms that all data sets of segzoo share.

    Attributes:
        name: "scenes".
        split: "train" or "val".
        classes, palette, num_classes: the classes and an RGB colour for each.
        size: height and width of the pictures in pixels.
    """

    name = "scenes"

    def __init__(self, split: str = "val", count: int | None = None, size: tuple[int, int] = SIZE) -> None:
        if split not in SPLITS:
            raise ValueError(f"scenes has the splits {', '.join(SPLITS)}, not {split!r}")
        self.split = split
        self.size = size
        self.classes = list(CLASSES)
        self.palette = list(PALETTE)
        self.num_classes = len(CLASSES)
        self._count = SPLITS[split] if count is None else count
        self._latest: list[tuple[int, Array, Array] | None] = [None] * 16

    def __len__(self) -> int:
        return self._count

    def image(self, index: int) -> Array:
        """The picture, uint8 RGB [H, W, 3]."""
        return self._drawn(index)[1]

    def label(self, index: int) -> Array:
        """Class indices, uint8 [H, W]; 255 is ignored."""
        return self._drawn(index)[2]

    def image_name(self, index: int) -> str:
        """A name such as "scenes/val/00012"."""
        return f"{self.name}/{self.split}/{index:05d}"

    def fingerprint(self) -> str:
        """SHA-256 over the drawing code's version, split, count, size and the bytes of the first pictures."""
        digest = hashlib.sha256(f"scenes-{VERSION}/{self.split}/{len(self)}/{self.size}".encode())
        for index in range(min(4, len(self))):
            for array in draw_scene(index, self.split, self.size):
                digest.update(array.tobytes())
        return digest.hexdigest()

    def _drawn(self, index: int) -> tuple[int, Array, Array]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}/{self.split} has the pictures 0 to {len(self) - 1}, not {index}")
        # Image and label are asked for one after the other: draw once for both. Threads that read neighbouring
        # indices have a slot each, and what is returned is what was just looked at.
        slot = index % len(self._latest)
        latest = self._latest[slot]
        if latest is None or latest[0] != index:
            latest = self._latest[slot] = (index, *draw_scene(index, self.split, self.size))
        return latest
