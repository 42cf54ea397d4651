"""Records -> joined rows -> page, Markdown, CSV and plots."""

from __future__ import annotations

import csv
import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from record_samples import MACHINE, counted, evaluated, published, timed

from segzoo.errors import IntegrityError, UnavailableError, UsageError
from segzoo.report.entries import conflicts, entries
from segzoo.report.pareto import Point, front, pictures
from segzoo.report.reading import read_records
from segzoo.report.scatter import log_steps, mark_of, round_steps
from segzoo.report.sections import heat_colour, heat_map
from segzoo.report.write import write_report
from segzoo.results import Run

ONE = published("nat-one", miou=47.0)
RUNS = [
    ONE,
    counted("nat-one", params=58_000_000, macs=900_000_000),
    counted("nat-one", params=58_000_000, macs=3_600_000_000, shape=(1024, 1024)),
    counted("cae-two", params=20_000_000, macs=400_000_000),
    timed("nat-one", 10.0, 12.0, 11.0),
    timed("nat-one", 5.0, 6.0, 7.0, conditions={"dtype": "bf16"}),
    evaluated("nat-one", {"wall": 80.0, "lamp": 20.0}),
    evaluated("cae-two", {"wall": 70.0, "lamp": 10.0}),
    evaluated("nat-one", {"wall": 90.0, "lamp": 14.0}, views=12),
]


def write_records(folder: Path, runs: list[Run]) -> Path:
    for number, run in enumerate(runs):
        (folder / f"{number:02}.json").write_text(run.to_json())
    return folder


def test_what_belongs_to_the_model_stands_beside_every_setting_it_was_timed_in():
    rows = [row for row in entries(RUNS) if row.model == "nat-one"]
    assert [(row.values["dtype"], row.values["latency_ms_median"]) for row in rows] == [("fp32", 11.0), ("bf16", 6.0)]
    for row in rows:
        assert row.values["miou_percent"] == 50.0 and row.values["miou_ms_percent"] == 52.0
        assert row.values["miou_published"] == 47.0
        assert (row.values["params"], row.values["macs"]) == (58_000_000, 900_000_000)
        assert row.values["macs_input"] == "512x512"


def test_a_model_that_was_never_timed_has_one_row_at_the_input_most_models_were_counted_at():
    rows = [row for row in entries(RUNS) if row.model == "cae-two"]
    assert len(rows) == 1 and "latency_ms_median" not in rows[0].values
    assert (rows[0].values["macs"], rows[0].values["miou_percent"]) == (400_000_000, 40.0)


def test_a_second_record_of_one_setting_replaces_the_older_but_a_failure_replaces_nothing():
    late = timed("a", 4.0, started="2026-03-01T00:00:00+00:00")
    broken = replace(timed("a", 9.0, started="2026-04-01T00:00:00+00:00"), status="failed", error="killed")
    assert [row.values["latency_ms_median"] for row in entries([late, timed("a", 3.0), broken])] == [4.0]
    alone = entries([broken])[0]
    assert alone.values["status"] == "failed" and alone.notes == ["failed: killed"]


def test_records_that_cannot_be_compared_are_named():
    other_machine = timed("a", 1.0, environment=replace(MACHINE, cpu="Other CPU"))
    runs = [
        *RUNS,
        other_machine,
        counted("cae-two", params=21_000_000, macs=1),
        evaluated("b", {"wall": 1.0}, fingerprint="f2"),
    ]
    lines = conflicts(runs)
    assert len(lines) == 3
    assert "cae-two: records of different models, with 20,000,000, 21,000,000 parameters" in lines[0]
    assert "ade20k val: records of different data (fingerprints f1, f2)" in lines[1]
    assert "timed on 2 machines" in lines[2] and "Other CPU" in lines[2]
    assert conflicts(RUNS) == []


def test_the_front_keeps_what_nothing_else_beats():
    spots = {"a": (1, 10), "b": (2, 9), "c": (2, 12), "d": (3, 12), "e": (4, 20), "f": (4, 19)}
    points = [Point(model=m, family=m, cost=c, score=s, published=False) for m, (c, s) in spots.items()]
    assert [point.model for point in front(points)] == ["a", "c", "e"]


def test_pictures_hold_only_what_was_measured_alike():
    found = {(picture.cost.key, picture.setting): picture for picture in pictures(entries(RUNS))}
    assert set(found) == {("macs", "at 512x512"), ("params", "")}
    assert [point.model for point in found["params", ""].points] == ["cae-two", "nat-one"]
    assert found["params", ""].front == ("cae-two", "nat-one")
    both = pictures(entries([*RUNS, timed("cae-two", 8.0)]))
    latency = next(picture for picture in both if picture.cost.key == "latency_ms_median")
    assert [(point.model, point.cost) for point in latency.points] == [("cae-two", 8.0), ("nat-one", 11.0)]
    assert latency.setting == "cpu (Test CPU, 2 cores), fp32, 512x512, batch 1, 1 threads, scope model"


def test_axes_have_round_steps_within_their_bounds():
    assert round_steps(41.3, 55.0) == [42, 44, 46, 48, 50, 52, 54]
    assert round_steps(0.11, 0.52) == [0.2, 0.3, 0.4, 0.5] or len(round_steps(0.11, 0.52)) <= 7
    assert log_steps(3, 120) == [5, 10, 20, 50, 100]
    assert log_steps(900, 1300) == [900, 1000, 1100, 1200, 1300]
    assert log_steps(1e-3, 1e9) == [1e-3, 1e-2, 0.1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]


def test_thirty_five_families_have_marks_of_their_own():
    assert len({mark_of(index) for index in range(35)}) == 35


def test_the_heat_scale_gets_lighter_all_the_way():
    lightness = [sum(heat_colour(share / 50)) for share in range(51)]
    assert lightness == sorted(lightness)
    assert heat_colour(0) == (0, 34, 78) and heat_colour(1) == (254, 232, 56)


class Elements(html.parser.HTMLParser):
    """Collects what the page refers to, and checks that elements close in order."""

    VOID = frozenset({"meta", "link", "input", "line", "circle", "rect", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attributes):
        self.addresses += [(tag, value) for key, value in attributes if key in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in self.VOID or self.open.pop() == tag


def test_the_page_is_whole_in_itself_and_its_data_cannot_break_out(tmp_path):
    evil = replace(timed("a</script><b>", 1.0), notes=["<img src=x onerror=alert(1)>"])
    folder = write_records(tmp_path, [*RUNS, evil])
    write_report([folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    elements = Elements()
    elements.feed(page)
    assert elements.open == []
    assert all(tag == "a" or value == "data:," for tag, value in elements.addresses)
    assert "<img" not in page and page.count("</script>") == 2
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1])
    assert {row[0] for row in data["rows"]} == {"nat-one", "cae-two", "a</script><b>"}


def test_the_page_shows_pictures_classes_comparisons_and_machines(tmp_path):
    write_report([write_records(tmp_path, RUNS)], tmp_path / "report.html", title="My <report>")
    page = (tmp_path / "report.html").read_text()
    assert "<h1>My &lt;report&gt;</h1>" in page
    for anchor in ("pareto", "published", "classes", "machines"):
        assert f'<section id="{anchor}">' in page and f'href="#{anchor}"' in page
    assert page.count("<figure>") == 2
    # Most difficult class first, the better evaluation on the left.
    assert page.index("<th>lamp</th>") < page.index("<th>wall</th>")
    assert "-0.99 %" in page and "✓ within" in page and "example.org" in page
    assert "Test CPU, 2 cores" in page


def test_markdown_rounds_and_csv_does_not(tmp_path):
    folder = write_records(tmp_path, [*RUNS, replace(timed("x", 1.23456), notes=["fell back"])])
    written = write_report([folder], tmp_path / "out.md", also=(".csv",))
    assert [file.name for file in written.files] == ["out.md", "out.csv"]
    text = (tmp_path / "out.md").read_text()
    assert "| x *" in text and " 1.23 |" in text and "- x: fell back" in text
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["latency_ms_median"] == "1.23456" and rows[-1]["notes"] == "fell back"
    assert rows[0]["params"] == "58000000"


def test_plots_are_png_pictures_named_after_the_report(tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    written = write_report([write_records(tmp_path, RUNS)], tmp_path / "zoo.md", plots=True)
    pngs = [file for file in written.files if file.suffix == ".png"]
    assert [file.name for file in pngs] == ["zoo-macs-1.png", "zoo-params-1.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in pngs)


def test_plots_without_matplotlib_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"segzoo\[plots\]"):
        write_report([write_records(tmp_path, RUNS)], tmp_path / "zoo.md", plots=True)
    assert not (tmp_path / "zoo.md").exists()


def test_records_are_read_from_lists_lines_and_folders(tmp_path):
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "list.json").write_text(f"[{RUNS[0].to_json()}, {RUNS[1].to_json()}]")
    lines = [json.dumps(json.loads(run.to_json())) for run in RUNS[2:4]]
    (below / "lines.jsonl").write_text("\n".join(lines) + '\n{"command": "laten')
    (below / "other.json").write_text('{"iterations": 5}')
    runs, notices = read_records([tmp_path])
    assert runs == [RUNS[2], RUNS[3], RUNS[0], RUNS[1]]
    assert len(notices) == 2 and "unfinished" in notices[0] and "other.json" in notices[1]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"iterations": 5}', IntegrityError, "no 'command' in it; give what --output wrote"),
        ("{", IntegrityError, "is not a segzoo record"),
        ('{"command": "flops", "schema": 99}', IntegrityError, "has schema 99, this segzoo reads up to 1"),
        ('{"command": "flops", "metrics": 3}', IntegrityError, "not a valid segzoo record"),
    ],
)
def test_files_that_are_no_records_are_refused(tmp_path, content, error, message):
    file = tmp_path / "record.json"
    file.write_text(content)
    with pytest.raises(error, match=re.escape(message)):
        read_records([file])


def test_paths_without_records_are_refused(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        read_records([tmp_path / "nothing"])
    with pytest.raises(UsageError, match="no records in"):
        read_records([tmp_path])
    with pytest.raises(UsageError, match="ends in"):
        write_report([tmp_path], tmp_path / "report.pdf")


def test_evaluations_on_corrupted_images_are_no_scores_of_the_model():
    clean = evaluated("a", {"wall": 40.0, "sky": 60.0})
    foggy = evaluated("a", {"wall": 10.0, "sky": 20.0})
    foggy.conditions["corruption"] = "fog:5"
    (row,) = entries([clean, foggy])
    assert row.values["miou_percent"] == 50.0
    assert heat_map([clean, foggy]).count("<th><span>") == 1
