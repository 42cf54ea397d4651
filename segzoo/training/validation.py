"""Evaluation during training by the entry's test protocol, split over the processes, with a few pictures to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from segzoo.data import Dataset, Pair, ignore_value
from segzoo.data.ahead import read_ahead
from segzoo.evaluation.record import class_rows, totals
from segzoo.inference import Network, predict_with
from segzoo.metrics import ConfusionMatrix, scores
from segzoo.processes.endings import StopWish
from segzoo.processes.group import Group
from segzoo.protocol import Protocol


@dataclass(frozen=True)
class Shown:
    """A picture with its label and what the model makes of it."""

    pair: Pair
    prediction: NDArray[Any]


@dataclass(frozen=True)
class Validation:
    """Measures over all processes, by class, and this process's pictures."""

    measures: dict[str, float | int | None]
    classes: list[dict[str, Any]]
    shown: list[Shown]


def validate(
    model: nn.Module,
    dataset: Dataset,
    protocol: Protocol,
    group: Group,
    stop: StopWish,
    *,
    limit: int | None = None,
    show: int = 0,
) -> Validation | None:
    """The same numbers as `evaluate` gives, in float32; None where `stop` was wished for before the end.

    The model is left in evaluation mode.

    Args:
        limit: only the first images of the data set.
        show: number of pictures to hand back, of those that this process has.

    Raises:
        DatasetError: an image or label cannot be read.
        SegzooError: logits that are no numbers.
    """
    network = Network(model.eval(), device=group.device)
    confusion = ConfusionMatrix(dataset.num_classes, ignore=ignore_value(dataset.num_classes))
    count = len(dataset) if limit is None else min(limit, len(dataset))
    shown: list[Shown] = []
    own = range(group.rank, count, group.size)
    # Spread evenly: neighbours in a data set are often frames of one film.
    chosen = {round(place * (len(own) - 1) / max(show - 1, 1)) for place in range(show)}
    for number, pair in enumerate(read_ahead(dataset, own, workers=1)):
        if stop.signal_number:
            break
        prediction = predict_with(network, pair.image, protocol)
        confusion.update(prediction, pair.label)
        if number in chosen:
            shown.append(Shown(pair, prediction))
    stopping, *counts = group.total([float(stop.signal_number), *confusion.counts.ravel().astype(float).tolist()])
    if stopping:
        return None
    whole = scores(np.array(counts).astype(np.int64).reshape(confusion.counts.shape))
    return Validation(totals(whole), class_rows(dataset.classes, whole), shown)
