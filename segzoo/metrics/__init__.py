"""Measures of a segmentation, from exact integer counts."""

from segzoo.metrics.confusion import ConfusionMatrix
from segzoo.metrics.image_areas import ImageAreas, read_areas, write_areas
from segzoo.metrics.iou import Scores, scores

__all__ = ["ConfusionMatrix", "ImageAreas", "Scores", "read_areas", "scores", "write_areas"]
