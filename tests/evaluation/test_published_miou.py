from __future__ import annotations

import dataclasses

import pytest

from segzoo.errors import ToleranceError
from segzoo.evaluation import check
from segzoo.evaluation.published import expected_miou
from segzoo.protocol import Protocol
from segzoo.results import Run
from segzoo.zoo.schema import Published

OWN = Protocol(scale=(64, 64))
FIGURES = Published(miou=45.1, miou_ms=46.4, tolerance=0.1, source="a table")


def run_of(measured, used=OWN, published=FIGURES, status="ok"):
    expected = expected_miou(published, OWN, used, measured)
    return Run(command="eval", model={"name": "m"}, conditions={"dataset": "d"}, expected=expected, status=status)


@pytest.mark.parametrize(("used", "value"), [(OWN, 45.1), (OWN.aug_test(), 46.4)])
def test_each_protocol_has_its_own_published_figure(used, value):
    (item,) = expected_miou(FIGURES, OWN, used, value + 0.04)
    assert (item.value, item.source, item.tolerance) == (value, "a table", 0.1)
    assert item.difference == pytest.approx(0.04)
    assert item.within is True


def test_a_protocol_of_several_views_of_its_own_is_held_to_the_multi_scale_figure():
    own = OWN.aug_test()
    assert [item.value for item in expected_miou(FIGURES, own, own, 46.4)] == [46.4]


def test_another_protocol_has_no_published_figure():
    other = dataclasses.replace(OWN, scale=(32, 32))
    assert expected_miou(FIGURES, OWN, other, 45.1) == []
    assert expected_miou(None, OWN, OWN, 45.1) == []
    assert expected_miou(Published(source="a table"), OWN, OWN, 45.1) == []


@pytest.mark.parametrize("measured", [45.0, 45.1, 45.2])
def test_the_tolerance_itself_is_within(measured):
    check([run_of(measured)])


@pytest.mark.parametrize(("measured", "said"), [(45.21, r"\+0\.11"), (44.5, r"-0\.60"), (None, "not a number")])
def test_beyond_the_tolerance_the_check_says_both_figures(measured, said):
    with pytest.raises(
        ToleranceError, match=f"published is 45.1, a difference of {said} where 0.1 is allowed"
    ) as error:
        check([run_of(45.1), run_of(measured)])
    assert error.value.exit_code == 7


def test_nothing_published_and_partial_results_do_not_pass():
    with pytest.raises(ToleranceError, match="no mIoU is published for d"):
        check([run_of(45.1, published=None)])
    with pytest.raises(ToleranceError, match="a partial result"):
        check([run_of(45.1, status="partial")])
