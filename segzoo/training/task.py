"""What the loop asks of a task; segmentation.py and classification.py are the two that there are."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from segzoo.processes.endings import StopWish
from segzoo.training.batches import Collate, ToDevice
from segzoo.training.samples import Source
from segzoo.zoo.schema import Recipe


class Task(Protocol):
    """What is trained, and on what.

    Attributes:
        model: the module whose weights are kept.
        losses: called with (input, target) of a batch, gives the terms whose sum is minimised.
        optimizer: over groups with "lr_scale".
        recipe: for the schedule.
        size_option: the option of the command line that the height and width of its pictures are chosen by.
        score: the name of the measure, among what `validate` gives, that the best weights are chosen by.
        settled_from: the iteration that batch norms are settled before, where the recipe does that.
    """

    size_option: str
    score: str

    @property
    def model(self) -> nn.Module: ...  # noqa: D102

    @property
    def losses(self) -> nn.Module: ...  # noqa: D102

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...  # noqa: D102

    @property
    def recipe(self) -> Recipe: ...  # noqa: D102

    @property
    def source(self) -> Source: ...  # noqa: D102

    @property
    def collate(self) -> Collate: ...  # noqa: D102

    @property
    def to_device(self) -> ToDevice: ...  # noqa: D102

    @property
    def settled_from(self) -> int | None: ...  # noqa: D102

    def train_mode(self, iteration: int) -> None:
        """Puts the model into training mode, as the recipe wants it for iteration number `iteration`, from 0."""
        ...

    def validate(self, iteration: int, stop: StopWish) -> dict[str, float | None] | None:
        """The measures on held-out data; None when `stop` was wished for in between."""
        ...
