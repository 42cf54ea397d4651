"""Measures of a segmentation, from exact integer counts."""

from segzoo.metrics.confusion import ConfusionMatrix
from segzoo.metrics.iou import Scores, scores

__all__ = ["ConfusionMatrix", "Scores", "scores"]
