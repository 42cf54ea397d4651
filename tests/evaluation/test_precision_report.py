"""The precision report of models whose formats differ in a known way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from colour_model import AS_STORED, ColourModel, write_set

from segzoo.compare import compare
from segzoo.data import open_dataset
from segzoo.errors import SegzooError
from segzoo.evaluation import evaluate
from segzoo.evaluation.precision_report import precision_report

CPU = torch.device("cpu")


class Rounded(ColourModel):
    """Says class 0 wherever it should say class 2, when it runs in bf16; gives NaN in fp16, after the first images."""

    def __init__(self, classes: int, broken_from: int = 0) -> None:
        super().__init__(classes)
        self.broken_from, self.calls = broken_from, 0

    def forward(self, image):
        logits = super().forward(image)
        if not torch.is_autocast_enabled("cpu"):
            return logits
        if torch.get_autocast_dtype("cpu") == torch.bfloat16:
            logits[:, 2] = -1e4
            return logits
        self.calls += 1
        return logits if self.calls <= self.broken_from else logits * float("nan")


def rows_of(runs):
    return {row["format"]: row for row in runs[0].breakdown["precision"]}


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(write_set(tmp_path, 6))


def test_each_format_has_its_miou_agreement_and_speed_beside_fp32(dataset):
    runs = precision_report(Rounded(3), dataset, AS_STORED, name="r", device=CPU)
    rows = rows_of(runs)
    plain = evaluate(ColourModel(3), dataset, AS_STORED)
    assert rows["fp32"]["miou_percent"] == plain.metrics["miou_percent"]
    assert (rows["fp32"]["difference_percent"], rows["fp32"]["same_labels_percent"], rows["fp32"]["speed"]) == (
        0,
        100,
        1,
    )
    # Every pixel that is seen as class 2 changes its label, and no other does.
    seen = np.stack([np.rint(dataset.image(index)[..., 0] / 20) for index in range(6)])
    assert rows["bf16"]["same_labels_percent"] == pytest.approx(100 * (seen != 2).mean())
    assert rows["bf16"]["difference_percent"] == pytest.approx(
        rows["bf16"]["miou_percent"] - rows["fp32"]["miou_percent"]
    )
    assert rows["bf16"]["difference_percent"] < -10 and rows["bf16"]["speed"] > 0
    assert rows["fp32"]["peak_memory_mib"] is None and "memory is measured on CUDA devices, not on cpu" in runs[0].notes


def test_formats_that_cannot_be_used_are_listed_with_the_reason(dataset):
    rows = rows_of(precision_report(Rounded(3), dataset, AS_STORED, name="r", device=CPU))
    assert "tf32 is a format of CUDA devices" in rows["tf32"]["not used because"]
    assert "not finite" in rows["fp16"]["not used because"]
    assert rows["fp16"]["miou_percent"] is None and rows["fp32"]["not used because"] is None


def test_a_format_that_fails_later_is_left_out_with_the_image(dataset):
    # The first image twice, the second once, then no number.
    runs = precision_report(Rounded(3, broken_from=3), dataset, AS_STORED, name="r", device=CPU)
    assert "image 002: " in rows_of(runs)["fp16"]["not used because"]
    assert [run.conditions["dtype"] for run in runs[1:]] == ["fp32", "bf16"]


def test_the_records_of_the_formats_are_evaluations_that_can_be_compared(dataset):
    summary, fp32, bf16 = precision_report(Rounded(3), dataset, AS_STORED, name="r", device=CPU, limit=4)
    assert summary.command == "precision" and summary.status == "partial" and summary.metrics["images"] == 4
    assert fp32.command == bf16.command == "eval" and len(fp32.breakdown["image"]) == 4
    result = compare(fp32, bf16, titles=("fp32", "bf16"), replicates=200)
    assert result.metrics["difference_percent"] == pytest.approx(rows_of([summary])["bf16"]["difference_percent"])
    assert fp32.metrics["miou_low_percent"] <= fp32.metrics["miou_percent"] + 1e-9


def test_a_model_that_cannot_run_in_fp32_is_an_error(dataset):
    class Broken(ColourModel):
        def forward(self, image):
            return super().forward(image) * float("nan")

    with pytest.raises(SegzooError, match="not finite"):
        precision_report(Broken(3), dataset, AS_STORED, name="b", device=CPU)
