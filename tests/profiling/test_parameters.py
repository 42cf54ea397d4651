"""Parameter counts by hand, and the comparison with published figures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segzoo.errors import ToleranceError
from segzoo.profiling.parameters import count_parameters
from segzoo.profiling.published import check, expected_macs, expected_params
from segzoo.profiling.records import params_run
from segzoo.registry import entry, names
from segzoo.results import Run
from segzoo.zoo.schema import Count, Published

NAT_FAMILY = [*names("nat-*"), *names("dinat*")]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 5, bias=False).half()
        self.again = self.head
        self.scale = nn.Parameter(torch.ones(2), requires_grad=False)


def test_parameters_and_buffers_are_counted_by_part_and_shared_ones_once():
    count = count_parameters(Tied())
    assert count.parts == [
        {"part": "(model)", "params": 2, "buffers": 0},
        {"part": "body", "params": 3 * 4 * 9 + 4 + 8, "buffers": 4 + 4 + 1},
        {"part": "head", "params": 20, "buffers": 0},
    ]
    assert (count.params, count.trainable, count.buffers) == (142, 140, 9)
    assert count.parameter_bytes == 4 * 122 + 2 * 20


@pytest.mark.parametrize("name", NAT_FAMILY)
def test_published_parameters_are_reproduced_within_one_percent(name):
    run = params_run(name)
    assert run.metrics["params"] == pytest.approx(entry(name).published.params, rel=0.01)
    assert [item.within for item in run.expected] == [True]


def test_a_published_count_in_flops_is_compared_in_macs():
    published = Published(operations=Count(value=200.0, shape=(4, 8), unit="flops", rule="multiply-add"), source="x")
    [item] = expected_macs(published, (4, 8), "multiply-add", 101)
    assert (item.value, item.measured, item.difference, item.within) == (100.0, 101, 1.0, False)


@pytest.mark.parametrize(("shape", "rule"), [((4, 9), "fvcore"), ((4, 8), "multiply-add")])
def test_a_count_under_other_conditions_is_not_compared(shape, rule):
    published = Published(operations=Count(value=200.0, shape=(4, 8)), source="x")
    assert expected_macs(published, shape, rule, 200) == []
    assert expected_macs(published, (8, 4), "fvcore", 200)[0].within


def test_check_names_what_is_out_of_tolerance_and_what_has_no_figure():
    published = Published(params=1000.0, source="x")
    good, bad = (Run(command="params", model={"name": n}, expected=expected_params(published, n)) for n in (1009, 1011))
    check([good])
    with pytest.raises(ToleranceError, match="1011: params 1,011, published 1,000"):
        check([good, bad])
    with pytest.raises(ToleranceError, match="nothing is published"):
        check([Run(command="params", model={"name": "mine"})])
