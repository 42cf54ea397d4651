"""Boundary ground truth against the maps that the script behind the published files made."""

from __future__ import annotations

import numpy as np
import pytest
from oracle_files import oracle

from segzoo.data.boundary import boundary

CASES = ("two_halves", "blobs_a", "blobs_b", "one_class", "small_segments", "void_only")


@pytest.mark.parametrize("case", CASES)
def test_distances_and_directions_are_those_of_the_published_script(case):
    recorded = np.load(oracle("unept-res50/boundary_gt.npz"))
    facts = {key.partition(".")[2]: recorded[key] for key in recorded if key.startswith(f"{case}.")}
    measured = boundary(facts["label_png"], ignore=0)
    assert measured.distance.dtype == np.uint8
    assert np.array_equal(measured.distance, facts["depth"])
    # 45 degrees a class, counted from -180; a step of 2 degrees is float noise, see the oracle's notes.
    classes = (np.ceil((measured.angle + 202.5) / 45).astype(int) - 1) % 8
    clear = ~facts["ambiguous"]
    assert np.array_equal(classes[clear], facts["direction_label"][clear])
    turned = np.abs(measured.angle - (2 * facts["dir_deg"].astype(int) - 180))[clear]
    assert np.minimum(turned, 360 - turned).max(initial=0) <= 2


def test_directions_lead_from_the_boundary_into_the_segment():
    label = np.repeat([[0] * 12 + [1] * 12], 24, axis=0)
    found = boundary(label, ignore=255)
    assert found.distance[12].tolist() == [*range(12, 0, -1), *range(1, 13)]
    # Away from the edge of the image, where the distance counts as 0.
    assert np.abs(found.angle[4:-4, 8:12]).min() >= 178 and np.abs(found.angle[4:-4, 12:16]).max() <= 2
    turned = boundary(label.T, ignore=255)
    assert np.array_equal(turned.distance, found.distance.T)
    assert set(np.unique(turned.angle[8:12, 4:-4])) <= {-92, -90} and set(np.unique(turned.angle[12:16, 4:-4])) <= {
        88,
        90,
    }


def test_ignored_pixels_and_small_classes_have_no_boundary_but_end_that_of_others():
    label = np.zeros((30, 40), np.int64)
    label[10:19, 10:21] = 3  # 99 pixels
    label[:, 30:] = 255
    found = boundary(label, ignore=255)
    blank = label != 0
    assert not found.distance[blank].any() and not found.angle[blank].any()
    assert (found.distance[9, 10:21] == 1).all() and (found.distance[:9, 29] == 1).all()
