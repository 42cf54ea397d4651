from __future__ import annotations

import numpy as np
import pytest

from segzoo.report.confusion_picture import _Chart, confusion_picture
from segzoo.report.sections import heat_colour


def test_cells_have_the_colour_of_their_share_of_the_label():
    counts = np.array([[75, 25, 0], [0, 0, 0], [0, 0, 8]])
    chart = _Chart(counts, ["cat", "dog", "cow"], "animals")
    picture = chart.draw()

    def corner(row, column):
        return picture.getpixel((chart.left + column * chart.cell + 1, chart.top + row * chart.cell + 1))

    # Colours follow the square root of the share.
    assert corner(0, 0) == heat_colour(0.75**0.5)
    assert corner(0, 1) == heat_colour(0.5)
    assert corner(0, 2) == heat_colour(0.0)
    assert corner(2, 2) == heat_colour(1.0)
    # A label without pixels has no shares.
    assert corner(1, 1) == (240, 241, 243)


@pytest.mark.parametrize("classes", [1, 2, 41, 150])
def test_every_number_of_classes_fits_its_picture(classes):
    names = [f"a class with a long name {index}" for index in range(classes)]
    picture = confusion_picture(np.eye(classes, dtype=np.int64), names, title="t")
    assert picture.width < 3000 and picture.height < 3000
    # Nothing is drawn up to the edges: no name is cut off.
    pixels = np.asarray(picture)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()
