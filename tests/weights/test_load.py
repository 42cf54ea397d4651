"""Loading weights into a model: all of it, or a report that can be read."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from segzoo.errors import IntegrityError, UsageError
from segzoo.weights.load import LoadReport, load_weights


class Net(nn.Module):
    """A backbone with batch norm, a classifier and an auxiliary one."""

    def __init__(self, num_classes=3, width=4):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
        self.decode_head = nn.ModuleDict({"conv_seg": nn.Conv2d(width, num_classes, 1)})
        self.auxiliary_head = nn.ModuleDict({"conv_seg": nn.Conv2d(width, num_classes, 1)})


@pytest.fixture
def saved(tmp_path):
    """The path of a file with a Net's random weights, and the Net."""
    torch.manual_seed(0)
    net = Net()
    torch.save({"state_dict": net.state_dict(), "meta": {"epoch": 1}}, tmp_path / "net.pth")
    return tmp_path / "net.pth", net


def without(net, path, *words):
    state = {key: value for key, value in net.state_dict().items() if not any(word in key for word in words)}
    torch.save(state, path)


def test_a_fitting_file_is_loaded_in_full(saved):
    path, net = saved
    other = Net()
    report = load_weights(other, path, name="net")
    assert report.perfect and report.notes() == []
    assert (report.loaded, report.layout, report.summary) == (11, "native", "11 tensors fit, all of them")
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in other.state_dict().items())


def test_the_models_number_format_stays_its_own(saved, tmp_path):
    path, net = saved
    half = {key: value.half() if value.is_floating_point() else value for key, value in net.state_dict().items()}
    torch.save(half, path)
    other = Net()
    load_weights(other, path, name="net")
    weight = other.backbone[0].weight
    assert weight.dtype == torch.float32 and torch.equal(weight, net.backbone[0].weight.half().float())


def test_parallel_prefixes_are_understood_and_reported(saved):
    path, net = saved
    torch.save({f"module.{key}": value for key, value in net.state_dict().items()}, path)
    assert load_weights(Net(), path, name="net").layout == "data-parallel"


def test_missing_step_counters_are_tolerated_and_listed(saved):
    path, net = saved
    without(net, path, "num_batches_tracked")
    report = load_weights(Net(), path, name="net")
    assert report.perfect and report.tolerated == ("backbone.1.num_batches_tracked",)


def test_an_absent_auxiliary_head_is_an_error_unless_not_strict(saved):
    path, net = saved
    without(net, path, "auxiliary_head")
    with pytest.raises(IntegrityError, match=r"2 missing\n  missing: auxiliary_head\.conv_seg: weight, bias"):
        load_weights(Net(), path, name="net")
    report = load_weights(Net(), path, name="net", strict=False)
    assert report.notes() == ["weights loaded in part: 9 tensors fit, 2 missing"]


def test_another_number_of_classes_is_explained(saved):
    path, _ = saved
    with pytest.raises(IntegrityError) as caught:
        load_weights(Net(num_classes=19), path, name="net")
    assert "the file has 3 classes, the model 19" in str(caught.value)
    assert "misshapen: decode_head.conv_seg.weight: (3, 4, 1, 1) in the file, (19, 4, 1, 1) in the model" in str(
        caught.value
    )
    assert "--no-strict" in str(caught.value)


def test_another_size_of_model_is_not_taken_for_another_number_of_classes(saved):
    path, _ = saved
    with pytest.raises(IntegrityError) as caught:
        load_weights(Net(width=8), path, name="net")
    assert "classes" not in str(caught.value) and "another model" in str(caught.value)


def test_an_error_leaves_the_model_as_it_was(saved):
    path, _ = saved
    model = Net(num_classes=19)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(IntegrityError):
        load_weights(model, path, name="net")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_not_strict_loads_what_fits_and_leaves_the_rest(saved):
    path, net = saved
    model = Net(num_classes=19)
    before = model.decode_head["conv_seg"].weight.clone()
    report = load_weights(model, path, name="net", strict=False)
    assert report.loaded == 7 and len(report.misshapen) == 4
    assert torch.equal(model.backbone[0].weight, net.backbone[0].weight)
    assert torch.equal(model.decode_head["conv_seg"].weight, before)


def test_a_file_of_which_nothing_fits_is_an_error_even_when_not_strict(saved, tmp_path):
    torch.save({"other": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(IntegrityError, match="none of its 1 tensors fits"):
        load_weights(Net(), tmp_path / "other.pth", name="net", strict=False)


def test_a_model_without_values_cannot_be_loaded(saved):
    path, _ = saved
    with torch.device("meta"):
        model = Net()
    with pytest.raises(UsageError, match="meta device"):
        load_weights(model, path, name="net")


def test_a_long_report_is_grouped_until_it_is_short(tmp_path):
    keys = tuple(f"backbone.levels.{i}.blocks.{j}.{w}" for i in range(4) for j in range(9) for w in ("weight", "bias"))
    report = LoadReport(name="net", path=tmp_path, layout="native", loaded=0, missing=(*keys, "norm.weight"))
    assert report.text(20).split("\n") == [
        "0 tensors fit, 73 missing",
        *(f"  missing: backbone.levels.{level}.blocks: 18 tensors" for level in range(4)),
        "  missing: norm: weight",
    ]
    assert len(report.text(3).split("\n")) <= 4
