"""Evaluations that the published tool chain made of a tiny model: its counts, from its label maps and from ours."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fill import fill_array
from oracle_files import oracle
from torch import nn
from torch.nn import functional as F

from segzoo.data.folders import FoldersDataset
from segzoo.data.policy import LabelTable
from segzoo.data.read import read_label
from segzoo.evaluation import evaluate
from segzoo.metrics import ConfusionMatrix, scores
from segzoo.protocol import Protocol
from segzoo.zoo import schema

CASES = (
    "whole_ss",
    "whole_ms_flip",
    "whole_align32_ss",
    "whole_ss_noreduce",
    "slide512_341_ss",
    "slide512_341_ms_flip",
    "slide480_160_ss_nopad",
    "slide480_160_ss_zeropad",
    "slide480_160_ms_flip_zeropad",
    "pcontext59_whole_ss",
    "pcontext59_slide480_160_ss_zeropad",
    "pcontext60_slide480_160_ms_flip_zeropad",
)


class TinyModel(nn.Module):
    """The recorded cases' network: two convolutions at stride 4, a global mean, a classifier."""

    def __init__(self, prefix: str, classes: int) -> None:
        super().__init__()
        shapes = {
            "backbone.conv1.weight": (24, 3, 3, 3),
            "backbone.conv1.bias": (24,),
            "backbone.conv2.weight": (24, 24, 3, 3),
            "backbone.conv2.bias": (24,),
            "backbone.pool.weight": (24, 24, 1, 1),
            "backbone.pool.bias": (24,),
            "decode_head.conv_seg.weight": (classes, 24, 1, 1),
            "decode_head.conv_seg.bias": (classes,),
        }
        self.values = {name: torch.from_numpy(fill_array(prefix + name, shape)) for name, shape in shapes.items()}

    def convolved(self, name, features, **options):
        return F.conv2d(features, self.values[f"{name}.weight"], self.values[f"{name}.bias"], **options)

    def forward(self, image):
        features = F.relu(self.convolved("backbone.conv1", image, stride=4, padding=1))
        features = F.relu(self.convolved("backbone.conv2", features, padding=6, dilation=6))
        features = features + self.convolved("backbone.pool", features.mean((2, 3), keepdim=True))
        return 4.0 * self.convolved("decode_head.conv_seg", features)


def recorded(case):
    """The protocol's folder, what was asked, the recorded areas and confusion matrix [K+1, K]."""
    root = oracle("protocol/images").parent  # The pictures are beside some clones only.
    folder = root / "cases" / case
    facts = json.loads((folder / "metrics.json").read_text())
    areas = dict(np.load(folder / "areas.npz"))
    confusion = np.zeros((facts["num_classes"] + 1, facts["num_classes"]), np.int64)
    confusion[areas["confusion_row"], areas["confusion_col"]] = areas["confusion_count"]
    return root, facts, areas, confusion


def policy_of(facts):
    return schema.LabelPolicy(first=1, ignore=(0, 255)) if facts["reduce_zero_label"] else schema.LabelPolicy()


@pytest.mark.parametrize("case", CASES)
def test_recorded_label_maps_give_the_recorded_counts(case):
    root, facts, areas, confusion = recorded(case)
    # The same label maps were evaluated with and without the reduction.
    predictions = root / "cases" / case.removesuffix("_noreduce") / "pred"
    classes = facts["num_classes"]
    # Without the reduction, value 150 is no class of 150 and not ignored either: it is counted, not looked up.
    table = LabelTable(policy_of(facts), classes) if case != "whole_ss_noreduce" else None
    matrix = ConfusionMatrix(classes)
    for index, image in enumerate(facts["images"]):
        stem = image.rpartition(".")[0]
        label = read_label(root / facts["labels"] / f"{stem}.png")
        if table:
            label = table.apply(label, stem)
        of_image = scores(matrix.update(read_label(predictions / f"{stem}.png"), label))
        for ours, name in (
            (of_image.intersect, "intersect"),
            (of_image.union, "union"),
            (of_image.prediction_area, "pred"),
            (of_image.label_area, "label"),
        ):
            assert np.array_equal(ours, areas[name][index]), (image, name)
    assert np.array_equal(matrix.counts[:, :-1], confusion) and not matrix.counts[:, -1].any()
    exact, total = facts["exact_float64"], scores(matrix.counts)
    for ours, name in ((total.mean_iou, "mIoU"), (total.mean_accuracy, "mAcc"), (total.pixel_accuracy, "aAcc")):
        assert ours == pytest.approx(exact[name], abs=1e-12)
    for ours, name in ((total.iou, "IoU"), (total.accuracy, "Acc")):
        theirs = [np.nan if value is None else value for value in exact[name]]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("case", ["whole_ss", "pcontext59_whole_ss"])
def test_a_whole_evaluation_gives_the_recorded_figures(case):
    root, facts, areas, _ = recorded(case)
    entry = schema.Dataset(
        splits={"val": schema.Split(images="images", labels=facts["labels"])},
        labels=policy_of(facts),
        classes=[f"class {index}" for index in range(facts["num_classes"])],
    )
    dataset = FoldersDataset(case, "val", root, entry)
    model = TinyModel(facts["model"], facts["num_classes"])
    run = evaluate(model, dataset, Protocol(scale=tuple(facts["img_scale"])))
    assert [row["image"] for row in run.breakdown["image"]] == [name.rpartition(".")[0] for name in facts["images"]]
    assert run.metrics["pixels"] == areas["label"].sum()
    rows = run.breakdown["class"]
    assert [row["pixels"] for row in rows] == areas["label"].sum(axis=0).tolist()
    # A hundred-thousandth of the pixels may be near ties that fall the other way.
    wrong = np.abs(np.array([row["predicted_pixels"] for row in rows]) - areas["pred"].sum(axis=0)).sum()
    assert wrong <= 2e-5 * run.metrics["pixels"]
    for metric, name in (("miou_percent", "mIoU"), ("macc_percent", "mAcc"), ("aacc_percent", "aAcc")):
        assert run.metrics[metric] == pytest.approx(100 * facts["exact_float64"][name], abs=0.01)
