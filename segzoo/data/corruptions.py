"""Corrupted images: fifteen kinds at five strengths, the same for everyone.

Kinds and strengths are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, for images of any size as in Michaelis et al., "Benchmarking Robustness
in Object Detection", 2019. docs/evaluation.md says where these differ from the published ones.

An image is corrupted at its own size, before the test protocol resizes it. Whatever is drawn at random depends on
the image's name, the corruption and its strength, and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segzoo.data import corruptions_blur as blur
from segzoo.data import corruptions_digital as digital
from segzoo.data import corruptions_noise as noise
from segzoo.data import corruptions_weather as weather
from segzoo.data.dataset import Dataset
from segzoo.errors import UsageError, suggestion

STRENGTHS = (1, 2, 3, 4, 5)
FAMILIES = ("noise", "blur", "weather", "digital")
ALL = "all"


@dataclass(frozen=True)
class Kind:
    """A kind of corruption.

    Attributes:
        family: one of `FAMILIES`.
        apply: pixels 0..1, a strength's parameter and, where `random`, a generator -> pixels of any range.
        parameters: one for each strength.
        random: something is drawn.
    """

    family: str
    apply: Callable[..., NDArray[np.float32]]
    parameters: tuple[Any, ...]
    random: bool = False


KINDS: dict[str, Kind] = {
    "gaussian-noise": Kind("noise", noise.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38), random=True),
    "shot-noise": Kind("noise", noise.shot_noise, (60, 25, 12, 5, 3), random=True),
    "impulse-noise": Kind("noise", noise.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27), random=True),
    "defocus": Kind("blur", blur.defocus, (3, 4, 6, 8, 10)),
    "gaussian-blur": Kind("blur", blur.gaussian_blur, (1, 2, 3, 4, 6)),
    "motion": Kind("blur", blur.motion, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), random=True),
    "zoom": Kind("blur", blur.zoom, ((0.01, 1.1), (0.01, 1.15), (0.02, 1.2), (0.02, 1.24), (0.03, 1.3))),
    "fog": Kind("weather", weather.fog, ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)), random=True),
    "snow": Kind(
        "weather",
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        random=True,
    ),
    "frost": Kind(
        "weather", weather.frost, ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), random=True
    ),
    "brightness": Kind("weather", weather.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Kind("digital", digital.contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "saturate": Kind("digital", digital.saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
    "jpeg": Kind("digital", digital.jpeg, (25, 18, 15, 10, 7)),
    "pixelate": Kind("digital", digital.pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
}


@dataclass(frozen=True)
class Corruption:
    """One kind at one strength, 1 to 5."""

    kind: str
    strength: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.strength}"

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        """The image corrupted: uint8 RGB [H, W, 3], of the same size.

        Args:
            image: uint8 RGB [H, W, 3].
            name: of the image, unique in its data set.
        """
        kind = KINDS[self.kind]
        pixels = image.astype(np.float32) / np.float32(255)
        parameter = kind.parameters[self.strength - 1]
        drawn = (self._generator(name),) if kind.random else ()
        changed = kind.apply(pixels, parameter, *drawn)
        return np.rint(changed.clip(0, 1) * 255).astype(np.uint8)

    def _generator(self, name: str) -> np.random.Generator:
        digest = hashlib.sha256(f"{self}\n{name}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def parse_corruptions(words: list[str]) -> list[Corruption]:
    """The corruptions that words such as "fog:3", "fog", "noise", "weather:5" or "all" ask for, each once.

    A word without a strength stands for all five; a family for its kinds.

    Raises:
        UsageError: no such kind or strength.
    """
    found: dict[Corruption, None] = {}
    for word in words:
        name, separator, number = word.partition(":")
        if separator and number not in map(str, STRENGTHS):
            raise UsageError(
                f"impossible strength {number!r} in {word!r}: give 1 to 5, such as {name}:3, or {name} for all"
            )
        strengths = (int(number),) if separator else STRENGTHS
        found.update(dict.fromkeys(Corruption(kind, strength) for kind in _kinds(name) for strength in strengths))
    return list(found)


def corruption_of(word: str) -> Corruption:
    """The corruption of a word such as "fog:3".

    Raises:
        UsageError: no such kind or strength, or a word for several.
    """
    found = parse_corruptions([word])
    if len(found) != 1:
        raise UsageError(f"{word!r} stands for {len(found)} corruptions; give one, such as {found[0]}")
    return found[0]


def _kinds(name: str) -> list[str]:
    wanted = name.strip().lower().replace("_", "-")
    kinds = [kind for kind, entry in KINDS.items() if wanted in (kind, entry.family, ALL)]
    if not kinds:
        known = (ALL, *FAMILIES, *KINDS)
        raise UsageError(f"unknown corruption {name!r}{suggestion(wanted, known)}; there are: {', '.join(known)}")
    return kinds


class CorruptedDataset:
    """A data set whose images are corrupted when they are read; labels stay.

    Attributes:
        name, split, classes, num_classes: those of the data set.
    """

    def __init__(self, dataset: Dataset, corruption: Corruption) -> None:
        self.dataset, self.corruption = dataset, corruption
        self.name, self.split = dataset.name, dataset.split
        self.classes, self.num_classes = dataset.classes, dataset.num_classes

    @property
    def palette(self) -> list[tuple[int, int, int]] | None:
        """An RGB colour for each class, or None."""
        return self.dataset.palette

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The corrupted picture, uint8 RGB [H, W, 3]."""
        return self.corruption(self.dataset.image(index), self.dataset.image_name(index))

    def label(self, index: int) -> NDArray[Any]:
        """Class indices [H, W]."""
        return self.dataset.label(index)

    def image_name(self, index: int) -> str:
        """The data set's own name of the pair."""
        return self.dataset.image_name(index)

    def fingerprint(self) -> str:
        """That of the data set: the images are the same, what is done to them is a condition of its own."""
        return self.dataset.fingerprint()
