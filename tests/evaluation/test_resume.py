"""An evaluation that was cut off goes on from what it had, to the same record; another one is refused."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from colour_model import AS_STORED, ColourModel, write_set

from segzoo.data import open_dataset
from segzoo.data.corruptions import parse_corruptions
from segzoo.errors import DatasetError, SegzooError, UsageError
from segzoo.evaluation import evaluate, keeping, robustness
from segzoo.processes.endings import InterruptedRunError


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "data", 6)


class Cut(ColourModel):
    """Reads the colours of some images, then somebody has had enough."""

    def __init__(self, images: int, ending: BaseException) -> None:
        super().__init__(3)
        self.left, self.ending = images, ending

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.left == 0:
            raise self.ending
        self.left -= 1
        return super().forward(image)


class Counting(ColourModel):
    """Counts its calls."""

    calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(image)


def run(model, folder, kept, *, resume=False, **words):
    words = {"protocol": AS_STORED, "name": "colours", **words}
    with keeping(kept, resume=resume) as keeper:
        return evaluate(model, open_dataset(folder), keeper=keeper, **words)


def cut_off(folder, kept, images=4, ending=None):
    with pytest.raises(InterruptedRunError) as caught:
        run(Cut(images, ending or KeyboardInterrupt()), folder, kept)
    return caught.value


@pytest.mark.parametrize(("ending", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interrupted_evaluation_goes_on_to_the_same_record(folder, tmp_path, ending, code):
    whole = evaluate(ColourModel(3), open_dataset(folder), AS_STORED, name="colours")
    error = cut_off(folder, tmp_path / "kept", ending=ending)
    assert error.exit_code == code
    assert str(error) == "interrupted; 4 of 6 images are done and kept, the same command with --resume continues"
    model = Counting(3)
    resumed = run(model, folder, tmp_path / "kept", resume=True)
    assert model.calls == 2
    assert resumed.breakdown == whole.breakdown
    different = {key for key in whole.metrics if resumed.metrics[key] != whole.metrics[key]}
    assert different == {"images_per_second"}
    assert resumed.conditions["resumed_images"] == 4 and "resumed_images" not in whole.conditions
    assert not list((tmp_path / "kept").iterdir())


def test_without_resume_it_begins_anew(folder, tmp_path):
    cut_off(folder, tmp_path / "kept")
    model = Counting(3)
    assert "resumed_images" not in run(model, folder, tmp_path / "kept").conditions and model.calls == 6


def test_nothing_to_resume_is_no_error(folder, tmp_path):
    model = Counting(3)
    run(model, folder, tmp_path / "kept", resume=True)
    assert model.calls == 6


def test_a_line_that_was_cut_off_costs_its_image_alone(folder, tmp_path):
    cut_off(folder, tmp_path / "kept")
    (lines,) = (tmp_path / "kept").glob("*/images-0.jsonl")
    lines.write_bytes(lines.read_bytes()[:-30])
    cut = Cut(1, KeyboardInterrupt())
    with pytest.raises(InterruptedRunError, match="4 of 6"):
        run(cut, folder, tmp_path / "kept", resume=True)
    model = Counting(3)
    resumed = run(model, folder, tmp_path / "kept", resume=True)
    assert model.calls == 2 and resumed.conditions["resumed_images"] == 4
    assert resumed.breakdown == evaluate(ColourModel(3), open_dataset(folder), AS_STORED).breakdown


def other_weights():
    model = ColourModel(3)
    with torch.no_grad():
        model.levels += 0.25
    return model


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        (ColourModel(3), {"dtype": "bf16"}, r'had dtype "fp32" \(now "bf16"\)'),
        (other_weights(), {}, r"had weights \"\w+\.\.\. "),
        (
            ColourModel(3),
            {"protocol": AS_STORED.aug_test()},
            r"had protocol\.flip false \(now true\), protocol\.ratios \[1\.0\] ",
        ),
        (ColourModel(3), {"save_predictions": "maps"}, r'had save_predictions null \(now "maps"\)'),
    ],
)
def test_other_conditions_are_refused_by_name(folder, tmp_path, model, words, said):
    cut_off(folder, tmp_path / "kept")
    with pytest.raises(UsageError, match=f"nothing to resume: .* colours .*{said}"):
        run(model, folder, tmp_path / "kept", resume=True, **words)


def test_a_limit_may_differ(folder, tmp_path):
    cut_off(folder, tmp_path / "kept")
    model = Counting(3)
    assert run(model, folder, tmp_path / "kept", resume=True, limit=5).conditions["resumed_images"] == 4
    assert model.calls == 1


def test_a_faulty_image_stops_it_and_may_be_mended_before_it_goes_on(folder, tmp_path):
    path = folder / "images" / "003.png"
    sound = path.read_bytes()
    path.write_bytes(sound[:-20])
    with pytest.raises(DatasetError, match=r"003\.png is truncated.*; 3 of 6 images are done and kept"):
        run(ColourModel(3), folder, tmp_path / "kept")
    path.write_bytes(sound)
    model = Counting(3)
    assert run(model, folder, tmp_path / "kept", resume=True).conditions["resumed_images"] == 3
    assert model.calls == 3


def test_an_image_that_was_replaced_meanwhile_is_counted_again(folder, tmp_path):
    cut_off(folder, tmp_path / "kept")
    other = write_set(tmp_path / "other", 6, size=(12, 18))
    for part in ("images", "labels"):
        (folder / part / "001.png").write_bytes((other / part / "001.png").read_bytes())
    resumed = run(ColourModel(3), folder, tmp_path / "kept", resume=True)
    assert resumed.conditions["resumed_images"] == 3
    assert resumed.breakdown == evaluate(ColourModel(3), open_dataset(folder), AS_STORED).breakdown


def test_the_same_evaluation_twice_at_once_is_refused(folder, tmp_path):
    class Second(ColourModel):
        def forward(self, image):
            run(ColourModel(3), folder, tmp_path / "kept")
            return super().forward(image)

    with (
        pytest.raises(UsageError, match="is in use: the same evaluation runs already"),
        keeping(tmp_path / "kept") as keeper,
    ):
        evaluate(Second(3), open_dataset(folder), AS_STORED, name="colours", keeper=keeper)


def test_what_is_kept_cannot_be_written_is_one_line(folder, tmp_path):
    (tmp_path / "kept").write_text("a file where a folder should be")
    with pytest.raises(SegzooError, match=r"cannot keep an evaluation in .*kept/colours-data-val-"):
        run(ColourModel(3), folder, tmp_path / "kept")


def test_lines_are_plain_json(folder, tmp_path):
    cut_off(folder, tmp_path / "kept", images=1)
    (lines,) = (tmp_path / "kept").glob("*/images-0.jsonl")
    (line,) = lines.read_text().splitlines()
    words = json.loads(line)
    assert words["image"] == "000" and words["counts"]["confusion"]["shape"] == [4, 4]


def test_corruptions_that_were_cut_off_go_on_with_the_one_that_was_not_done(folder, tmp_path):
    def evaluations(model, *, resume):
        with keeping(tmp_path / "kept", resume=resume) as keeper:
            words = {"name": "colours", "keeper": keeper, "boundary": True, "calibration": True}
            one = partial(evaluate, model, open_dataset(folder), AS_STORED, **words)
            return robustness(one, parse_corruptions(["contrast:1", "jpeg:2", "fog:4"]))

    # Six clean images, six of contrast:1, two of jpeg:2.
    with pytest.raises(InterruptedRunError):
        evaluations(Cut(14, KeyboardInterrupt()), resume=False)
    model = Counting(3)
    resumed = evaluations(model, resume=True)
    assert model.calls == 4 + 6
    whole = evaluations(ColourModel(3), resume=False)
    assert [run.breakdown for run in resumed] == [run.breakdown for run in whole]
    assert not list((tmp_path / "kept").iterdir())
