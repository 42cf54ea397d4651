"""How well borders between classes are met: Boundary IoU and the boundary F-score, from counts by image and class.

Boundary IoU: Cheng, Girshick, Dollár, Berg and Kirillov, "Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation", CVPR 2021, for semantic segmentation: a class's mask is all its pixels of an image, and intersections
and unions are added up over the images before they are divided, as for mIoU.
Boundary F-score: Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC
2013; the measure F of DAVIS (Perazzi et al., CVPR 2016) is the same for one object, with another tolerance.

Ignored pixels are neither inside nor outside of any class: no border runs along them, none of theirs is counted.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segzoo.metrics.iou import Scores

DILATION_RATIO = 0.02
"""Width of Boundary IoU's band, as a share of the image's diagonal; the paper's value."""
TOLERANCE_RATIO = 0.0075
"""Distance up to which a boundary pixel counts as met, as a share of the image's diagonal; Csurka's value."""


def band_width(height: int, width: int, *, ratio: float = DILATION_RATIO) -> int:
    """The width of Boundary IoU's band in pixels: rounded as in the authors' code, at least 1."""
    return max(1, round(ratio * math.hypot(height, width)))


def boundary_tolerance(height: int, width: int, *, ratio: float = TOLERANCE_RATIO) -> float:
    """The distance in pixels up to which a boundary pixel counts as met."""
    return ratio * math.hypot(height, width)


def boundary_areas(
    prediction: NDArray[Any], label: NDArray[Any], *, num_classes: int, ignore: int, ratio: float = DILATION_RATIO
) -> NDArray[np.int64]:
    """Boundary IoU's counts of one image: intersections, label's and prediction's bands by class, int64 [3, K].

    A pixel is in its class's band when one of another class is at most `band_width` rows and columns away
    (the authors' erosion by a 3 x 3 square), or the image's edge is.

    Args:
        prediction: class indices [H, W].
        label: class indices or the ignored value [H, W].
        num_classes: K.
        ignore: the ignored value of the label.
        ratio: band width by image diagonal.
    """
    valid = label != ignore
    width = band_width(*label.shape, ratio=ratio)
    label_band, prediction_band = (valid & _near_another_class(map_, valid, width) for map_ in (label, prediction))
    both = label_band & prediction_band & (label == prediction)
    chosen = label[both], label[label_band], prediction[prediction_band]
    return np.stack([np.bincount(values, minlength=num_classes)[:num_classes] for values in chosen])


def scores_of_boundary(areas: NDArray[np.int64]) -> Scores:
    """Boundary IoU by class (`iou`) and its mean (`mean_iou`) of summed counts [3, K]."""
    return Scores(intersect=areas[0], label_area=areas[1], prediction_area=areas[2])


def contour_matches(
    prediction: NDArray[Any], label: NDArray[Any], *, num_classes: int, ignore: int, ratio: float = TOLERANCE_RATIO
) -> NDArray[np.int64]:
    """The boundary F-score's counts of one image by class, int64 [4, K].

    Rows: pixels of the prediction's contour that lie nearer than the tolerance to the label's contour of that
    class, all of the prediction's; pixels of the label's that lie near the prediction's, all of the label's.
    A contour has the pixels of a class with one of another class among their eight neighbours. The image's edge
    is none.

    Args:
        prediction, label, num_classes, ignore: see `boundary_areas`.
        ratio: tolerance by image diagonal.
    """
    valid = label != ignore
    predicted, labelled = (valid & _near_another_class(map_, valid, 1, edge=False) for map_ in (prediction, label))
    counts = np.zeros((4, num_classes), np.int64)
    counts[1] = np.bincount(prediction[predicted], minlength=num_classes)[:num_classes]
    counts[3] = np.bincount(label[labelled], minlength=num_classes)[:num_classes]
    tolerance = boundary_tolerance(*label.shape, ratio=ratio)
    for index in np.flatnonzero((counts[1] > 0) & (counts[3] > 0)).tolist():
        one, other = predicted & (prediction == index), labelled & (label == index)
        box = _box(one | other)
        one, other = one[box], other[box]
        counts[0, index] = np.count_nonzero(_near(one, other, tolerance))
        counts[2, index] = np.count_nonzero(_near(other, one, tolerance))
    return counts


def contour_f(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The boundary F-score by class [..., K] of counts [..., 4, K], 0..1; nan without contours on both sides.

    A class with a contour on one side only has 0.
    """
    matched, predicted, found, labelled = (counts[..., row, :] for row in range(4))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(predicted > 0, matched / predicted, 0.0)
        recall = np.where(labelled > 0, found / labelled, 0.0)
        harmonic = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)
    return np.where((predicted > 0) | (labelled > 0), harmonic, np.nan)


def _near_another_class(
    classes: NDArray[Any], valid: NDArray[np.bool_], distance: int, *, edge: bool = True
) -> NDArray[np.bool_]:
    """Pixels with a valid one of another class, or with `edge` the image's edge, within `distance` rows and columns.

    In a square of one class the largest and the smallest value are its own; where pixels are ignored they are
    set to what changes neither. So two filters do for all classes what an erosion would do for each.
    """
    # uint16 holds all classes, moved up by one, and a value below and above them.
    own = classes.astype(np.uint16) + np.uint16(1)
    kernel = np.ones((2 * distance + 1, 1), np.uint8)
    largest, smallest = np.where(valid, own, np.uint16(0)), np.where(valid, own, np.uint16(65535))
    for side in (kernel, kernel.T):
        largest, smallest = cv2.dilate(largest, side), cv2.erode(smallest, side)
    near = (largest > own) | (smallest < own)
    if edge:
        near[:distance] = near[-distance:] = True
        near[:, :distance] = near[:, -distance:] = True
    return near


def _near(points: NDArray[np.bool_], others: NDArray[np.bool_], tolerance: float) -> NDArray[np.bool_]:
    """Those of `points` whose Euclidean distance to the nearest of `others` is below the tolerance."""
    distance = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Squares of distances are whole numbers: rounded they are exact, so that ties do not depend on float32.
    squares = np.rint(np.square(distance[points].astype(np.float64)))
    near = np.zeros(points.shape, bool)
    near[points] = squares < tolerance**2
    return near


def _box(points: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest part of the image with all points; distances between them are the same in it."""
    rows, columns = (np.flatnonzero(points.any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
