"""Scores as the numbers and rows of a record: percent, and None where a ratio is 0/0."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from segzoo import kernels
from segzoo.data import Dataset
from segzoo.metrics import Scores, write_areas
from segzoo.protocol import Protocol


def totals(of_all: Scores) -> dict[str, float | int | None]:
    """The metrics of the whole data set."""
    return {
        "miou_percent": percent(of_all.mean_iou),
        "macc_percent": percent(of_all.mean_accuracy),
        "aacc_percent": percent(of_all.pixel_accuracy),
        "pixels": int(of_all.label_area.sum()),
        "classes_with_iou": int((of_all.union > 0).sum()),
    }


def class_rows(classes: list[str], of_all: Scores) -> list[dict[str, Any]]:
    """A row for each class, in the data set's order; `pixels` are those of the labels."""
    columns = (of_all.iou, of_all.accuracy, of_all.label_area, of_all.prediction_area)
    return [
        {
            "class": name,
            "iou_percent": percent(iou),
            "accuracy_percent": percent(accuracy),
            "pixels": int(labelled),
            "predicted_pixels": int(predicted),
        }
        for name, iou, accuracy, labelled, predicted in zip(classes, *columns, strict=True)
    ]


def image_row(name: str, of_image: Scores) -> dict[str, Any]:
    """One image's scores: mIoU by the data set's rule, and over the classes of its label alone.

    "areas" holds its exact counts by class, see `write_areas`: intervals, comparisons and tables by image and
    class are computed from them.
    """
    return {
        "image": name,
        "miou_percent": percent(of_image.mean_iou),
        "labelled_miou_percent": percent(of_image.mean_iou_of_labelled),
        "accuracy_percent": percent(of_image.pixel_accuracy),
        "pixels": int(of_image.label_area.sum()),
        "areas": write_areas(of_image),
    }


def percent(ratio: float) -> float | None:
    """100 * ratio, or None for nan, which neither JSON nor a table has a number for."""
    return None if math.isnan(ratio) else 100.0 * float(ratio)


def conditions_of(dataset: Dataset, protocol: Protocol, device: torch.device) -> dict[str, Any]:
    """Data, protocol and machine of an evaluation, as far as they change its numbers."""
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "dataset_images": len(dataset),
        "data_fingerprint": dataset.fingerprint(),
        "protocol": describe_protocol(protocol),
        "protocol_fields": protocol_fields(protocol),
        "views": protocol.views,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "kernels": kernels.describe(device),
    }


def describe_protocol(protocol: Protocol) -> str:
    """A protocol in a few words: "slide 512x512 by 341x341 at 2048x512, 12 views"."""
    words: list[str] = [protocol.mode]
    if protocol.mode == "slide":
        words.append(f"{_by(protocol.crop)} by {_by(protocol.stride)}")
    words.append(f"at {_by(protocol.scale)}" if protocol.scale else "at the image's size")
    return " ".join(words) + ("" if protocol.views == 1 else f", {protocol.views} views")


def protocol_fields(protocol: Protocol) -> dict[str, Any]:
    """All that a protocol says."""
    return dataclasses.asdict(protocol)


def _by(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))
